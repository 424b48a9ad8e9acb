"""The logistic function of shared numbers, one per row, by polynomials on 32 intervals; error at most 2^-24, always.

logistic(-x) = 1 - logistic(x), so tables cover [0, 16) only: the five bits of the interval, the sign and whether
|x| >= 16 come out of the addition that rounds x. Coefficients are chosen by products of these bits with a public
table; powers of the place within the interval are rounded exactly. Beyond 16 the result is a constant.

The error has these parts: 2^-27.8 from polynomials of degree 5 (interpolation at Chebyshev's nodes), less than 2^-27
from all roundings together, and 2^-24.08 from the constant beyond 16. (Piecewise polynomials on shares: Mohassel,
Zhang, IEEE S&P 2017, sec. 5, who use three pieces and probabilistic truncation.)
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev

from veilstat.language.errors import CapabilityError

from .araki16 import Elements, Shares, multiply, reshare, stacked
from .conversion import divided, everywhere, quotient, summed
from .prss import Party
from .ring import NARROW, WIDE, RingDomain
from .rounds import Protocol, gather
from .words import WORD, bit, shifted_right, suffix_or, to_arithmetic

RESULT_BITS = 28
"""Results are multiples of 2^-28."""
ERROR = Fraction(1, 2**24)
"""How far a result is at most from the exact value."""

_DEGREE = 5
_INTERVAL_BITS = 5
_LOW_BITS = 3
_RANGE = 16
_PLACE_BITS = 30
_COEFFICIENT_BITS = 31
_FINENESS = _PLACE_BITS + _INTERVAL_BITS - 4
"""Operands are rounded down to multiples of 2^-31, and stand for the middle of the next one."""


def logistic(party: Party, operand: Shares, scale: Fraction, bits: int, ring: RingDomain) -> Protocol[Shares]:
    """1 / (1 + exp(-x)) in units of 2^-28, as shares of ``ring``, for a vector x = operand * scale with |operand| < 2^bits.

    About 60 rounds.

    Raises:
        CapabilityError: scale is no dyadic fraction, or the operand has too many bits.
    """
    factor, places, width = _rounding(scale, bits)
    dividend = yield from summed(party, operand.scaled(factor))
    rounded, bits_of_it = yield from gather(
        (quotient(party, dividend, places, NARROW), _bits(party, shifted_right(dividend.total, places), width))
    )
    negative, saturated, *interval = bits_of_it
    chosen, turned = yield from gather(
        (to_arithmetic(party, NARROW, stacked([negative, *interval])), to_arithmetic(party, ring, stacked([negative, saturated])))
    )
    place = yield from _place(party, rounded, chosen)
    coefficients, powers = yield from gather((_coefficients(party, chosen[1:]), _powers(party, place)))
    value = yield from _products(party, coefficients, powers)
    result = yield from divided(party, value, _PLACE_BITS + _COEFFICIENT_BITS - RESULT_BITS, ring)
    one = everywhere(party, ring, 1 << RESULT_BITS, result.shape)
    limit = everywhere(party, ring, _beyond(), result.shape)
    result = result + (yield from multiply(party, turned[1], limit - result))
    return result + (yield from multiply(party, turned[0], one - result.scaled(2)))


def _rounding(scale: Fraction, bits: int) -> tuple[int, int, int]:
    """(factor, places, width): multiply, divide by 2^places, and what is left has ``width`` bits besides the sign."""
    ratio = scale * 2**_FINENESS
    factor, places = ratio.numerator, ratio.denominator.bit_length() - 1
    width = max(bits + factor.bit_length() - places, _PLACE_BITS + _INTERVAL_BITS)
    if ratio.denominator != 1 << places or width + places > WIDE.bits - 2 or width > WORD - 2:
        raise CapabilityError("the operand of a logistic function is too wide for servers; coarsen the columns' steps", code="too_wide")
    return factor, places, width


def _bits(party: Party, total: Shares, width: int) -> Protocol[list[Shares]]:
    """Sign, whether |x| is beyond the table, and the bits of the interval, lowest first: words that are 0 or 1."""
    word = total[..., :1]
    negative = bit(word, width)
    mask = negative.rearranged(lambda part: (np.uint64(0) - part)[:, None])
    magnitude = word + mask
    interval = [bit(magnitude, _PLACE_BITS + place) for place in range(_INTERVAL_BITS)]
    beyond = shifted_right(magnitude.scaled((1 << width) - 1), _PLACE_BITS + _INTERVAL_BITS)
    if width == _PLACE_BITS + _INTERVAL_BITS:
        return [negative, bit(beyond, 0), *interval]
    saturated = yield from suffix_or(party, beyond, width - _PLACE_BITS - _INTERVAL_BITS)
    return [negative, bit(saturated, 0), *interval]


def _place(party: Party, rounded: Shares, chosen: Shares) -> Protocol[Shares]:
    """Where |x| lies in its interval, from -1 to 1 in units of 2^-30; without meaning beyond the table."""
    ones = everywhere(party, NARROW, 1, rounded.shape)
    doubled = rounded.scaled(2) + ones
    folded = doubled - (yield from multiply(party, chosen[0], doubled)).scaled(2)
    starts = chosen[1:].scaled(np.array([[1 << _PLACE_BITS + 1 + place] for place in range(_INTERVAL_BITS)]))
    return folded - starts.total(axis=0) - ones.scaled(1 << _PLACE_BITS)


def _powers(party: Party, place: Shares) -> Protocol[list[Shares]]:
    """The second to fifth power in units of 2^-30, each rounded down."""
    second = yield from _rounded_products(party, place[None], place[None])
    both = yield from _rounded_products(party, stacked([place, second[0]]), second)
    fifth = yield from _rounded_products(party, both[:1], second)
    return [place, second[0], both[0], both[1], fifth[0]]


def _rounded_products(party: Party, a: Shares, b: Shares) -> Protocol[Shares]:
    return (yield from divided(party, (yield from multiply(party, a, b)), _PLACE_BITS, NARROW))


def _coefficients(party: Party, interval: Shares) -> Protocol[Shares]:
    """The coefficients of each row's polynomial, shape (degree + 1, rows), from the bits of its interval."""
    first, second, third, fourth, fifth = (interval[place] for place in range(_INTERVAL_BITS))
    pairs = yield from multiply(party, stacked([first, first, second, fourth]), stacked([second, third, third, fifth]))
    triple = yield from multiply(party, pairs[0], third)
    ones = everywhere(party, NARROW, 1, first.shape)
    low = [ones, first, second, pairs[0], third, pairs[1], pairs[2], triple]
    high = stacked([ones, fourth, fifth, pairs[3]])
    shape = (_DEGREE + 1, len(low), *first.shape)
    weights = _weights().reshape(-1, len(high.own))
    partial = high.rearranged(lambda part: NARROW.weighted_sums(weights, part).reshape(shape))
    own, previous = (np.stack([getattr(one, side) for one in low]) for side in ("own", "previous"))
    both = (partial.own + partial.previous) * (own + previous) - partial.previous * previous
    return (yield from reshare(party, NARROW, both.sum(axis=1, dtype=np.uint64)))


def _products(party: Party, coefficients: Shares, powers: list[Shares]) -> Protocol[Shares]:
    """The polynomials' values in units of 2^-61."""
    constants, others = coefficients[0], coefficients[1:]
    places = stacked(powers)
    both = (others.own + others.previous) * (places.own + places.previous) - others.previous * places.previous
    return constants + (yield from reshare(party, NARROW, both.sum(axis=0, dtype=np.uint64)))


@cache
def _weights() -> Elements:
    """Shape (degree + 1, 8, 4): a coefficient as a polynomial in the bits of its interval, the upper two last."""
    table = np.array([_interpolated(interval) for interval in range(1 << _INTERVAL_BITS)], dtype=object)
    for place in range(_INTERVAL_BITS):
        halves = table.reshape(-1, 2, 1 << place, _DEGREE + 1)
        halves[:, 1] -= halves[:, 0]
    shaped = table.reshape(1 << _INTERVAL_BITS - _LOW_BITS, 1 << _LOW_BITS, _DEGREE + 1).transpose(2, 1, 0)
    return np.ascontiguousarray(NARROW.encode(shaped))


def _interpolated(interval: int) -> list[int]:
    """Coefficients on one interval; the constant also rounds the result to its nearest unit."""
    width = _RANGE / (1 << _INTERVAL_BITS)
    series: Any = chebyshev.chebinterpolate(lambda place: _exact((interval + (place + 1) / 2) * width), _DEGREE)
    constant_term, *others = (Fraction(float(value)) for value in chebyshev.cheb2poly(series))
    half = 1 << _PLACE_BITS + _COEFFICIENT_BITS - RESULT_BITS - 1
    return [round(constant_term * 2 ** (_PLACE_BITS + _COEFFICIENT_BITS)) + half, *(round(c * 2**_COEFFICIENT_BITS) for c in others)]


def _exact(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _beyond() -> int:
    """The result for x >= 16, halfway between 1 and the value at 16."""
    return int(2 ** (RESULT_BITS - 1) * float(1 + _exact(_RANGE)))
