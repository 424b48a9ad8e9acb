"""Correlated randomness without messages: pairwise keys on a ring of three (Cramer, Damgård, Ishai, TCC 2005).

Server i shares key i with server i + 1, so it holds keys i and i - 1. Every draw advances both keystreams by the same
number of bytes at every server; keys serve one step only, so that no position of a keystream is used twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from veilstat.arithmetic.keystream import following

KEY_BYTES = 16


class Prss:
    """Two keystreams (AES-128, counter mode) that stand at the same position."""

    def __init__(self, own: bytes, previous: bytes) -> None:
        if len(own) != KEY_BYTES or len(previous) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes")
        self._own, self._previous = (Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor() for key in (own, previous))

    def draw(self, count: int) -> tuple[memoryview, memoryview]:
        """The next ``count`` bytes of both streams: (own, previous)."""
        return following(self._own, count), following(self._previous, count)


@dataclass(frozen=True, slots=True)
class Party:
    """A server's place on the ring, 0 to 2, and the randomness that it shares with its neighbours."""

    index: int
    prss: Prss = field(repr=False)


def random_integers(party: Party, bits: int, count: int) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.object_]]:
    """Uniform integers below 2^bits, ``count`` from each key: (own, previous), each known to two servers."""
    width = (bits + 7) // 8
    spare = 8 * width - bits
    own, previous = (
        np.array(
            [int.from_bytes(stream[start : start + width], "little") >> spare for start in range(0, width * count, width)], dtype=object
        )
        for stream in party.prss.draw(width * count)
    )
    return own, previous
