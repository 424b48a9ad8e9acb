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
from .floor import MASKING, bits_of, floor_divide, less_than_zero, scaled_down
from .prss import Party
from .rounds import Protocol, gather
from .words import WORDS, bit, pack, parities, shifted_left, shifted_right, suffix_or, to_arithmetic

LOWEST, HIGHEST = -(1 << 128), (1 << 128) - 1
"""Quotients that are opened; others become ``OUT_OF_RANGE``."""
UNDEFINED, OUT_OF_RANGE = 1 << 129, 1 << 130

Integers = npt.NDArray[np.object_]
Places = npt.NDArray[np.int64]

# An estimate misses the quotient by less than half a unit before it is truncated: a quarter for the factors that are
# left out, 3 / 2^5 for the truncated numerator, and some fifteen truncations of at most 3 / 2^12 each.
# Truncation adds -1 to 3 units, so that floor(N / D) - estimate is one of -4, ..., 1.
_GUARD = 5
_PRECISION = 12

# The linear start 24/17 - 8/17 x misses 1 / x on [1, 2] by at most one part in 17, which is 4.08 bits.
_START = 16
_CONSTANT, _SLOPE = round(24 / 17 * 2**_START), round(8 / 17 * 2**_START)
_START_BITS = 4.08


@dataclass(frozen=True, slots=True)
class Precision:
    """Public sizes of a division: |N| < 2^numerator, |D| < 2^divisor, and quotients from ``low`` to ``high`` are wanted."""

    numerator: int
    divisor: int
    low: int = LOWEST
    high: int = HIGHEST

    def __post_init__(self) -> None:
        if self.numerator < 1 or self.divisor < 1 or not self.low <= 0 <= self.high:
            raise ValueError("a division has numerators and divisors of at least one bit, and its range holds 0")

    @property
    def bounded(self) -> bool:
        """Whether no quotient can leave the range."""
        return 1 << self.numerator <= min(self.high + 1, -self.low)

    @property
    def edge(self) -> int:
        """Bits of N less a multiple of D at the edge of the range."""
        return max(self.numerator, (self.high + 1).bit_length() + self.divisor, self.low.bit_length() + self.divisor) + 1

    @property
    def limit(self) -> int:
        """Quotients in the range are below 2^limit in magnitude, or -2^limit."""
        return min(self.numerator, max(self.high.bit_length(), (-self.low - 1).bit_length(), 1))

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
        return max(self.edge, OUT_OF_RANGE.bit_length(), self.limit + self.divisor + 3, 2 * self.fraction + _START + 2, last)


@dataclass(frozen=True, slots=True)
class Quotients:
    """``values``: floor(N / D), or 0 where ``inside`` is 0; ``undefined``: 1 where D = 0, and then ``inside`` is 0."""

    values: Shares = field(repr=False)
    inside: Shares = field(repr=False)
    undefined: Shares = field(repr=False)

    def marked(self, party: Party) -> Shares:
        """The values, or ``UNDEFINED``, or ``OUT_OF_RANGE``."""
        one = constant(party, self.values.domain, 1)
        return self.values + self.undefined.scaled(UNDEFINED) + (one - self.undefined - self.inside).scaled(OUT_OF_RANGE)


@dataclass(frozen=True, slots=True)
class _Signed:
    """Numerators and divisors times the divisors' signs, and 1 where the quotient is in range."""

    numerators: Shares = field(repr=False)
    divisors: Shares = field(repr=False)
    inside: Shares = field(repr=False)


def floor_quotients(party: Party, numerators: Shares, divisors: Shares, which: Places, precision: Precision) -> Protocol[Quotients]:
    """floor(N / D) for vectors N and D, numerator k over divisor ``which[k]``; each divisor is normalised once."""
    bits = yield from bits_of(party, divisors, precision.divisor)
    signed, (shift, undefined) = yield from gather(
        [_signed(party, numerators, divisors, which, bits, precision), _normalisation(party, divisors.domain, bits, precision.divisor)]
    )
    inside = constant(party, divisors.domain, 1) - undefined[which] if precision.bounded else signed.inside
    magnitude = signed.divisors + undefined
    (inverse, fraction), (kept, scaled) = yield from gather(
        [_inverse(party, magnitude, shift, precision), _kept(party, signed.numerators, inside, shift[which], precision)]
    )
    approximate = yield from multiply(party, scaled, inverse[which])
    estimate = yield from scaled_down(party, approximate, fraction + _GUARD, precision.limit + _GUARD + fraction + 3)
    correction = yield from _correction(party, kept, estimate, magnitude[which], precision)
    return Quotients(estimate + correction, inside, undefined[which])


def public_quotients(party: Party, numerators: Shares, divisors: Integers, precision: Precision) -> Protocol[Quotients]:
    """The same for public divisors, one for each numerator."""
    domain = numerators.domain
    defined = (divisors != 0).astype(object)
    d = abs(divisors) + (1 - defined)
    signed = numerators.scaled(np.sign(divisors))
    if precision.bounded:
        values = yield from floor_divide(party, signed, d, precision.numerator, precision.divisor)
        return Quotients(values, constant(party, domain, defined), constant(party, domain, 1 - defined))
    edges = constant(party, domain, np.stack([d * (precision.high + 1), d * precision.low]))
    above = stacked([signed, signed]) - edges
    values, below = yield from gather(
        [floor_divide(party, signed, d, precision.numerator, precision.divisor), less_than_zero(party, above, precision.edge)]
    )
    inside = (below[0] - below[1]).scaled(defined)
    return Quotients((yield from multiply(party, values, inside)), inside, constant(party, domain, 1 - defined))


def _signed(party: Party, numerators: Shares, divisors: Shares, which: Places, bits: Shares, precision: Precision) -> Protocol[_Signed]:
    """Whether low |D| <= N sign(D) < (high + 1) |D|: never where D = 0, so that what follows has bounds."""
    one = constant(party, divisors.domain, 1)
    negative = yield from to_arithmetic(party, divisors.domain, bit(bits, precision.divisor))
    sign = one - negative.scaled(2)
    products = yield from multiply(party, sign[which].joined(sign), numerators.joined(divisors))
    n, d = products[: len(which)], products[len(which) :]
    if precision.bounded:
        return _Signed(n, d, one)
    edges = [d[which].scaled(edge) for edge in (precision.high + 1, precision.low)]
    below = yield from less_than_zero(party, stacked([n - edge for edge in edges]), precision.edge)
    return _Signed(n, d, below[0] - below[1])


def _normalisation(party: Party, domain: Domain, bits: Shares, divisor: int) -> Protocol[tuple[Shares, Shares]]:
    """(shift, zero): the power of 2 with |D| shift in [2^divisor, 2^(divisor + 1)], as for |D| = 1 where D = 0, and 1 there.

    The leading bit of 2 |D|, or of 2 |D| - 1 where D < 0, is that of 2 D with all bits inverted where D < 0.
    """
    inverted = bit(bits, divisor).rearranged(lambda part: (np.uint64(0) - part)[..., None])
    below = pack((1 << (divisor + 1)) - 1, divisor + 1)
    filled = yield from suffix_or(party, (shifted_left(bits, 1) + inverted).scaled(below), divisor + 1)
    last = pack(1, divisor + 1)
    empty = (filled + constant(party, WORDS, np.broadcast_to(last, filled.shape))).scaled(last)
    leading = filled + shifted_right(filled, 1) + shifted_left(empty, 1)
    exponents = parities(leading, _exponent_masks(divisor))
    flags = exponents.rearranged(lambda part: np.moveaxis(part, -1, 0)).joined(bit(empty, 0)[None])
    arithmetic = yield from to_arithmetic(party, domain, flags)
    weights = np.array([[(1 << (1 << place)) - 1] for place in range(len(arithmetic.own) - 1)], dtype=object)
    factors = arithmetic[:-1].scaled(weights) + constant(party, domain, 1)
    return (yield from product(party, factors)).scaled(2), arithmetic[-1]


@cache
def _exponent_masks(divisor: int) -> npt.NDArray[np.uint64]:
    """For each bit of a shift by divisor - k places, the places k of leading bits that need it."""
    places = range(divisor + 1)
    masks = [sum(1 << k for k in places if (divisor - k) >> digit & 1) for digit in range(divisor.bit_length())]
    return np.asarray(pack(masks, divisor + 1))


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
    return constant(party, kept.domain, 1) - below.total(axis=0)


def _with_fraction(party: Party, x: Shares, fraction: int, wanted: int, bits: int) -> Protocol[Shares]:
    """From ``fraction`` to ``wanted`` fraction bits: exactly, or truncated."""
    if fraction <= wanted:
        return x.scaled(1 << (wanted - fraction))
    return (yield from scaled_down(party, x, fraction - wanted, bits))
