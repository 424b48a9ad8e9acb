"""Carries of sums of two numbers, one known to one server and the other to the other two: bit-sliced, in groups of four.

A slice holds one bit of every number, eight numbers to an octet (Biham, FSE 1997). Whether a group of four bits
generates or propagates a carry is linear in the 15 products of the bits that one server knows, which it deals; the
other two apply what they know. Groups are joined by a prefix computation (Kogge, Stone, IEEE Trans. Computers 1973).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .araki16 import Elements, Shares, multiply, reshare
from .prss import Party
from .rounds import Protocol
from .turns import Held, deal, held, part_size, whole
from .words import OCTETS

GROUP = 4
_SET = np.uint8(0xFF)


def sliced(words: Elements, width: int) -> Elements:
    """The lowest ``width`` bits of integers in words of 64 bits: shape (..., numbers, words) to (width, ..., numbers / 8)."""
    octets = np.moveaxis(words.astype("<u8", copy=False).view(np.uint8), -1, 0)[: -(-width // 8)]
    bits = np.ascontiguousarray(octets)[:, None] & (1 << np.arange(8, dtype=np.uint8)).reshape(8, *[1] * (words.ndim - 1))
    packed = np.packbits(bits, axis=-1, bitorder="little")
    return packed.reshape(-1, *packed.shape[2:])[:width]


def unsliced(slices: Elements, count: int) -> Elements:
    """Slices of ``count`` numbers as integers that are 0 or 1: shape (..., octets) to (..., count)."""
    return np.unpackbits(slices, axis=-1, count=count, bitorder="little").astype(np.int64)


def bits_held(party: Party, slices: Shares, count: int) -> Held:
    """The two addends, modulo 2, of shared bits of ``count`` numbers in slices, as integers that are 0 or 1."""
    return held(party, slices.own, slices.previous, OCTETS.add).each(lambda part: unsliced(part, part_size(count)))


def top_bit(party: Party, slices: Held, count: int) -> Protocol[Held]:
    """The highest bit of sums of ``count`` numbers in slices; 2 + ceil(log2(groups)) rounds."""
    last = len(slices.mine) - 1
    carried = yield from carries(party, slices, (last,))
    return bits_held(party, carried, count) ^ slices.each(lambda part: unsliced(part[last:], part_size(count)))


def carries(party: Party, slices: Held, ends: Sequence[int]) -> Protocol[Shares]:
    """The carries into the bits ``ends``, which ascend from 1, of sums of numbers in slices: shape (ends, octets).

    2 + ceil(log2(groups)) rounds, where a group is up to four bits between two ends.
    """
    generate, propagate = yield from _groups(
        party, *(_grouped(part, ends, fill) for part, fill in ((slices.mine, _SET), (slices.theirs, 0)))
    )
    prefixes = yield from _prefixes(party, generate, propagate)
    last = np.cumsum([-(-(end - start) // GROUP) for start, end in _between(ends)]) - 1
    return prefixes[last]


def _between(ends: Sequence[int]) -> list[tuple[int, int]]:
    return list(zip([0, *ends], ends, strict=False))


def _grouped(slices: Elements, ends: Sequence[int], fill: int | np.uint8) -> Elements:
    """Slices in groups, shape (4, groups, ...); groups that are not full propagate what enters below."""
    filled = np.concatenate([slices, np.full((1, *slices.shape[1:]), fill, dtype=np.uint8)])
    places = [place for start, end in _between(ends) for place in (*[-1] * (-(end - start) % GROUP), *range(start, end))]
    return np.moveaxis(filled[places].reshape(-1, GROUP, *slices.shape[1:]), 1, 0)


def _groups(party: Party, mine: Elements, theirs: Elements) -> Protocol[tuple[Shares, Shares]]:
    """Whether groups generate a carry, and whether all but the first propagate one; two rounds.

    With G_k = a_k (b_k + G_(k-1)) + b_k G_(k-1) and P_k = (a_k + b_k) P_(k-1), a linear functional of polynomials in
    a_1, ..., a_k follows from one of those in a_1, ..., a_(k-1).
    """
    monomials = np.full((1, *mine.shape[1:]), _SET)
    for place in range(GROUP):
        monomials = np.concatenate([monomials, monomials & mine[place]])
    dealt = yield from deal(party, OCTETS, monomials[1:])
    unit = np.zeros((1, *dealt.theirs.shape[1:]), dtype=np.uint8)
    unit[..., 1, :] = _SET
    functional = np.concatenate([unit, dealt.theirs])
    generate = np.zeros_like(unit[0])
    for place in reversed(range(GROUP)):
        without, with_it = np.split(functional, 2)
        generate ^= theirs[place] & with_it[0]
        functional = with_it ^ (theirs[place] & without)
    summands = np.concatenate([generate, functional[0, 1:]])
    nothing = np.zeros((len(summands), mine.shape[-1]), dtype=np.uint8)
    both = yield from reshare(party, OCTETS, whole(party, nothing, summands))
    return both[: len(generate)], both[len(generate) :]


def _prefixes(party: Party, generate: Shares, propagate: Shares) -> Protocol[Shares]:
    """The carry out of each group; ``propagate`` begins with the second."""
    count, distance = len(generate.own), 1
    while distance < count:
        left = propagate.joined(propagate[distance:])
        right = generate[: count - distance].joined(propagate[: max(0, count - 2 * distance)])
        products = yield from multiply(party, left, right)
        carried = generate[distance:] + products[: count - distance]
        generate, propagate = generate[:distance].joined(carried), products[count - distance :]
        distance *= 2
    return generate
