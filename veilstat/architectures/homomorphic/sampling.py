"""Secret draws: keys, errors, and the smudging that hides them; from bytes that the caller draws."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from veilstat.architectures.interface import Random

from .ring import PRIME_BITS, RESIDUE_BYTES, CyclotomicRing, Residues, words_of

ERROR_BOUND = 21
"""No coefficient of an error is larger."""

_SPARE_DRAWS = 64


def ternary(degree: int, random: Random) -> npt.NDArray[np.int64]:
    """Coefficients uniform in {-1, 0, 1}: of a secret key, or of an encryption's randomness."""
    drawn = np.zeros(0, dtype=np.uint8)
    while len(drawn) < degree:
        fresh = np.frombuffer(random(degree + _SPARE_DRAWS), dtype=np.uint8)
        drawn = np.concatenate([drawn, fresh[fresh < 255]])
    return (drawn[:degree] % 3).astype(np.int64) - 1


def error(degree: int, random: Random) -> npt.NDArray[np.int64]:
    """Coefficients from the centred binomial distribution of 2 x 21 bits, standard deviation 3.24, as SEAL draws them."""
    words = np.frombuffer(random(8 * degree), dtype="<u8")
    half = np.uint64((1 << ERROR_BOUND) - 1)
    heads, tails = words & half, (words >> np.uint64(ERROR_BOUND)) & half
    difference: npt.NDArray[np.int64] = np.bitwise_count(heads).astype(np.int64) - np.bitwise_count(tails)
    return difference


def flooding(ring: CyclotomicRing, bits: int, random: Random) -> Residues:
    """Reduced coefficients uniform in [-2^bits, 2^bits): what hides a noise that is far smaller."""
    words = bits // PRIME_BITS + 1
    drawn = words_of(random(RESIDUE_BYTES * words * ring.degree)).reshape(words, ring.degree)
    drawn[-1] >>= np.uint64(PRIME_BITS * words - bits - 1)
    total = ring.scale(np.ones(ring.degree, dtype=np.uint64), -(1 << bits))
    for place, word in enumerate(drawn):
        total = ring.add(total, ring.scale(word, 1 << (PRIME_BITS * place)))
    return total


def uniform(ring: CyclotomicRing, random: Random) -> Residues:
    """A secret element, uniform in the ring: draws of 48 bits that exceed the prime are skipped."""
    rows = []
    for prime in ring.moduli:
        drawn = np.zeros(0, dtype=np.uint64)
        while len(drawn) < ring.degree:
            fresh = words_of(random(RESIDUE_BYTES * (ring.degree + _SPARE_DRAWS)))
            drawn = np.concatenate([drawn, fresh[fresh < prime]])
        rows.append(drawn[: ring.degree])
    return np.stack(rows)
