"""Exact changes of domain for rows: comparisons, division by powers of two, wider rings, and totals into the field.

The three components of a sharing modulo 2^k are integers, each known to two servers, hence shared as bits without a
message. Adding them as bits (carry-save, then a prefix of carries) shows what is carried over any place: what
rounding each component by itself has lost there, and at the top how often the sum has passed 2^k. Nothing is opened
and nothing depends on spare bits, so every result is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .araki16 import Domain, Elements, Shares, component, constant, multiply, stacked
from .prss import Party
from .ring import RingDomain, narrowed
from .rounds import SERVERS, Protocol
from .words import WORD, WORDS, above, bit, carries, shifted_left, to_arithmetic


def everywhere(party: Party, domain: Domain, integer: int, shape: tuple[int, ...]) -> Shares:
    """One public integer as a sharing of any shape; it is encoded once."""
    single = constant(party, domain, np.array(integer, dtype=object))
    return single.rearranged(lambda part: np.broadcast_to(part, shape))


@dataclass(frozen=True, slots=True)
class Sum:
    """The components of a sharing added as bits, modulo 2^width; ``positive`` is what they were after an offset for the sign."""

    positive: Shares
    total: Shares
    majority: Shares
    carried: Shares

    @property
    def width(self) -> int:
        return self.positive.domain.element_bytes * 8

    def over(self, place: int) -> Shares:
        """Two bits for each element whose sum is what is carried from below ``place`` over it."""
        return stacked([bit(self.majority, place - 1), bit(self.carried, place - 1)])


def summed(party: Party, shares: Shares) -> Protocol[Sum]:
    """Signed integers plus half of the ring's order, as bits; 2 + log2(bits of the ring) rounds."""
    positive = shares + everywhere(party, shares.domain, shares.domain.order >> 1, shares.shape)
    words = Shares(WORDS, _words(positive.own), _words(positive.previous))
    total, majority, carried = yield from _added(party, words, shares.domain.element_bytes * 8)
    return Sum(positive, total, majority, carried)


def quotient(party: Party, dividend: Sum, places: int, target: Domain) -> Protocol[Shares]:
    """floor(x / 2^places) of the signed integers that were summed, as shares of another domain; two rounds."""
    order = 1 << dividend.width - places
    tops = [dividend.over(place) for place in (places, dividend.width) if place]
    counts = (yield from to_arithmetic(party, target, stacked(tops))).total(axis=1)
    parts = (_shifted(part, places, target) for part in (dividend.positive.own, dividend.positive.previous))
    offset = everywhere(party, target, order >> 1, dividend.positive.shape)
    rounded = Shares(target, *parts) - counts[len(tops) - 1].scaled(order) - offset
    return rounded + counts[0] if places else rounded


def divided(party: Party, shares: Shares, places: int, target: Domain) -> Protocol[Shares]:
    """floor(x / 2^places) of signed integers; 10 rounds modulo 2^64, 11 modulo 2^128. With places = 0 a change of domain."""
    return (yield from quotient(party, (yield from summed(party, shares)), places, target))


def signs(party: Party, shares: Shares, bits: int) -> Protocol[Shares]:
    """Words that are 1 where x < 0, else 0, for a vector of |x| < 2^bits, bits < 64; 2 + ceil(log2(bits + 1)) rounds."""
    width = bits + 1
    low = narrowed(shares)
    words = Shares(WORDS, _packed(low.own, width), _packed(low.previous, width))
    total, _, _ = yield from _added(party, words, width)
    return total.rearranged(lambda part: _unpacked_tops(part, width)[: len(low.own)])


def _added(party: Party, words: Shares, width: int) -> Protocol[tuple[Shares, Shares, Shares]]:
    """The sum modulo 2^width of components that are integers in words, and the carries of its two additions."""
    a, b, c = (component(party, words, place) for place in range(SERVERS))
    within = above(width, 1)
    majority = (yield from multiply(party, a + b, a + c)) + a
    partial, moved = a + b + c, shifted_left(majority, 1).scaled(within)
    carried = yield from carries(party, partial, moved, width)
    return partial + moved + shifted_left(carried, 1).scaled(within), majority, carried


def _words(elements: Elements) -> Elements:
    """Elements of a ring as integers in words, on a last axis."""
    words: Elements = elements[..., None].view(np.uint64)
    return words


def _shifted(elements: Elements, places: int, target: Domain) -> Elements:
    """floor(x / 2^places) of the integers in [0, 2^bits) that elements are, in another domain."""
    words = np.concatenate([_words(elements), np.zeros((*elements.shape, 2), dtype=np.uint64)], axis=-1)
    whole, within = divmod(places, WORD)
    low, high = (_joined(words[..., place], words[..., place + 1], within) for place in (whole, whole + 1))
    if isinstance(target, RingDomain):
        return target.from_words(low, high)
    return target.encode(low.astype(object) + (high.astype(object) << WORD))


def _joined(low: Elements, high: Elements, places: int) -> Elements:
    return low if places == 0 else (low >> np.uint64(places)) | (high << np.uint64(WORD - places))


def _lanes(width: int) -> int:
    """How many integers of ``width`` bits a word holds."""
    return max(1, WORD // width)


def _packed(values: npt.NDArray[np.uint64], width: int) -> Elements:
    """The lowest ``width`` bits of a vector of integers, side by side in words: shape (words, 1)."""
    lanes = _lanes(width)
    padded = np.zeros(-(-len(values) // lanes) * lanes, dtype=np.uint64)
    padded[: len(values)] = values & np.uint64((1 << width) - 1)
    packed = np.zeros(len(padded) // lanes, dtype=np.uint64)
    for lane in range(lanes):
        packed |= padded[lane::lanes] << np.uint64(lane * width)
    return packed[:, None]


def _unpacked_tops(words: Elements, width: int) -> Elements:
    """The highest bit of each packed integer."""
    places = np.arange(_lanes(width), dtype=np.uint64) * np.uint64(width) + np.uint64(width - 1)
    return np.asarray((words >> places) & np.uint64(1)).reshape(-1)
