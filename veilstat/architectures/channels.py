"""What two parties seal to each other in one session, under a key that they agree on."""

from __future__ import annotations

from veilstat.arithmetic.agreement import KeyPair
from veilstat.protocol.faults import violation


def agree(mine: KeyPair, theirs: bytes, holder: str) -> bytes:
    """The secret shared with the holder of a key; a violation by the holder where the key is none, or of small order."""
    try:
        return mine.exchange(theirs)
    except ValueError:
        raise violation("bad_key", f"{holder!r} sent a key with which nobody can agree on a secret", holder) from None


def channel_nonce(sender: str, recipient: str) -> bytes:
    """One nonce for each direction of a channel, which carries one box each way."""
    return (b"\0" if sender < recipient else b"\1") * 12
