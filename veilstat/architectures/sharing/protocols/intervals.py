"""Intervals of a piecewise polynomial on [0, 16): which one a shared number lies in, and what is tabulated for it.

Intervals are 1/4 long below 4, 1/2 below 8 and 1 below 16. The five bits of an interval's number are shared modulo 2,
so that it is u XOR v for a u that one server knows and a v that the other two know (`turns.py`). The server deals the
unit vector of u, the others permute it by v and add up what is tabulated: no product of shared numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev

from .adder import bits_held
from .araki16 import Elements, Shares, multiply, reshare, stacked
from .conversion import everywhere
from .prss import Party
from .ring import NARROW
from .rounds import Protocol
from .turns import deal, whole
from .words import OCTETS

DEGREE = 4
FINEST = 2
"""The shortest interval is 2^-FINEST long."""
DIGITS = 6
"""Bits of a number that decide its interval, from the one worth 2^-FINEST."""
_INDEX_BITS = 5
COUNT = 1 << _INDEX_BITS
_PLACES = 1 << np.arange(_INDEX_BITS)
_BLOCK = 1 << 10


def interval(party: Party, digits: Shares) -> Protocol[Shares]:
    """The bits of the interval's number, lowest first, from those of a number in slices, from 1/4 to 8; two rounds.

    The highest digit that is set says which digits follow in the number, as in a floating-point format.
    """
    quarter, half, one, two, four, eight = (digits[place] for place in range(DIGITS))
    zeros, ones = (everywhere(party, OCTETS, fill, one.shape) for fill in (0, 0xFF))
    finest = stacked([quarter, half, one, two, zeros])
    above = yield from multiply(party, four, stacked([half, one, two, zeros, eight]) - stacked([quarter, half, one, two, zeros]))
    finer = finest + above
    both = finer[4]
    number = stacked([finer[0], finer[1], finer[2], finer[3]])
    number += yield from multiply(party, eight, stacked([one, two, four, ones]) - number)
    return number.joined((four + eight + both)[None])


def length(number: int) -> float:
    """How long an interval is."""
    return 0.25 if number < 16 else 0.5 if number < 24 else 1.0


def start(number: int) -> float:
    """Where an interval begins."""
    return number / 4 if number < 16 else 4 + (number - 16) / 2 if number < 24 else float(number - 16)


def tabulated(party: Party, table: Elements, number: Shares, count: int) -> Protocol[Shares]:
    """Columns of a table modulo 2^64, shape (columns, 32), at the first ``count`` intervals; two rounds.

    A server sends 32 elements for three intervals, and one per column and interval.
    """
    index = bits_held(party, number, count).each(lambda bits: np.tensordot(_PLACES, bits, axes=1))
    size = len(index.mine)
    unit = np.zeros(size * COUNT, dtype=np.uint64)
    unit[np.arange(size) * COUNT + index.mine] = 1
    dealt = yield from deal(party, NARROW, unit)
    columns = _chosen(table, dealt.theirs.reshape(-1, COUNT), index.theirs.reshape(-1)).reshape(len(table), 2, size)
    nothing = np.zeros((len(table), size), dtype=np.uint64)
    return (yield from reshare(party, NARROW, whole(party, nothing, columns)))[:, :count]


def _chosen(table: Elements, units: Elements, index: Elements) -> Elements:
    """The products of a table with rows of ``units`` permuted by XOR with an index each: shape (columns, rows)."""
    result = np.empty((len(table), len(units)), dtype=np.uint64)
    for start_row in range(0, len(units), _BLOCK):
        block = units[start_row : start_row + _BLOCK]
        places = np.arange(len(block))[:, None] * COUNT + (index[start_row : start_row + _BLOCK, None] ^ np.arange(COUNT))
        np.einsum("ru,cu->cr", block.reshape(-1).take(places), table, out=result[:, start_row : start_row + _BLOCK])
    return result


def interpolated(function: Callable[[Any], Any], number: int, fraction: int) -> list[float]:
    """Coefficients of the polynomial on one interval, of the distance from its middle: at Chebyshev's nodes.

    Those of degree 3 and 4 are rounded to ``fraction`` bits, and what they lose is interpolated by the others.
    """
    half = length(number) / 2
    middle = start(number) + half
    *low, third, fourth = _powers_of(lambda place: function(middle + half * place), DEGREE, half)
    high = [round(value * 2.0**fraction) / 2.0**fraction for value in (third, fourth)]
    lost = _powers_of(lambda place: (third - high[0]) * (half * place) ** 3 + (fourth - high[1]) * (half * place) ** 4, 2, half)
    return [*(a + b for a, b in zip(low, lost, strict=True)), *high]


def _powers_of(function: Callable[[Any], Any], degree: int, half: float) -> list[float]:
    """Coefficients of a polynomial that interpolates a function on [-1, 1], for powers of ``half`` times its argument."""
    series: Any = chebyshev.chebinterpolate(function, degree)
    return [float(value) / half**power for power, value in enumerate(chebyshev.cheb2poly(series))]
