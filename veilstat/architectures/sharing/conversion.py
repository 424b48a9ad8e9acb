"""Exact changes of domain for rows: comparisons, division by powers of two, wider rings, and totals into the field.

The three components of a sharing modulo 2^k are integers, each known to two servers, hence shared as bits without a
message. Added as bits (carry-save, then a prefix of carries) they show what rounding each by itself has lost: what is
carried over the place of rounding, which follows from the bits below it, and how often the sum has passed 2^k, which
follows from the two highest bits of each where the value leaves one bit of the ring unused. Nothing is opened, and no
result is wrong with any probability.
"""

from __future__ import annotations

import numpy as np

from .araki16 import Domain, Elements, Shares, constant, reshare, stacked
from .prss import Party
from .ring import NARROW, RingDomain, narrowed
from .rounds import Protocol, gather
from .words import WORD, WORDS, above, bit, carries, shifted_left, to_arithmetic

_TOP_BITS = 2


def everywhere(party: Party, domain: Domain, integer: int, shape: tuple[int, ...]) -> Shares:
    """One public integer as a sharing of any shape; it is encoded once."""
    single = constant(party, domain, np.array(integer, dtype=object))
    return single.rearranged(lambda part: np.broadcast_to(part, shape))


def divided(party: Party, shares: Shares, places: int, target: Domain) -> Protocol[Shares]:
    """floor(x / 2^places) of a vector of signed integers |x| < 2^(k - 2) modulo 2^k, as shares of another domain.

    With places = 0 a change of domain. Rounds: 2 + max(4, 2 + ceil(log2(places))), where quotients may wrap in the target
    without harm 4 + ceil(log2(places)).
    """
    width = shares.domain.element_bytes * 8
    offset, wrapped = 1 << width - 2, 1 << width - places
    positive = shares + everywhere(party, shares.domain, offset, shares.shape)
    parts = (_shifted(part, places, target) for part in (positive.own, positive.previous))
    quotient = Shares(target, *parts) - everywhere(party, target, offset >> places, shares.shape)
    counts: list[Protocol[list[Shares]]] = []
    weights: list[int] = []
    if places:
        counts, weights = [_carried(party, positive, places)], [1, 1]
    if wrapped % target.order:
        counts, weights = [*counts, _wraps(party, positive, width)], [*weights, -wrapped, -2 * wrapped]
    bits = [digit for count in (yield from gather(counts)) for digit in count]
    if not bits:
        return quotient
    lifted = yield from to_arithmetic(party, target, stacked(bits))
    return quotient + lifted.scaled(np.array(weights, dtype=object)[:, None]).total(axis=0)


def _carried(party: Party, shares: Shares, places: int) -> Protocol[list[Shares]]:
    """Two bits for each element whose sum is what the components carry over ``places``; 2 + ceil(log2(places)) rounds."""
    words = Shares(WORDS, *(_packed(_words(part), places) for part in (shares.own, shares.previous)))
    _, majority, carried = yield from _added(party, words, places)
    return [_bit_of_each(found, places - 1, places, shares.shape) for found in (majority, carried)]


def _wraps(party: Party, shares: Shares, width: int) -> Protocol[list[Shares]]:
    """The lower and the higher bit of how often the components' sum passes 2^width, for elements x < 2^(width - 1).

    This number w is floor((t + 2) / 4), where t adds the two highest bits of each component: t = 4 w + x / 2^(width - 2) - r
    with 0 <= r < 3 for what these bits leave out.
    """
    tops = Shares(NARROW, *(_words(part)[..., -1] >> np.uint64(WORD - _TOP_BITS) for part in (shares.own, shares.previous)))
    raised = tops + everywhere(party, NARROW, 2, tops.shape)
    words = Shares(WORDS, *(_packed(part[..., None], 2 * _TOP_BITS) for part in (raised.own, raised.previous)))
    total, _, _ = yield from _added(party, words, 2 * _TOP_BITS)
    return [_bit_of_each(total, place, 2 * _TOP_BITS, shares.shape) for place in (_TOP_BITS, _TOP_BITS + 1)]


def signs(party: Party, shares: Shares, bits: int) -> Protocol[Shares]:
    """Words that are 1 where x < 0, else 0, for a vector of |x| < 2^bits, bits < 64; 2 + ceil(log2(bits + 1)) rounds."""
    width = bits + 1
    total = yield from total_bits(party, shares, width)
    return _bit_of_each(total, width - 1, width, shares.shape)


def total_bits(party: Party, shares: Shares, width: int) -> Protocol[Shares]:
    """The lowest ``width`` bits, at most 64, of a vector's elements in two's complement, side by side in words."""
    low = narrowed(shares)
    words = Shares(WORDS, *(_packed(_words(part), width) for part in (low.own, low.previous)))
    total, _, _ = yield from _added(party, words, width)
    return total


def _added(party: Party, words: Shares, width: int) -> Protocol[tuple[Shares, Shares, Shares]]:
    """The sum modulo 2^width of components that are integers in words, and the carries of its two additions.

    Each product in the majority of three components is known to one server.
    """
    majority = yield from reshare(party, WORDS, words.own & words.previous)
    moved = shifted_left(majority, 1).scaled(above(width, 1))
    carried = yield from carries(party, words, moved, width)
    return words + moved + shifted_left(carried, 1).scaled(above(width, 1)), majority, carried


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


def _packed(words: Elements, width: int) -> Elements:
    """The lowest ``width`` bits of a vector of integers, side by side in words where they are narrow: shape (..., words)."""
    lanes = _lanes(width)
    if lanes == 1:
        return words[:, : -(-width // WORD)]
    values = words[:, 0]
    padded = np.zeros(-(-len(values) // lanes) * lanes, dtype=np.uint64)
    padded[: len(values)] = values & np.uint64((1 << width) - 1)
    packed = np.zeros(len(padded) // lanes, dtype=np.uint64)
    for lane in range(lanes):
        packed |= padded[lane::lanes] << np.uint64(lane * width)
    return packed[:, None]


def _bit_of_each(words: Shares, place: int, width: int, shape: tuple[int, ...]) -> Shares:
    """One bit of each packed integer, as a word that is 0 or 1."""
    if _lanes(width) == 1:
        return bit(words, place)
    places = np.arange(_lanes(width), dtype=np.uint64) * np.uint64(width) + np.uint64(place)
    return words.rearranged(lambda part: ((part >> places) & np.uint64(1)).reshape(-1)[: shape[0]])
