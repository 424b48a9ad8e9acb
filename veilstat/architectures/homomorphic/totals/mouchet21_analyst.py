"""The analyst's part: a key that a sum is switched to, and the decryption of that sum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from veilstat.architectures.interface import Random, Released
from veilstat.protocol.faults import violation

from ..messages import read_ciphertexts, read_share
from ..ring import Residues
from .bfv import Bfv
from .mouchet21 import SEED_BYTES, analyst_label


def announce(its: Bfv, random: Random) -> tuple[bytes, bytes]:
    """A fresh secret key, and the public key (b, a) that belongs to it, with a seed in place of a."""
    coefficients, seed = its.secret(random), random(SEED_BYTES)
    secret = its.ring.from_integers(coefficients)
    share = its.public_share(its.ring.uniform(analyst_label(seed)), secret, random)
    return coefficients.astype(np.int8).tobytes(), seed + its.ring.to_bytes(share)


def recipient(its: Bfv, key: bytes, analyst: str) -> Residues:
    """The public key (b, a), as it was announced; a violation by ``analyst`` for anything else."""
    seed, raw = key[:SEED_BYTES], memoryview(key)[SEED_BYTES:]
    share = read_share(its.ring, raw, analyst)
    return np.stack([share, its.ring.uniform(analyst_label(seed))])


def release(
    its: Bfv, secret: bytes, lower: Sequence[int], threshold: int, server: str, survivors: tuple[str, ...], raw: memoryview
) -> Released:
    """What the server's sum decrypts to.

    Raises:
        ProtocolError: it is over too few owners, is no sum, or was not encrypted for this key; a sum does not tell whose
            share of the key, or of the decryption, was wrong.
    """
    if len(survivors) < threshold:
        raise violation("malformed", f"{server!r} sent a total over fewer than {threshold} owners", server)
    key = its.ring.from_integers(np.frombuffer(secret, dtype=np.int8).astype(np.int64))
    ciphertexts = read_ciphertexts(its.ring, raw, its.parameters.vector_bytes, server)
    try:
        return Released(its.decrypt_total(ciphertexts, key, lower), survivors)
    except ValueError:
        raise violation(
            "not_decrypted",
            "what the cloud sent does not decrypt: a party's share of the key or of the decryption is wrong, and a sum does not tell whose; "
            "nothing was opened, and a new query starts with new keys",
        ) from None
