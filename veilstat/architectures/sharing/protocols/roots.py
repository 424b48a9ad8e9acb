"""Square roots of shared integers, exactly rounded towards zero.

With the position of its leading pair of bits an operand becomes v in [1/4, 1) times a power of 4. Goldschmidt's
iteration for root and inverse root, g -> g (1 + r), h -> h (1 + r) with r = 1/2 - g h (Markstein, RNC6, 2004), starts at
1 / sqrt(v) = 2 - v. The integer that is nearest to what it gives is the root or one too large; its square decides.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from .araki16 import Shares, constant, multiply, stacked
from .floor import bits_of, floor_divide, less_than_zero, scaled_down
from .prss import Party
from .rounds import Protocol
from .words import pack, parities, suffix_or, to_arithmetic

_PRECISION = 12
"""Bits that the iteration has beyond those of the operand: its result errs by less than half of the root's unit with far fewer."""

_START_ERROR = 0.235
"""|1 - v (2 - v)^2| on [1/4, 1)."""


def compared_bits(bits: int) -> int:
    """Bits of the largest value that ``signed_roots`` opens under a mask for |x| <= 2^bits; the field must have ``MASKING`` more."""
    return max(bits + 1, 2 * _fraction(bits) + 5)


def signed_roots(party: Party, x: Shares, bits: int) -> Protocol[Shares]:
    """sgn(x) floor(sqrt(|x|)) for a vector of integers |x| <= 2^bits; about 60 + 4 log2(bits) rounds."""
    negative = yield from less_than_zero(party, x, bits + 1)
    sign = constant(party, x.domain, 1) - negative.scaled(2)
    magnitude = yield from multiply(party, x, sign)
    nearest = yield from _nearest(party, magnitude, bits)
    square = yield from multiply(party, nearest, nearest)
    above = yield from less_than_zero(party, magnitude - square, bits // 2 + 4)
    return (yield from multiply(party, nearest - above, sign))


def with_roots(party: Party, x: Shares, places: npt.NDArray[np.int64], bits: int) -> Protocol[Shares]:
    """The vector with signed roots in place of the elements at ``places``."""
    roots = yield from signed_roots(party, x[places], bits)
    order = np.arange(len(x.own))
    order[places] = len(order) + np.arange(len(places))
    return x.joined(roots)[order]


def _nearest(party: Party, x: Shares, bits: int) -> Protocol[Shares]:
    """An integer less than 1 from sqrt(x), for 0 <= x <= 2^bits."""
    domain, pairs, fraction = x.domain, bits // 2 + 1, _fraction(bits)
    leading = yield from _leading_pairs(party, x, bits)
    to_v, to_root = (
        leading.scaled(np.array([[1 << power] for power in powers], dtype=object)).total(axis=0)
        for powers in ([2 * (pairs - 1 - pair) for pair in range(pairs)], [pair + 1 for pair in range(pairs)])
    )
    v = (yield from multiply(party, x, to_v)).scaled(1 << fraction - 2 * pairs)
    inverse = constant(party, domain, 2 << fraction) - v
    start = stacked([(yield from multiply(party, v, inverse)), inverse])
    state = yield from scaled_down(party, start, [[fraction], [1]], 2 * fraction + 2)
    for _ in range(_iterations(bits)):
        product = yield from scaled_down(party, (yield from multiply(party, state[0], state[1])), fraction, 2 * fraction + 5)
        residual = constant(party, domain, 1 << fraction - 1) - product
        state += yield from scaled_down(party, (yield from multiply(party, state, residual)), fraction, 2 * fraction + 5)
    raised = (yield from multiply(party, state[0], to_root)) + constant(party, domain, 1 << fraction - 1)
    return (yield from floor_divide(party, raised, 1 << fraction, fraction + pairs + 2, fraction + 1))


def _leading_pairs(party: Party, x: Shares, bits: int) -> Protocol[Shares]:
    """For each pair of bits, the first axis, 1 where 4^pair <= x < 4^(pair + 1), else 0."""
    width = bits + 2
    known = (yield from bits_of(party, x, bits + 1)).scaled(pack((1 << width) - 1, width))
    reached = parities((yield from suffix_or(party, known, width)), _even_places(width)).rearranged(lambda part: np.moveaxis(part, -1, 0))
    at_least = yield from to_arithmetic(party, x.domain, reached)
    none = constant(party, x.domain, np.zeros((1, *x.shape), dtype=object))
    return at_least - at_least[1:].joined(none)


@cache
def _even_places(width: int) -> npt.NDArray[np.uint64]:
    """A mask for the lower bit of each pair below ``width`` - 1."""
    return np.asarray(pack([1 << place for place in range(0, width - 1, 2)], width))


def _fraction(bits: int) -> int:
    """Fraction bits of the iteration."""
    return 2 * (bits // 2 + 1) + _PRECISION


def _iterations(bits: int) -> int:
    """Iterations until the relative error is below 2^-(bits / 2 + 6); each takes e to less than e^2."""
    count, error = 0, _START_ERROR
    while error > 2.0 ** -(bits // 2 + 6):
        count, error = count + 1, 0.75 * error**2 + 0.25 * error**3
    return count
