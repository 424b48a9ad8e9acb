"""Exact changes of domain for rows: comparisons, wider and narrower rings, and totals into the field.

The three components of a sharing modulo 2^k are integers, each known to two servers, hence shared as bits without a
message. Their sum exceeds the value by 2^k once or twice or not at all; a carry-save step and a prefix of carries
tell how often. Nothing is opened and nothing depends on spare bits, so every result is exact.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .araki16 import Domain, Elements, Shares, component, constant, multiply, stacked
from .prss import Party
from .ring import NARROW, WIDE, narrowed, upper_words
from .rounds import SERVERS, Protocol
from .words import WORD, WORDS, above, bit, carries, shifted_left, to_arithmetic


def wraps(party: Party, shares: Shares, target: Domain) -> Protocol[Shares]:
    """How often the components' sum reaches a multiple of their ring's order, 0 to 2, as shares of ``target``.

    10 rounds modulo 2^64, 11 modulo 2^128.
    """
    width = shares.domain.element_bytes * 8
    words = Shares(WORDS, _words(shares.own), _words(shares.previous))
    _, majority, carried = yield from _summed(party, words, width)
    tops = stacked([bit(majority, width - 1), bit(carried, width - 1)])
    return (yield from to_arithmetic(party, target, tops)).total(axis=0)


def to_field(party: Party, totals: Shares, target: Domain) -> Protocol[Shares]:
    """Signed integers of a ring as the same integers in another domain; as many rounds as ``wraps``."""
    order = totals.domain.order
    positive = totals + constant(party, totals.domain, np.full(totals.shape, order >> 1, dtype=object))
    times = yield from wraps(party, positive, target)
    summed = Shares(target, *(target.encode(_unsigned(part)) for part in (positive.own, positive.previous)))
    return summed - times.scaled(order) - constant(party, target, np.full(totals.shape, order >> 1, dtype=object))


def widened(party: Party, shares: Shares) -> Protocol[Shares]:
    """Signed integers modulo 2^64 as the same integers modulo 2^128; 10 rounds."""
    offset = np.full(shares.shape, 1 << 63, dtype=np.uint64)
    positive = shares + constant(party, NARROW, offset)
    times = yield from wraps(party, positive, WIDE)
    summed = Shares(WIDE, WIDE.encode(positive.own), WIDE.encode(positive.previous))
    return summed - times.scaled(1 << WORD) - constant(party, WIDE, offset)


def upper_half(party: Party, shares: Shares) -> Protocol[Shares]:
    """floor(x / 2^64) of signed integers modulo 2^128, modulo 2^64: an exact division at no cost in bits; 10 rounds."""
    times = yield from wraps(party, narrowed(shares), NARROW)
    return upper_words(shares) + times


def signs(party: Party, shares: Shares, bits: int) -> Protocol[Shares]:
    """Words that are 1 where x < 0, else 0, for a vector of |x| < 2^bits, bits < 64; 2 + ceil(log2(bits + 1)) rounds."""
    width = bits + 1
    low = narrowed(shares)
    words = Shares(WORDS, _packed(low.own, width), _packed(low.previous, width))
    total, _, _ = yield from _summed(party, words, width)
    return total.rearranged(lambda part: _unpacked_tops(part, width)[: len(low.own)])


def _summed(party: Party, words: Shares, width: int) -> Protocol[tuple[Shares, Shares, Shares]]:
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


def _unsigned(elements: Elements) -> npt.NDArray[np.object_]:
    words = _words(elements).astype(object)
    return np.asarray(sum(words[..., place] << WORD * place for place in range(words.shape[-1])), dtype=object)


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
