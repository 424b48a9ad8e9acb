"""floor(N / D) of shared integers, exactly, always: the last step before an answer is opened.

The divisor is normalised by the position of its leading bit, its inverse approximated by Goldschmidt's product
1 / x = w (1 + e) (1 + e^2) (1 + e^4) ... with e = 1 - x w (Ercegovac et al., IEEE Trans. Computers 2000; on shares:
Catrina, Saxena, FC 2010), which gives the quotient up to a few units; comparisons of the remainder with multiples of
the divisor settle it. Quotients beyond a public limit, and divisions by 0, end as markers in the same opening.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt

from .araki16 import Domain, Shares, constant, multiply, product, stacked
from .floor import MASKING, bits_of, less_than_zero, scaled_down
from .prss import Party
from .rounds import Protocol, gather
from .words import WORDS, bit, pack, parities, shifted_left, shifted_right, suffix_or, to_arithmetic

LIMIT_BITS = 128
"""Quotients from -2^128 to 2^128 - 1 are opened; others become ``OUT_OF_RANGE``."""
UNDEFINED = 1 << (LIMIT_BITS + 1)
OUT_OF_RANGE = 1 << (LIMIT_BITS + 2)

_GUARD = 5
_PRECISION = 12
_START = 16
_CONSTANT, _SLOPE = round(24 / 17 * 2**_START), round(8 / 17 * 2**_START)
_START_BITS = 4.08  # the linear start 24/17 - 8/17 x misses 1 / x on [1, 2] by at most one part in 17


@dataclass(frozen=True, slots=True)
class Precision:
    """Public sizes of one division: |N| < 2^numerator, |D| < 2^divisor, quotients below 2^limit in magnitude."""

    numerator: int
    divisor: int
    limit: int

    @staticmethod
    def of(numerator: int, divisor: int, limit: int = LIMIT_BITS) -> Precision:
        """With a limit that quotients of so few bits cannot exceed, where they have few."""
        return Precision(numerator, max(divisor, 1), min(numerator, limit))

    @property
    def bounded(self) -> bool:
        """Whether no quotient can exceed the limit."""
        return self.numerator <= self.limit

    @property
    def fraction(self) -> int:
        """Fraction bits of the divisor's approximate inverse."""
        return self.limit + _PRECISION

    @property
    def factors(self) -> int:
        """Factors 1 + e^(2^k) until what is left out, e^(2^factors), is below a quarter of a quotient's unit."""
        count = 0
        while _START_BITS * 2**count < self.limit + 2:
            count += 1
        return count

    @property
    def bits(self) -> int:
        """Bits of the largest value that is opened under a mask or shared at all; the field must have ``MASKING`` more."""
        last = self.limit + _GUARD + self.fraction + 3
        return max(OUT_OF_RANGE.bit_length(), self.numerator + 1, self.limit + self.divisor + 3, 2 * self.fraction + _START + 2, last)


@dataclass(frozen=True, slots=True)
class _Signed:
    """Numerators and divisors times the divisors' signs, and 1 where the quotient is within the limit."""

    numerators: Shares = field(repr=False)
    divisors: Shares = field(repr=False)
    inside: Shares = field(repr=False)


def floor_quotients(
    party: Party, numerators: Shares, divisors: Shares, which: npt.NDArray[np.int64], precision: Precision
) -> Protocol[Shares]:
    """floor(N / D) for vectors N and D, numerator k over divisor ``which[k]``; each divisor is normalised once.

    ``UNDEFINED`` where D = 0, else ``OUT_OF_RANGE`` where the quotient is not in [-2^limit, 2^limit).
    """
    bits = yield from bits_of(party, divisors, precision.divisor)
    signed, (shift, zero) = yield from gather(
        [_signed(party, numerators, divisors, which, bits, precision), _normalisation(party, divisors.domain, bits, precision.divisor)]
    )
    one = constant(party, divisors.domain, 1)
    inside = (one - zero)[which] if precision.bounded else signed.inside
    magnitude = signed.divisors + zero
    (inverse, fraction), (kept, scaled) = yield from gather(
        [_inverse(party, magnitude, shift, precision), _kept(party, signed.numerators, inside, shift[which], precision)]
    )
    estimate = yield from scaled_down(
        party,
        (yield from multiply(party, scaled, inverse[which])),
        fraction + _GUARD,
        precision.limit + _GUARD + fraction + 3,
    )
    quotients = estimate + (yield from _correction(party, kept, estimate, magnitude[which], precision))
    result: Shares = quotients + zero[which].scaled(UNDEFINED) + (one - zero[which] - inside).scaled(OUT_OF_RANGE)
    return result


def _signed(
    party: Party, numerators: Shares, divisors: Shares, which: npt.NDArray[np.int64], bits: Shares, precision: Precision
) -> Protocol[_Signed]:
    """-2^limit |D| <= N sign(D) < 2^limit |D|: never where D = 0, so that what follows has bounds."""
    one = constant(party, divisors.domain, 1)
    negative = yield from to_arithmetic(party, divisors.domain, bit(bits, precision.divisor))
    sign = one - negative.scaled(2)
    products = yield from multiply(party, sign[which].joined(sign), numerators.joined(divisors))
    n, d = products[: len(which)], products[len(which) :]
    if precision.bounded:
        return _Signed(n, d, one)
    edge = d[which].scaled(1 << precision.limit)
    below = yield from less_than_zero(
        party, stacked([n - edge, n + edge]), max(precision.numerator, precision.limit + precision.divisor) + 1
    )
    return _Signed(n, d, below[0] - below[1])


def _normalisation(party: Party, domain: Domain, bits: Shares, divisor: int) -> Protocol[tuple[Shares, Shares]]:
    """(shift, zero): the power of 2 with |D| shift in [2^divisor, 2^(divisor + 1)], as for |D| = 1 where D = 0, and 1 there.

    The leading bit of 2 |D|, or of 2 |D| - 1 where D < 0, is that of 2 D with all bits inverted where D < 0.
    """
    inverted = bit(bits, divisor).rearranged(lambda part: (np.uint64(0) - part)[..., None])
    below = pack(np.array((1 << (divisor + 1)) - 1, dtype=object), divisor + 2)
    filled = yield from suffix_or(party, (shifted_left(bits, 1) + inverted).scaled(below), divisor + 1)
    last = pack(np.array(1, dtype=object), divisor + 2)
    empty = (filled + constant(party, WORDS, np.broadcast_to(last, filled.shape))).scaled(last)
    leading = filled + shifted_right(filled, 1) + shifted_left(empty, 1)
    exponents = parities(leading, _exponent_masks(divisor))
    flags = exponents.rearranged(lambda part: np.moveaxis(part, -1, 0)).joined(bit(empty, 0)[None])
    arithmetic = yield from to_arithmetic(party, domain, flags)
    weights = np.array([[(1 << (1 << place)) - 1] for place in range(len(arithmetic.own) - 1)], dtype=object)
    factors = arithmetic[:-1].scaled(weights) + constant(party, domain, np.ones(arithmetic[:-1].shape, dtype=object))
    return (yield from product(party, factors)).scaled(2), arithmetic[-1]


@cache
def _exponent_masks(divisor: int) -> npt.NDArray[np.uint64]:
    """For each bit of a shift by divisor - k places, the places k of leading bits that need it."""
    places = range(divisor + 1)
    masks = [sum(1 << k for k in places if (divisor - k) >> digit & 1) for digit in range(divisor.bit_length())]
    return np.asarray(pack(np.array(masks, dtype=object), divisor + 2))


def _inverse(party: Party, magnitude: Shares, shift: Shares, precision: Precision) -> Protocol[tuple[Shares, int]]:
    """2^divisor / (|D| shift) with a number of fraction bits that is returned; products grow as far as the field has room."""
    t = precision.fraction
    x = yield from _with_fraction(party, (yield from multiply(party, magnitude, shift)), precision.divisor, t, precision.divisor + 2)
    room = x.domain.order.bit_length() - MASKING
    start = constant(party, x.domain, _CONSTANT << t) - x.scaled(_SLOPE)
    error = constant(party, x.domain, 1 << (2 * t + _START)) - (yield from multiply(party, x, start))
    state = yield from scaled_down(party, stacked([start, error]), [[_START], [t + _START]], 2 * t + _START + 2)
    fraction = t
    for _ in range(precision.factors):
        if 2 * fraction + 2 > room:
            state = yield from scaled_down(party, state, fraction - t, fraction + 2)
            fraction = t
        one = constant(party, x.domain, 1 << fraction)
        state = yield from multiply(party, state, stacked([state[1] + one, state[1]]))
        fraction *= 2
    if precision.limit + _GUARD + fraction + 3 > room:
        state = yield from scaled_down(party, state, fraction - t, fraction + 2)
        fraction = t
    return state[0], fraction


def _kept(party: Party, numerators: Shares, inside: Shares, shift: Shares, precision: Precision) -> Protocol[tuple[Shares, Shares]]:
    """Numerators where the quotient is inside the limit, else 0; and those scaled as their divisors."""
    kept = yield from multiply(party, numerators, inside)
    shifted = yield from multiply(party, kept, shift)
    b = precision.divisor
    return kept, (yield from _with_fraction(party, shifted, b, _GUARD, precision.limit + b + 2))


def _correction(party: Party, kept: Shares, estimate: Shares, magnitude: Shares, precision: Precision) -> Protocol[Shares]:
    """floor(N / D) - estimate, which is one of -4, ..., 1: how often the remainder holds D."""
    remainder = kept - (yield from multiply(party, estimate, magnitude))
    multiples = stacked([remainder - magnitude.scaled(times) for times in range(-3, 2)])
    below = yield from less_than_zero(party, multiples, precision.divisor + 3)
    return constant(party, kept.domain, np.ones(kept.shape, dtype=object)) - below.total(axis=0)


def _with_fraction(party: Party, x: Shares, fraction: int, wanted: int, bits: int) -> Protocol[Shares]:
    """From ``fraction`` to ``wanted`` fraction bits: exactly, or truncated."""
    if fraction <= wanted:
        return x.scaled(1 << (wanted - fraction))
    return (yield from scaled_down(party, x, fraction - wanted, bits))
