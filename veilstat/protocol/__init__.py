"""Sans-I/O kernel: envelopes, identities, rounds and sessions; no socket, no clock, no ambient randomness."""
