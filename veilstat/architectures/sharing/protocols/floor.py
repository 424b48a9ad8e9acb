"""Exact division by public integers, comparisons and choice, by opening values under statistical masks.

A value of b bits is opened under the sum of three masks of b + 65 bits, one from each key, so that what any server
learns is within 2^-64 of independent of the value. What division by d leaves over, u = c mod d - sum (r_i mod d), is
larger than -3 d and smaller than d; three comparisons on the bits of d settle the quotient exactly (the idea of
masked opening: Catrina, de Hoogh, SCN 2010; here no probability of a wrong result is left).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .adder import sliced, top_bit
from .araki16 import Domain, Shares, constant, multiply, open_masked, stacked
from .prss import Party, random_integers
from .rounds import Protocol
from .turns import Held, held, parted, to_arithmetic
from .words import difference, pack

STATISTICAL_SECURITY = 64
MASKING = STATISTICAL_SECURITY + 3
"""Bits that the field must have beyond those of a value that is opened under a mask."""

Integers = npt.NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class Masked:
    """The public integer ``opened`` = x + r_0 + r_1 + r_2, and the masks r_i and r_(i-1) that this server knows."""

    opened: Integers
    own: Integers = field(repr=False)
    previous: Integers = field(repr=False)


def open_under_mask(party: Party, x: Shares, bits: int) -> Protocol[Masked]:
    """Open x + r for |x| < 2^bits, element by element; one round.

    Raises:
        ValueError: the field is too small for the masks; it must be chosen with ``MASKING`` bits to spare.
    """
    if 1 << (bits + MASKING) > x.domain.order + 1:
        raise ValueError(f"values of {bits} bits do not fit under a mask in this field")
    own, previous = (part.reshape(x.shape) for part in random_integers(party, bits + 1 + STATISTICAL_SECURITY, x.own.size))
    masks = Shares(x.domain, x.domain.encode(own), x.domain.encode(previous))
    opened = yield from open_masked(x + masks + constant(party, x.domain, 1 << bits))
    return Masked(opened - (1 << bits), own, previous)


def floor_divide(party: Party, x: Shares, divisors: Any, bits: int, divisor_bits: int) -> Protocol[Shares]:
    """floor(x / d) for |x| < 2^bits and public integers 1 <= d < 2^divisor_bits, which broadcast; 5 + ceil(log2((divisor_bits + 2) / 4)) rounds.

    Messages are as long as the bounds say, whatever the divisors, so that a plan knows their lengths.
    """
    d = np.broadcast_to(np.asarray(divisors, dtype=object), x.shape)
    masked = yield from open_under_mask(party, x, bits)
    estimate = _without_masks(party, x.domain, masked, d)
    own, previous = (np.asarray(part % d, dtype=object) for part in (masked.own, masked.previous))
    left_over = masked.opened % d
    thresholds = np.stack([left_over, left_over + d, left_over + 2 * d])
    below = yield from _below_zero(party, x.domain, Masked(thresholds, own, previous), divisor_bits + 3)
    return estimate - below.total(axis=0)


def scaled_down(party: Party, x: Shares, places: Any, bits: int) -> Protocol[Shares]:
    """About x / 2^places for |x| < 2^bits and places that broadcast, at most one unit too small and three too large, never more; one round."""
    masked = yield from open_under_mask(party, x, bits)
    return _without_masks(party, x.domain, masked, np.broadcast_to(2 ** np.asarray(places, dtype=object), x.shape))


def moved(party: Party, x: Shares, bits: int, domain: Domain) -> Protocol[Shares]:
    """The same integers, |x| < 2^bits, shared over another domain; one round."""
    masked = yield from open_under_mask(party, x, bits)
    masks = Shares(domain, domain.encode(masked.own), domain.encode(masked.previous))
    return constant(party, domain, masked.opened) - masks


def bits_of(party: Party, x: Shares, bits: int) -> Protocol[Shares]:
    """The two's complement of x, |x| < 2^bits, as shared words, bits + 1 of them defined; 3 + ceil(log2(bits + 1)) rounds."""
    masked = yield from open_under_mask(party, x, bits)
    masks = Shares(x.domain, masked.own, masked.previous)
    return (yield from difference(party, masked.opened - masked.own - masked.previous, masks, bits + 1))


def less_than_zero(party: Party, x: Shares, bits: int) -> Protocol[Shares]:
    """1 where x < 0, else 0, for |x| < 2^bits; 5 + ceil(log2(bits / 4)) rounds."""
    return (yield from _below_zero(party, x.domain, (yield from open_under_mask(party, x, bits)), bits + 1))


def equal_to_zero(party: Party, x: Shares, bits: int) -> Protocol[Shares]:
    """1 where x = 0, else 0, for |x| < 2^bits; as many rounds as ``less_than_zero``."""
    outside = yield from less_than_zero(party, stacked([x, x.scaled(-1)]), bits)
    return constant(party, x.domain, 1) - outside.total(axis=0)


def select(party: Party, condition: Shares, if_one: Shares, if_zero: Shares) -> Protocol[Shares]:
    """``if_one`` where the condition is 1, ``if_zero`` where it is 0; one round."""
    return if_zero + (yield from multiply(party, condition, if_one - if_zero))


def _below_zero(party: Party, domain: Domain, masked: Masked, width: int) -> Protocol[Shares]:
    """1 where c - r_0 - r_1 - r_2, of ``width`` bits with its sign, is negative; masks broadcast."""
    opened = np.asarray(masked.opened, dtype=object)
    shape, count = opened.shape, opened.size
    own, previous = (-np.broadcast_to(part, shape).reshape(-1) for part in (masked.own, masked.previous))
    masks = held(party, own, previous, np.add)
    integers = Held(masks.mine + parted(opened.reshape(-1))[party.index], masks.theirs)
    slices = integers.each(lambda part: sliced(pack(part, width), width))
    negative = yield from top_bit(party, slices, count)
    return (yield from to_arithmetic(party, domain, negative, count)).reshape(shape)


def _without_masks(party: Party, domain: Domain, masked: Masked, divisors: Integers) -> Shares:
    """floor(c / d) - sum floor(r_i / d): x / d with the error of four roundings."""
    quotients = Shares(domain, domain.encode(masked.own // divisors), domain.encode(masked.previous // divisors))
    return constant(party, domain, masked.opened // divisors) - quotients
