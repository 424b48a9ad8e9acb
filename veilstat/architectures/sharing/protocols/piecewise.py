"""Logistic and softplus of shared numbers, one per row, by polynomials on 32 intervals; error at most 2^-24, always.

With y = |x|, logistic(-y) = 1 - logistic(y) and softplus(x) = max(x, 0) + log(1 + exp(-y)), so tables cover [0, 16)
only (`intervals.py`); beyond 16 the tabulated function is a constant. One addition of bits gives the sign, the digits
that decide the interval, whether y >= 16, and x rounded to two precisions. With t the distance from the middle of the
interval, terms of degree 1 and 2 take t and t^2 as fine as they are, those of degree 3 and 4 coarse ones, so that all
products fit 64 bits exactly: only t^2 and the result are rounded.

The error has these parts: 2^-26.8 from polynomials of degree 4 and all roundings together (measured on 400,001 points), and
2^-24.08 from the constant beyond 16. (Piecewise polynomials on shares: Mohassel, Zhang, IEEE S&P 2017, sec. IV, who use
three pieces and probabilistic truncation.)
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from veilstat.errors import CapabilityError

from .adder import bits_held, carries, sliced
from .araki16 import Elements, Shares, multiply, product, reshare, stacked
from .conversion import addends_of, divided, everywhere, from_place, quotients, raised, rounded
from .intervals import COUNT, DIGITS, FINEST, interpolated, interval, length, start, tabulated
from .prss import Party
from .ring import NARROW, WIDE, RingDomain
from .rounds import Protocol, gather
from .turns import Held, shared, to_arithmetic
from .words import OCTETS, WORD

LOGISTIC, SOFTPLUS = "logistic", "softplus"
ERROR = Fraction(1, 2**24)
"""How far a result is at most from the exact value."""

_RANGE_BITS = 4
_FINENESS = 31
"""Operands are rounded down to multiples of 2^-31, and stand for the middle of the next one."""

_FINE, _COARSE = _FINENESS + 1, 19
"""Fraction bits of distances."""
_SQUARE, _COARSE_SQUARE = 28, 19
_VALUE = 60
_FRACTIONS = (_VALUE, _VALUE - _FINE, _VALUE - _SQUARE, *[_VALUE - _COARSE - _COARSE_SQUARE] * 2)
"""Fraction bits of coefficients."""
_LEFT_OUT = _FINE - _COARSE
_MIDDLES = np.array([[1 << _FINE - 3], [1 << _COARSE - 3]])
"""An eighth, in the units of distances."""

_TABLE_BITS = 28
UNITS = {LOGISTIC: Fraction(1, 2**_TABLE_BITS), SOFTPLUS: Fraction(1, 2**_FINENESS)}
"""What results are multiples of."""

_CENTRE = {LOGISTIC: Fraction(1, 2), SOFTPLUS: Fraction(0)}
"""Where the tabulated function changes its sign with x, or 0."""


def piecewise(party: Party, name: str, operand: Shares, scale: Fraction, bits: int, ring: RingDomain) -> Protocol[Shares]:
    """LOGISTIC or SOFTPLUS in its units, as shares of ``ring``, for a vector x = operand * scale with |operand| < 2^bits.

    About 30 rounds.

    Raises:
        CapabilityError: scale is no dyadic fraction, or the operand has too many bits.
    """
    factor, places, width = _rounding(scale, bits)
    count = len(operand.own)
    addends = addends_of(party, raised(party, operand.scaled(factor) if factor != 1 else operand))
    found = yield from _bits(party, addends, places, width)
    rounding, inside, table = yield from gather(
        (_rounded(party, addends, found, places, count), _inside(party, found, count), _tabulated(party, name, found, count))
    )
    ones = everywhere(party, NARROW, 1, (count,))
    sign = ones - rounding.negative.scaled(2) if name == LOGISTIC else ones
    weight = inside[0] - inside[1].scaled(2) if name == LOGISTIC else inside[0]
    weighted, powers = yield from gather(
        (multiply(party, table[:-1], weight), _powers(party, rounding.sizes - table[-1:].scaled(_MIDDLES)))
    )
    beyond = (sign - weight).scaled(_encoded(_beyond(name), _VALUE))
    value = weighted[0] + beyond + (yield from _sum_of_products(party, weighted[1:], powers))
    lowest = _VALUE - _TABLE_BITS
    result: Shares = yield from divided(party, value + ones.scaled(1 << lowest - 1), lowest, ring)
    result += everywhere(party, ring, _encoded(_CENTRE[name], _TABLE_BITS), (count,))
    if name == LOGISTIC:
        return result
    positive = rounding.operand - (yield from multiply(party, rounding.negative, rounding.operand))
    return result.scaled(1 << _FINENESS - _TABLE_BITS) + (yield from divided(party, positive, 0, ring))


def _rounding(scale: Fraction, bits: int) -> tuple[int, int, int]:
    """(factor, places, width): multiply, divide by 2^places, and what is left has ``width`` bits besides the sign."""
    ratio = scale * 2**_FINENESS
    factor, places = ratio.numerator, ratio.denominator.bit_length() - 1
    width = max(bits + (factor - 1).bit_length() - places, _FINENESS + _RANGE_BITS)
    if ratio.denominator != 1 << places or width + places > WIDE.bits - 3 or width > WORD - 2:
        raise CapabilityError("the operand of a logistic function is too wide for servers; coarsen the columns' steps", code="too_wide")
    return factor, places, width


@dataclass(frozen=True, slots=True)
class _Bits:
    """Bits of a rounded operand x, in slices.

    Args:
        below: the carries into the two places that x is rounded to. negative: whether x < 0. digits: of |x|, from 1/4 to 8.
        above, sums: the carry into the digit worth 16, and whether the addends from there on sum to -1, 0, and -2.
    """

    below: Shares
    negative: Shares
    digits: Shares
    above: Shares
    sums: Shares


def _bits(party: Party, addends: Held, places: int, width: int) -> Protocol[_Bits]:
    """The addition of bits."""
    digits = [places + _FINENESS - FINEST + digit for digit in range(DIGITS)]
    above, sign = digits[-1] + 1, places + width
    slices = addends.each(lambda words: sliced(words, sign + 1))
    ends = sorted({places, places + _LEFT_OUT, *digits, above, sign} - {0})
    shown = slices.each(lambda part: part[[*digits, sign]])
    carried, bits, sums = yield from gather(
        (carries(party, slices, ends), shared(party, OCTETS, shown), _sums(party, addends, above, sign + 1 - above))
    )
    into = {end: carried[place] for place, end in enumerate(ends)}
    into[0] = into.get(0, carried[0].scaled(0))
    bits += stacked([into[place] for place in (*digits, sign)])
    below = stacked([into[places], into[places + _LEFT_OUT]])
    return _Bits(below, bits[-1], bits[:-1] + bits[-1:], into[above], sums)


def _sums(party: Party, addends: Held, place: int, width: int) -> Protocol[Shares]:
    """Whether the addends from a place on sum to -1, 0 and -2 modulo 2^width: whether all bits differ, of a and of b, b - 1, b + 1."""
    upper = addends.each(lambda words: from_place(words, place))
    others = np.stack([upper.theirs + np.uint64(offset) for offset in (0, (1 << WORD) - 1, 1)])
    differences = Held(sliced(upper.mine[..., None], width), np.moveaxis(sliced(others[..., None], width), 0, 1))
    factors = (yield from shared(party, OCTETS, differences)).rearranged(lambda part: np.moveaxis(part, 1, 0))
    return (yield from product(party, factors))


@dataclass(frozen=True, slots=True)
class _Rounded:
    """``operand``: x in units of 2^-31; ``sizes``: |x| as fine and as coarse as distances are; ``negative``: 1 where x < 0."""

    operand: Shares
    sizes: Shares
    negative: Shares


def _rounded(party: Party, addends: Held, found: _Bits, places: int, count: int) -> Protocol[_Rounded]:
    """Rounded operands stand for the middle of what is rounded to them; three rounds."""
    roundings = (places, places + _LEFT_OUT)
    both, negative = yield from gather(
        (
            rounded(party, WIDE, addends, found.below, roundings, NARROW, count),
            to_arithmetic(party, NARROW, bits_held(party, found.negative, count), count),
        )
    )
    middles = stacked(both).scaled(2) + everywhere(party, NARROW, 1, (2, count))
    sizes = middles - (yield from multiply(party, middles, negative)).scaled(2)
    return _Rounded(both[0], sizes, negative)


def _inside(party: Party, found: _Bits, count: int) -> Protocol[Shares]:
    """1 where |x| < 16, and 1 where x is negative besides; four rounds.

    So it is where the digits from 16 on are 0 or -1 with the carry into them.
    """
    opposite, zero, below = (found.sums[place] for place in range(3))
    inside = opposite + zero + (yield from multiply(party, found.above, below + zero))
    both = yield from multiply(party, inside, found.negative)
    return (yield from to_arithmetic(party, NARROW, bits_held(party, stacked([inside, both]), count), count))


def _tabulated(party: Party, name: str, found: _Bits, count: int) -> Protocol[Shares]:
    """The coefficients of each row's polynomial and the middle of its interval; four rounds."""
    number = yield from interval(party, found.digits)
    return (yield from tabulated(party, _table(name), number, count))


def _powers(party: Party, distances: Shares) -> Protocol[Shares]:
    """What belongs to the coefficients of degree 1 to 4, from distances that are fine and coarse."""
    fine, coarse = distances[0], distances[1]
    places = (2 * _FINE - _SQUARE, 2 * _FINE - _COARSE_SQUARE)
    square, coarse_square = yield from quotients(party, (yield from multiply(party, fine, fine)), places, NARROW)
    high = yield from multiply(party, stacked([coarse, coarse_square]), coarse_square)
    return stacked([fine, square]).joined(high)


def _sum_of_products(party: Party, a: Shares, b: Shares) -> Protocol[Shares]:
    """Sums over the first axis of products, for one element each."""
    products = (a.own + a.previous) * (b.own + b.previous) - a.previous * b.previous
    return (yield from reshare(party, NARROW, products.sum(axis=0, dtype=np.uint64)))


@cache
def _table(name: str) -> Elements:
    """Shape (6, 32): coefficients, and the middles of intervals in eighths.

    Squares are rounded down: what they lack on average goes into the coefficients of two degrees less.
    """
    columns = []
    for number in range(COUNT):
        c0, c1, c2, c3, c4 = interpolated(lambda y: _function(name, y), number, _FRACTIONS[-1])
        fine, coarse = 2.0 ** -(_SQUARE + 1), 2.0 ** -(_COARSE_SQUARE + 1)
        values = (c0 - float(_CENTRE[name]) + c2 * fine, c1 + c3 * coarse, c2 + c4 * 2 * coarse, c3, c4)
        coefficients = [_encoded(Fraction(value), bits) for value, bits in zip(values, _FRACTIONS, strict=True)]
        columns.append([*coefficients, int(8 * start(number) + 4 * length(number))])
    return NARROW.encode(np.array(columns, dtype=object).T)


def _encoded(value: Fraction, bits: int) -> int:
    return int(value * 2**bits + (Fraction(1, 2) if value >= 0 else Fraction(-1, 2)))


def _function(name: str, y: Any) -> Any:
    """What is tabulated of a function, for y >= 0."""
    tail = np.exp(-y)
    return 1 / (1 + tail) if name == LOGISTIC else np.log1p(tail)


def _beyond(name: str) -> Fraction:
    """The value for y >= 16, halfway between those at 16 and at infinity, less the centre."""
    middle = (_function(name, 1 << _RANGE_BITS) + _function(name, np.inf)) / 2
    return Fraction(float(middle)) - _CENTRE[name]
