"""Three compute servers on replicated secret sharing: honest majority, semi-honest (Araki et al., CCS 2016)."""
