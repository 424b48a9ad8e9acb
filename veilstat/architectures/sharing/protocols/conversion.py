"""Exact changes of domain for rows: comparisons, division by powers of two, wider rings, and totals into the field.

A sharing modulo 2^k is the sum of two integers, one known to one server and the other to the other two (`turns.py`).
Rounding each by itself loses the carry over the place of rounding, which follows from the bits below it, and what the
sum has passed 2^k: where the value leaves the highest bit of the ring unused, it has if either addend's highest bit is
set. Nothing is opened, and no result is wrong with any probability.
"""

from __future__ import annotations

import numpy as np

from .adder import bits_held, carries, sliced, top_bit, unsliced
from .araki16 import Domain, Elements, Shares, constant, reshare
from .prss import Party
from .ring import RingDomain, narrowed
from .rounds import SERVERS, Protocol, gather
from .turns import Held, either, held, once, part_size, shared, to_arithmetic, whole
from .words import OCTETS, WORD


def everywhere(party: Party, domain: Domain, integer: int, shape: tuple[int, ...]) -> Shares:
    """One public integer as a sharing of any shape; it is encoded once."""
    single = constant(party, domain, np.array(integer, dtype=object))
    return single.rearranged(lambda part: np.broadcast_to(part, shape))


def divided(party: Party, shares: Shares, places: int, target: Domain) -> Protocol[Shares]:
    """floor(x / 2^places) of a vector of signed integers |x| < 2^(k - 2) modulo 2^k, as shares of another domain.

    With places = 0 a change of domain: 2 rounds, none into a ring that is not wider; otherwise 4 + ceil(log2(places / 4)).
    """
    (quotient,) = yield from quotients(party, shares, (places,), target)
    return quotient


def quotients(party: Party, shares: Shares, places: tuple[int, ...], target: Domain) -> Protocol[list[Shares]]:
    """``divided`` by several powers of two at once, which ascend; the largest decides the rounds."""
    width, count = shares.domain.element_bytes * 8, len(shares.own)
    if places == (0,) and isinstance(target, RingDomain) and target.bits <= width:
        return [shares if target == shares.domain else narrowed(shares)]
    addends = addends_of(party, raised(party, shares))
    slices = addends.each(lambda words: sliced(words, places[-1]))
    below = (yield from carries(party, slices, places)) if places != (0,) else None
    return (yield from rounded(party, shares.domain, addends, below, places, target, count))


def raised(party: Party, shares: Shares) -> Shares:
    """Elements plus 2^(k - 2), so that sums of addends tell how often they have passed 2^k."""
    return shares + everywhere(party, shares.domain, 1 << shares.domain.element_bytes * 8 - 2, shares.shape)


def rounded(
    party: Party, domain: Domain, addends: Held, below: Shares | None, places: tuple[int, ...], target: Domain, count: int
) -> Protocol[list[Shares]]:
    """Quotients of a raised vector of ``count`` elements whose carries into ``places`` are known; 2 rounds.

    Args:
        below: the carries in slices; None where ``places`` is (0,).
    """
    width = domain.element_bytes * 8
    lost = [(1 << width - place) % target.order for place in places]
    mine, theirs = (np.stack([_shifted(part, place, target) for place in places]) for part in (addends.mine, addends.theirs))
    theirs = once(theirs)
    counts: list[tuple[Held, int, Elements]] = []
    if below is not None:
        counts.append((bits_held(party, below, count), 2, target.encode(np.array([[[1]]]))))
    if any(lost):
        top = addends.each(lambda words: (words[..., -1] >> np.uint64(WORD - 1)).astype(np.int64))
        counts.append((top, 1, target.encode(-np.array(lost, dtype=object)[:, None, None])))
    found = yield from gather(either(party, target, bits, overlap) for bits, overlap, _ in counts)
    for bits, (_, _, weight) in zip(found, counts, strict=True):
        theirs = target.add(theirs, target.multiply(bits, weight))
    together = (yield from reshare(party, target, whole(party, mine, theirs)))[:, :count]
    return [together[number] - everywhere(party, target, 1 << width - 2 - place, (count,)) for number, place in enumerate(places)]


def less_than_zero(party: Party, shares: Shares, bits: int, target: Domain) -> Protocol[Shares]:
    """1 where x < 0, else 0, in another domain, for a vector of |x| < 2^bits, bits < 64; 4 + ceil(log2(bits / 4)) rounds."""
    count = len(shares.own)
    slices = _slices(party, shares, bits)
    return (yield from to_arithmetic(party, target, (yield from top_bit(party, slices, count)), count))[0]


def sign_bits(party: Party, shares: Shares, bits: int) -> Protocol[Shares]:
    """The same as shared bits, an octet that is 0 or 1 for each element; 2 + ceil(log2(bits / 4)) rounds."""
    slices = _slices(party, shares, bits)
    carried, top = yield from gather((carries(party, slices, (bits,)), shared(party, OCTETS, slices.each(lambda part: part[bits:]))))
    count = len(shares.own)
    both: Shares = (carried + top)[0].reshape((SERVERS, -1))
    return both.rearranged(lambda part: unsliced(part, part_size(count)).reshape(-1)[:count])


def _slices(party: Party, shares: Shares, bits: int) -> Held:
    return addends_of(party, narrowed(shares)).each(lambda words: sliced(words, bits + 1))


def addends_of(party: Party, shares: Shares) -> Held:
    """The two addends of a vector of elements of a ring, as integers in words on a last axis."""
    return held(party, shares.own, shares.previous, shares.domain.add).each(_words)


def _words(elements: Elements) -> Elements:
    """Elements of a ring as integers in words, on a last axis."""
    words: Elements = np.ascontiguousarray(elements)[..., None].view(np.uint64)
    return words


def from_place(words: Elements, place: int) -> Elements:
    """A word of the bits of integers in words that begins at a place."""
    whole_words, within = divmod(place, WORD)
    if whole_words >= words.shape[-1]:
        return np.zeros(words.shape[:-1], dtype=np.uint64)
    low = words[..., whole_words] >> np.uint64(within)
    if not within or whole_words + 1 == words.shape[-1]:
        return np.asarray(low)
    return np.asarray(low | words[..., whole_words + 1] << np.uint64(WORD - within))


def _shifted(words: Elements, places: int, target: Domain) -> Elements:
    """floor(x / 2^places) of the integers in [0, 2^bits) that words are, in another domain."""
    low = from_place(words, places)
    if isinstance(target, RingDomain) and target.bits == WORD:
        return low
    high = from_place(words, places + WORD)
    if isinstance(target, RingDomain):
        return target.from_words(low, high)
    return target.encode(low.astype(object) + (high.astype(object) << WORD))
