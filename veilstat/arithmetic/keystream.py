"""Masks: AES-128 in counter mode, streamed into an accumulator in chunks that stay in the processor's cache.

AES-GCM over zeros with a 12-byte nonce is the counter-mode keystream that starts at counter block nonce || 2
(NIST SP 800-38D, section 7.1), so either call gives the same bytes; which is faster depends on the build of OpenSSL
and is measured once. No array of masks is ever held: one chunk at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import TypeAlias

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from .executor import SERIAL, Executor
from .rings import Elements, Ring

KEY_BYTES = 16
_NONCE_BYTES = 12
SEED_BYTES = KEY_BYTES + _NONCE_BYTES
CHUNK_BYTES, SHARED_CHUNK_BYTES = 1 << 17, 1 << 20
"""Of one thread, and of several: in shorter chunks threads wait for the interpreter's lock longer than they compute."""
_MOST_BYTES = 1 << 36
_ZEROS = bytes(SHARED_CHUNK_BYTES)
SHARED_BYTES = 1 << 20
"""Shorter vectors are not worth a thread."""
FEWEST_SEEDS = 3
"""Each worker but one adds a vector besides, so it should expand some more."""

Mode: TypeAlias = "Callable[[bytes], modes.Mode]"


def counter_mode(nonce: bytes) -> modes.Mode:
    """Plain counter mode, starting where GCM's keystream starts."""
    return modes.CTR(nonce + b"\0\0\0\2")


def galois_mode(nonce: bytes) -> modes.Mode:
    """GCM, whose ciphertext of zeros is the keystream."""
    return modes.GCM(nonce)


@cache
def fastest_mode() -> Mode:
    """Whichever of the two equal modes runs faster with this build; takes about a millisecond, once."""
    stream = Keystream(Ring(64), counter_mode)
    accumulator = np.zeros(CHUNK_BYTES // 8, dtype="<u8")

    def seconds(mode: Mode) -> float:
        stream.mode = mode
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            stream.add(accumulator, bytes(SEED_BYTES))
            best = min(best, time.perf_counter() - start)
        return best

    return min((galois_mode, counter_mode), key=seconds)


class Keystream:
    """Expands 28-byte seeds (key, nonce) and adds them to, or subtracts them from, vectors over ``ring``."""

    def __init__(self, ring: Ring, mode: Mode, chunk_bytes: int = CHUNK_BYTES) -> None:
        self.ring, self.mode = ring, mode
        self._buffer = np.empty(chunk_bytes, dtype=np.uint8)
        words = self._buffer.view(ring.dtype)
        self._words = words if ring.limbs == 1 else words[: words.size // ring.limbs * ring.limbs].reshape(-1, ring.limbs)

    def add(self, accumulator: Elements, seed: bytes) -> None:
        """``accumulator += PRG(seed)`` in place."""
        self._apply(accumulator, seed, self.ring.add)

    def subtract(self, accumulator: Elements, seed: bytes) -> None:
        """``accumulator -= PRG(seed)`` in place."""
        self._apply(accumulator, seed, self.ring.subtract)

    def _apply(self, accumulator: Elements, seed: bytes, operation: Callable[[Elements, Elements], None]) -> None:
        if accumulator.nbytes > _MOST_BYTES:
            raise ValueError("a seed serves at most 64 GiB")
        update_into = _opened(seed, self.mode).update_into
        step = len(self._words)
        size = self.ring.element_bytes
        zeros = memoryview(_ZEROS)
        buffer = self._buffer.data
        for start in range(0, len(accumulator), step):
            part = accumulator[start : start + step]
            used = len(part) * size
            update_into(zeros[:used], buffer[:used])
            operation(part, self._words[: len(part)])


def add_keystreams(ring: Ring, total: Elements, added: Sequence[bytes], subtracted: Sequence[bytes], executor: Executor = SERIAL) -> None:
    """``total`` += sum of PRG(seed) over ``added`` - sum over ``subtracted``, in place: what Bonawitz et al. (CCS'17) mask and unmask with.

    Seeds of long vectors are shared among workers, each with a vector of its own that is added at the end.

    Raises:
        ValueError: a seed or the vector has a length that no keystream serves.
    """
    signed = [(seed, Keystream.add) for seed in added] + [(seed, Keystream.subtract) for seed in subtracted]
    workers = min(executor.workers, len(signed) // FEWEST_SEEDS)
    if workers < 2 or total.nbytes < SHARED_BYTES:
        executor, workers = SERIAL, 1
    sums = [total, *(ring.zeros(len(total)) for _ in range(workers - 1))]
    mode, chunk_bytes = fastest_mode(), CHUNK_BYTES if workers == 1 else SHARED_CHUNK_BYTES

    def add_some(worker: int) -> None:
        stream = Keystream(ring, mode, chunk_bytes)
        for seed, operation in signed[worker::workers]:
            operation(stream, sums[worker], seed)

    list(executor.map(add_some, range(workers)))
    for part in sums[1:]:
        ring.add(total, part)


def stream_of(seed: bytes, most: int) -> CipherContext:
    """The keystream of a 28-byte seed (key, nonce), from its beginning, for ``most`` bytes; ValueError for lengths that no keystream serves."""
    if most > _MOST_BYTES:
        raise ValueError("a seed serves at most 64 GiB")
    return _opened(seed, fastest_mode())


def expand(seed: bytes, size: int) -> memoryview:
    """The first ``size`` bytes of a seed's keystream; ValueError for a length that no keystream serves."""
    return following(stream_of(seed, size), size)


def following(stream: CipherContext, size: int) -> memoryview:
    """The next ``size`` bytes of a keystream, in chunks that stay in the processor's cache."""
    buffer, zeros = np.empty(size, dtype=np.uint8).data, memoryview(_ZEROS)
    for start in range(0, size, CHUNK_BYTES):
        part = buffer[start : start + CHUNK_BYTES]
        stream.update_into(zeros[: len(part)], part)
    return buffer


def _opened(seed: bytes, mode: Mode) -> CipherContext:
    if len(seed) != SEED_BYTES:
        raise ValueError("a seed has 28 bytes")
    cipher: Cipher[modes.CTR] = Cipher(algorithms.AES(seed[:KEY_BYTES]), mode(seed[KEY_BYTES:]))  # type: ignore[arg-type]  # either mode encrypts alike
    return cipher.encryptor()
