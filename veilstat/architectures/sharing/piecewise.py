"""Logistic and softplus of shared numbers, one per row, by polynomials on 32 intervals; error at most 2^-24, always.

With y = |x|, logistic(-y) = 1 - logistic(y) and softplus(x) = max(x, 0) + log(1 + exp(-y)), so tables cover [0, 16)
only: the five bits of the interval, the sign and whether y >= 16 are bits of the rounded x. Coefficients are chosen
by products of these bits with a public table; powers of the place within the interval are rounded exactly.
Beyond 16 the tabulated function is a constant.

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
from .conversion import divided, everywhere, total_bits
from .prss import Party
from .ring import NARROW, WIDE, RingDomain
from .rounds import Protocol, gather
from .words import WORD, bit, shifted_right, suffix_or, to_arithmetic

LOGISTIC, SOFTPLUS = "logistic", "softplus"
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


_TABLE_BITS = 28
UNITS = {LOGISTIC: Fraction(1, 2**_TABLE_BITS), SOFTPLUS: Fraction(1, 2**_FINENESS)}
"""What results are multiples of."""


def piecewise(party: Party, name: str, operand: Shares, scale: Fraction, bits: int, ring: RingDomain) -> Protocol[Shares]:
    """LOGISTIC or SOFTPLUS in its units, as shares of ``ring``, for a vector x = operand * scale with |operand| < 2^bits.

    About 60 rounds.

    Raises:
        CapabilityError: scale is no dyadic fraction, or the operand has too many bits.
    """
    factor, places, width = _rounding(scale, bits)
    rounded = yield from divided(party, operand.scaled(factor) if factor != 1 else operand, places, NARROW)
    negative, saturated, *interval = yield from _bits(party, rounded, width)
    chosen, turned = yield from gather(
        (to_arithmetic(party, NARROW, stacked([negative, *interval])), to_arithmetic(party, ring, stacked([negative, saturated])))
    )
    place = yield from _place(party, rounded, chosen)
    coefficients, powers = yield from gather((_coefficients(party, name, chosen[1:]), _powers(party, place)))
    value = yield from _polynomial(party, coefficients, place, powers)
    tabulated: Shares = yield from divided(party, value, _PLACE_BITS + _COEFFICIENT_BITS - _TABLE_BITS, ring)
    limit = everywhere(party, ring, _beyond(name), tabulated.shape)
    tabulated += yield from multiply(party, turned[1], limit - tabulated)
    if name == SOFTPLUS:
        linear = yield from divided(party, rounded, 0, ring)
        return tabulated.scaled(1 << _FINENESS - _TABLE_BITS) + linear - (yield from multiply(party, turned[0], linear))
    one = everywhere(party, ring, 1 << _TABLE_BITS, tabulated.shape)
    return tabulated + (yield from multiply(party, turned[0], one - tabulated.scaled(2)))


def _rounding(scale: Fraction, bits: int) -> tuple[int, int, int]:
    """(factor, places, width): multiply, divide by 2^places, and what is left has ``width`` bits besides the sign."""
    ratio = scale * 2**_FINENESS
    factor, places = ratio.numerator, ratio.denominator.bit_length() - 1
    width = max(bits + (factor - 1).bit_length() - places, _PLACE_BITS + _INTERVAL_BITS)
    if ratio.denominator != 1 << places or width + places > WIDE.bits - 2 or width > WORD - 2:
        raise CapabilityError("the operand of a logistic function is too wide for servers; coarsen the columns' steps", code="too_wide")
    return factor, places, width


def _bits(party: Party, rounded: Shares, width: int) -> Protocol[list[Shares]]:
    """Sign, whether |x| is beyond the table, and the bits of the interval, lowest first: words that are 0 or 1."""
    word = yield from total_bits(party, rounded, width + 1)
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


def _powers(party: Party, place: Shares) -> Protocol[Shares]:
    """The second and the fourth power in units of 2^-30, each rounded down."""
    second = yield from divided(party, (yield from multiply(party, place, place)), _PLACE_BITS, NARROW)
    fourth = yield from divided(party, (yield from multiply(party, second, second)), _PLACE_BITS, NARROW)
    return stacked([second, fourth])


def _coefficients(party: Party, name: str, interval: Shares) -> Protocol[Shares]:
    """The coefficients of each row's polynomial, shape (degree + 1, rows), from the bits of its interval."""
    first, second, third, fourth, fifth = (interval[place] for place in range(_INTERVAL_BITS))
    pairs = yield from multiply(party, stacked([first, first, second, fourth]), stacked([second, third, third, fifth]))
    triple = yield from multiply(party, pairs[0], third)
    ones = everywhere(party, NARROW, 1, first.shape)
    low = [ones, first, second, pairs[0], third, pairs[1], pairs[2], triple]
    high = stacked([ones, fourth, fifth, pairs[3]])
    products = _summands(stacked(low)[:, None], high).reshape(len(low) * len(high.own), -1)
    return (yield from reshare(party, NARROW, _weights(name) @ products))


def _polynomial(party: Party, coefficients: Shares, place: Shares, powers: Shares) -> Protocol[Shares]:
    """The polynomials' values in units of 2^-61: even part plus place times odd part, which is rounded down to 2^-31."""
    even: Shares
    odd: Shares
    even, odd = yield from gather(_sum_of_products(party, coefficients[start + 2 :: 2], powers) for start in (0, 1))
    slope = coefficients[1] + (yield from divided(party, odd, _PLACE_BITS, NARROW))
    return even + coefficients[0] + (yield from multiply(party, slope, place))


def _sum_of_products(party: Party, a: Shares, b: Shares) -> Protocol[Shares]:
    """Sums over the first axis of products, for one element each."""
    return (yield from reshare(party, NARROW, _summands(a, b).sum(axis=0, dtype=np.uint64)))


def _summands(a: Shares, b: Shares) -> Elements:
    """What this server has of products; whatever is linear in them is applied before anything is sent."""
    return np.asarray((a.own + a.previous) * (b.own + b.previous) - a.previous * b.previous)


@cache
def _weights(name: str) -> Elements:
    """Shape (degree + 1, 32): a coefficient as a polynomial in the bits of its interval, the upper two last."""
    table = np.array([_interpolated(name, interval) for interval in range(1 << _INTERVAL_BITS)], dtype=object)
    for place in range(_INTERVAL_BITS):
        halves = table.reshape(-1, 2, 1 << place, _DEGREE + 1)
        halves[:, 1] -= halves[:, 0]
    shaped = table.reshape(1 << _INTERVAL_BITS - _LOW_BITS, 1 << _LOW_BITS, _DEGREE + 1).transpose(2, 1, 0)
    return np.ascontiguousarray(NARROW.encode(shaped)).reshape(_DEGREE + 1, -1)


def _interpolated(name: str, interval: int) -> list[int]:
    """Coefficients on one interval; the constant also rounds the result to its nearest unit."""
    width = _RANGE / (1 << _INTERVAL_BITS)
    series: Any = chebyshev.chebinterpolate(lambda place: _tabulated(name, (interval + (place + 1) / 2) * width), _DEGREE)
    constant_term, *others = (Fraction(float(value)) for value in chebyshev.cheb2poly(series))
    half = 1 << _PLACE_BITS + _COEFFICIENT_BITS - _TABLE_BITS - 1
    return [round(constant_term * 2 ** (_PLACE_BITS + _COEFFICIENT_BITS)) + half, *(round(c * 2**_COEFFICIENT_BITS) for c in others)]


def _tabulated(name: str, y: Any) -> Any:
    """What is tabulated of a function, for y >= 0."""
    tail = np.exp(-y)
    return 1 / (1 + tail) if name == LOGISTIC else np.log1p(tail)


def _beyond(name: str) -> int:
    """The tabulated value for y >= 16, halfway between those at 16 and at infinity."""
    middle = (_tabulated(name, _RANGE) + _tabulated(name, np.inf)) / 2
    return int(2**_TABLE_BITS * float(middle) + 0.5)
