"""The discrete Gaussian on the integers, exactly (Canonne, Kamath, Steinke, NeurIPS 2020, Algorithms 1 to 3).

P[X = x] is proportional to exp(-x^2 / (2 sigma^2)) with a rational sigma^2. Every decision compares a uniform integer
with an integer; whole batches are decided at once, in 64-bit words where the numbers fit and in Python integers beyond.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Random: TypeAlias = "Callable[[int], bytes]"
Integers: TypeAlias = "npt.NDArray[Any]"

_WORD_BITS = 62
_WORDS = {8: "<u1", 16: "<u2", 32: "<u4", 64: "<u8"}


def discrete_gaussian(variance: Fraction, count: int, random: Random) -> npt.NDArray[np.object_]:
    """Independent draws, for the noise of a release.

    Args:
        variance: the parameter sigma^2, positive; the true variance is at most that.
        count: how many. random: bytes from a cryptographic source.

    Returns:
        Python integers, shape (count,).
    """
    if variance <= 0:
        raise ValueError("the variance of noise is positive")
    scale = math.isqrt(math.ceil(variance) - 1) + 1
    factor = math.gcd(variance.denominator * scale, variance.numerator)
    slope, centre = variance.denominator * scale // factor, variance.numerator // factor
    denominator = 2 * slope * centre * scale
    found: list[Integers] = []
    missing = count
    while missing > 0:
        proposed = _discrete_laplace(scale, 2 * missing + 32, random)
        width = _width(proposed) + slope.bit_length() + centre.bit_length()
        distance = (np.abs(proposed).astype(_dtype(max(2 * width, denominator.bit_length()))) * slope - centre) ** 2
        kept = proposed[_decays(distance, denominator, random)][:missing]
        found.append(kept.astype(object))
        missing -= len(kept)
    return np.concatenate(found) if found else np.zeros(0, dtype=object)


def rounded_variance(variance: Fraction) -> Fraction:
    """The next variance, at most 0.2 % above, whose draws need short integers; for whoever may choose it.

    Up to 2^24 it has ten or eleven significant bits, beyond it is a multiple of the rounded-up standard deviation.
    """
    if variance < 1 << 24:
        unit = Fraction(2) ** (variance.numerator.bit_length() - variance.denominator.bit_length() - 10)
        return math.ceil(variance / unit) * unit
    scale = math.isqrt(math.ceil(variance) - 1) + 1
    return Fraction(math.ceil(variance / scale) * scale)


def _discrete_laplace(scale: int, count: int, random: Random) -> Integers:
    """About count / 2 draws with P[y] proportional to exp(-|y| / scale): Algorithm 2."""
    rest = _below(scale, count, random)
    rest = rest[_decays(rest, scale, random)]
    whole = np.zeros(len(rest), dtype=np.int64)
    alive = np.arange(len(rest))
    while alive.size:
        alive = alive[_decays(np.ones(len(alive), dtype=np.int64), 1, random)]
        whole[alive] += 1
    dtype = _dtype(_width(whole) + scale.bit_length() + 1)
    magnitude = rest.astype(dtype) + whole.astype(dtype) * scale
    negative = _below(2, len(rest), random) == 1
    signed = np.where(negative, -magnitude, magnitude)
    return np.asarray(signed[~(negative & (magnitude == 0))])


def _decays(numerators: Integers, denominator: int, random: Random) -> npt.NDArray[np.bool_]:
    """For each numerator n >= 0 True with probability exp(-n / denominator): Algorithm 1."""
    whole, rest = numerators // denominator, numerators % denominator
    result = np.zeros(len(numerators), dtype=bool)
    alive = np.arange(len(numerators))
    passed = 0
    while (due := whole[alive] > passed).any():
        survived = _fraction_decays(np.ones(int(due.sum()), dtype=np.int64), 1, random)
        alive = np.concatenate((alive[~due], alive[due][survived]))
        passed += 1
    result[alive] = _fraction_decays(rest[alive], denominator, random)
    return result


def _fraction_decays(numerators: Integers, denominator: int, random: Random) -> npt.NDArray[np.bool_]:
    """The same for n <= denominator: the first k that fails Bernoulli(n / (denominator k)) is odd."""
    result = np.zeros(len(numerators), dtype=bool)
    active, k = np.arange(len(numerators)), 1
    while active.size:
        succeeded = np.asarray(_below(denominator * k, len(active), random) < numerators[active], dtype=bool)
        result[active[~succeeded]] = k % 2 == 1
        active, k = active[succeeded], k + 1
    return result


def _below(bound: int, count: int, random: Random) -> Integers:
    """Uniform integers in [0, bound), by rejection."""
    bits = (bound - 1).bit_length()
    if bits == 0:
        return np.zeros(count, dtype=np.int64)
    found: list[Integers] = []
    missing = count
    while missing > 0:
        drawn = _words(bits, missing + missing // 4 + 8 if bound & (bound - 1) else missing, random)
        kept = drawn[drawn < bound][:missing]
        found.append(kept)
        missing -= len(kept)
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def _words(bits: int, count: int, random: Random) -> Integers:
    if bits <= _WORD_BITS:
        width = next(width for width in _WORDS if bits <= width)
        return (np.frombuffer(random(count * width // 8), dtype=_WORDS[width]) & ((1 << bits) - 1)).astype(np.int64)
    size = -(-bits // 8)
    raw = random(count * size)
    spare = size * 8 - bits
    return np.array([int.from_bytes(raw[start : start + size], "little") >> spare for start in range(0, len(raw), size)], dtype=object)


def _width(values: Integers) -> int:
    return int(np.abs(values).max()).bit_length() if len(values) else 0


def _dtype(bits: int) -> type[Any]:
    return np.int64 if bits <= _WORD_BITS else object
