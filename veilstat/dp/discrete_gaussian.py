"""The discrete Gaussian on the integers, exactly: P[X = x] is proportional to exp(-x^2 / (2 sigma^2)) with a rational sigma^2.

The distribution is that of Canonne, Kamath, Steinke (NeurIPS 2020). Its magnitude is drawn by rejection from under a
staircase (as Karney, ACM TOMS 2016, Algorithm D, with steps that are narrower than sigma): a step k of 2^w integers, whose
height is the weight of its first one, then a place j within the step, kept with probability
exp(-(x^2 - (2^w k)^2) / (2 sigma^2)) for x = 2^w k + j. Random words are compared with integers that bound these
probabilities, for whole batches at once; a word that falls between the bounds is decided with more bits, so that every
draw is exact. Below sigma = 16 a step is one integer and nothing is rejected.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from veilstat.arithmetic.keystream import SEED_BYTES, expand

from .decay import MORE_BITS, Bounds, decay, extended, is_below_decay, product

Random: TypeAlias = "Callable[[int], bytes]"
Integers: TypeAlias = "npt.NDArray[Any]"

BATCH = 1 << 15
"""Proposals that are decided at once, so that they stay in the processor's cache."""

_STEPS_BITS = 4
"""A step is at most sigma / 2^4 wide, where that is more than 1."""
_EDGE_BITS = 63
_PLACE_BITS = 31
_FINE_BITS = 16
_COIN_BITS = 32
_RATE_BITS = 12
_TABLE_BITS = 12
_TABLE_SIZE = 1 << _TABLE_BITS
_WORD_BITS = 62


def discrete_gaussian(variance: Fraction, count: int, random: Random) -> npt.NDArray[np.object_]:
    """Independent draws, for the noise of a release.

    Args:
        variance: the parameter sigma^2, positive; the true variance is at most that.
        count: how many. random: bytes from a cryptographic source; keys of AES-128 in counter mode, whose keystreams decide.

    Returns:
        Python integers, shape (count,).
    """
    if variance <= 0:
        raise ValueError("the variance of noise is positive")
    steps = _steps(variance)
    found: list[Integers] = [np.zeros(0, dtype=object)]
    missing = count
    while missing > 0:
        kept = _proposals(steps, min(BATCH, missing + missing // 16 + 8), random)[:missing]
        found.append(kept.astype(object))
        missing -= len(kept)
    return np.concatenate(found)


def rounded_variance(variance: Fraction) -> Fraction:
    """The next variance, at most 0.2 % above, that is written with short integers; for whoever may choose it.

    Up to 2^24 it has ten or eleven significant bits, beyond it is a multiple of the rounded-up standard deviation.
    """
    if variance < 1 << 24:
        unit = Fraction(2) ** (variance.numerator.bit_length() - variance.denominator.bit_length() - 10)
        return math.ceil(variance / unit) * unit
    scale = math.isqrt(math.ceil(variance) - 1) + 1
    return Fraction(math.ceil(variance / scale) * scale)


@dataclass(frozen=True, slots=True, eq=False)
class _Steps:
    """The staircase of one variance.

    Args:
        width_bits: w. rate: c = 4^w / (2 sigma^2), so that a step's height is exp(-c k^2).
        edges: floor(2^63 P[step <= k]).
    """

    variance: Fraction
    width_bits: int
    rate: Fraction = field(init=False)
    edges: npt.NDArray[np.uint64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", Fraction(4) ** self.width_bits / (2 * self.variance))
        object.__setattr__(self, "edges", np.array(self.edges_at(_EDGE_BITS), dtype=np.uint64))

    def edges_at(self, bits: int) -> list[int]:
        """floor(2^bits P[step <= k]) for all k up to the one that leaves less than 2^-bits."""
        precision = 2 * bits
        lows, highs = self._edge_bounds(bits, precision)
        while lows != highs:
            precision *= 2
            lows, highs = self._edge_bounds(bits, precision)
        return lows[: lows.index((1 << bits) - 1) + 1]

    def _edge_bounds(self, bits: int, precision: int) -> tuple[list[int], list[int]]:
        """Where steps are single integers, both signs of 0 are 0, so that step 0 has half the weight."""
        one = 1 << precision
        weight: Bounds = (one, one)
        ratio, square = decay(self.rate, precision), decay(2 * self.rate, precision)
        sums = [(one // 2, one // 2) if self.width_bits == 0 else weight]
        while weight[1] > 2:
            weight, ratio = product(weight, ratio, precision), product(ratio, square, precision)
            sums.append((sums[-1][0] + weight[0], sums[-1][1] + weight[1]))
        rest = (weight[1] * ratio[1]) // (one - ratio[1]) + 1
        low, high = sums[-1][0], sums[-1][1] + rest
        return [(below << bits) // high for below, _ in sums], [min((above << bits) // low, (1 << bits) - 1) for _, above in sums]

    def exponent(self, step: int, place: int) -> Fraction:
        """What a place within a step is kept with: probability exp(-exponent)."""
        return place * ((step << self.width_bits + 1) + place) / (2 * self.variance)


@lru_cache(maxsize=64)
def _steps(variance: Fraction) -> _Steps:
    deviation = math.isqrt(math.floor(variance))
    return _Steps(variance, max(0, deviation.bit_length() - 1 - _STEPS_BITS))


def _proposals(steps: _Steps, count: int, random: Random) -> Integers:
    """The draws that are kept of ``count`` proposals."""
    single = steps.width_bits == 0
    words = np.frombuffer(expand(random(SEED_BYTES), count * (8 if single else 16)), dtype="<u8")
    step = _chosen(steps, words[:count] >> np.uint64(1), random)
    negative = (words[:count] & np.uint64(1)).astype(bool)
    if single:
        return np.where(negative, -step, step)
    magnitude, kept = _within(steps, step, words[count:], random)
    kept &= ~negative | (magnitude != 0)
    return np.asarray(np.where(negative, -magnitude, magnitude)[kept])


def _chosen(steps: _Steps, words: npt.NDArray[np.uint64], random: Random) -> npt.NDArray[np.int64]:
    """The step of every word of 63 bits: more bits for one that equals an edge, which is rounded down."""
    step = np.searchsorted(steps.edges, words, side="left")
    for place in np.flatnonzero(steps.edges[step] == words):
        step[place] = _chosen_closely(steps, int(words[place]), random)
    return step


def _chosen_closely(steps: _Steps, word: int, random: Random) -> int:
    bits = _EDGE_BITS
    while True:
        word, bits = extended(word, random), bits + MORE_BITS
        edges = steps.edges_at(bits)
        step = bisect_left(edges, word)
        if edges[step] != word:
            return step


def _within(
    steps: _Steps, step: npt.NDArray[np.int64], words: npt.NDArray[np.uint64], random: Random
) -> tuple[Integers, npt.NDArray[np.bool_]]:
    """Magnitudes within the steps, and which of them are kept: 31 bits of a word place it, 32 decide.

    A place's 16 leading bits bound the exponent; of a word between the bounds of exp(-exponent) all bits are looked at.
    """
    place_bits = min(steps.width_bits, _PLACE_BITS)
    place = (words & np.uint64((1 << place_bits) - 1)).astype(np.int64)
    coin = (words >> np.uint64(64 - _COIN_BITS)).astype(np.int64)
    rest_bits = steps.width_bits - place_bits
    rest = _uniform(rest_bits, len(step), random)
    fine_bits = min(place_bits, _FINE_BITS)
    fine = place >> place_bits - fine_bits
    twice = step << fine_bits + 1
    cut = int(fine_bits < steps.width_bits)
    low_rate, high_rate, shift = _rates(steps.rate, fine_bits)
    least, most = _decay_tables()
    last = len(least) - 1
    high = ((fine + cut) * (twice + fine + cut) * high_rate >> shift) + 1
    kept = coin < least[np.minimum(high, last)]
    (doubtful,) = np.nonzero(~kept)
    low = fine[doubtful] * (twice[doubtful] + fine[doubtful]) * low_rate >> shift
    doubtful = doubtful[coin[doubtful] < most[np.minimum(low, last)]]
    for index in doubtful:
        exponent = steps.exponent(int(step[index]), (int(place[index]) << rest_bits) + int(rest[index]))
        kept[index] = is_below_decay(int(coin[index]), _COIN_BITS, exponent, random)
    lead = (step << place_bits) + place
    if rest_bits + place_bits + len(steps.edges).bit_length() > _WORD_BITS:
        return lead.astype(object) * (1 << rest_bits) + rest, kept
    return (lead << rest_bits) + rest, kept


def _rates(rate: Fraction, fine_bits: int) -> tuple[int, int, int]:
    """(low, high, shift) with low <= 2^shift r <= high for r = rate in units of the table's and the fine places' resolution."""
    exact = rate * _TABLE_SIZE / 4**fine_bits
    shift = _RATE_BITS + exact.denominator.bit_length() - exact.numerator.bit_length()
    scaled = exact * (1 << shift)
    return math.floor(scaled), math.ceil(scaled), shift


@cache
def _decay_tables() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Bounds of 2^32 exp(-i / 4096) from below, up to i = 4096 and 0 beyond, and from above."""
    bounds = [decay(Fraction(place, _TABLE_SIZE), _COIN_BITS) for place in range(_TABLE_SIZE + 1)]
    least, most = [low for low, _ in bounds], [high for _, high in bounds]
    return np.array([*least, 0], dtype=np.int64), np.array([*most, most[-1]], dtype=np.int64)


def _uniform(bits: int, count: int, random: Random) -> Integers:
    """Uniform integers below 2^bits: words where they fit, else Python integers."""
    if bits <= _WORD_BITS:
        if bits == 0:
            return np.zeros(count, dtype=np.int64)
        words = np.frombuffer(expand(random(SEED_BYTES), 8 * count), dtype="<u8")
        return (words >> np.uint64(64 - bits)).astype(np.int64)
    size = -(-bits // 8)
    raw, spare = expand(random(SEED_BYTES), count * size), size * 8 - bits
    return np.array([int.from_bytes(raw[start : start + size], "little") >> spare for start in range(0, len(raw), size)], dtype=object)
