"""Bits shared by XOR, 64 to a word: the domain of Araki et al. (CCS 2016) where addition is XOR and product is AND.

An array of shape (..., words) holds integers in two's complement on its last axis, least significant word first.
XOR, shifts and public masks are local; an AND takes one round. Sums take a round and one for each doubling of the
distance that a carry has come (Kogge, Stone, IEEE Trans. Computers 1973).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import rounds
from .araki16 import Domain, Elements, Shares, component, input_of_first, multiply, reshare, stacked
from .prss import Party

WORD = 64


@dataclass(frozen=True, slots=True)
class Words:
    """Vectors of 8 or 64 bits as unsigned integers; ``encode`` takes them as masks."""

    bits: int

    @property
    def order(self) -> int:
        return 1 << self.bits

    @property
    def element_bytes(self) -> int:
        return self.bits // 8

    def encode(self, integers: Any) -> Elements:
        return np.asarray(integers, dtype=f"<u{self.element_bytes}")

    def add(self, a: Elements, b: Elements) -> Elements:
        return a ^ b

    def subtract(self, a: Elements, b: Elements) -> Elements:
        return a ^ b

    def multiply(self, a: Elements, b: Elements) -> Elements:
        return a & b

    def matmul(self, a: Elements, b: Elements) -> Elements:
        return np.asarray(np.bitwise_xor.reduce(a[:, :, None] & b, axis=1))

    def sum(self, a: Elements, axis: int | None) -> Elements:
        return np.asarray(np.bitwise_xor.reduce(a, axis=axis))

    def to_bytes(self, elements: Elements) -> bytes:
        return elements.tobytes()

    def from_bytes(self, buffer: bytes | memoryview, shape: tuple[int, ...]) -> Elements:
        return np.frombuffer(buffer, dtype=f"<u{self.element_bytes}").reshape(shape)


WORDS, OCTETS = Words(WORD), Words(8)


def pack(integers: Any, width: int) -> Elements:
    """Integers of any sign in two's complement, modulo 2^(64 words) with room for ``width`` bits: shape (..., words)."""
    values, count = np.asarray(integers, dtype=object), -(-width // WORD)
    modulus = (1 << WORD * count) - 1
    buffer = b"".join([(int(value) & modulus).to_bytes(8 * count, "little") for value in values.reshape(-1)])
    return WORDS.from_bytes(buffer, (*values.shape, count))


def shifted_left(shares: Shares, places: int) -> Shares:
    """Towards the most significant bit; zeros enter."""
    return shares.rearranged(lambda part: _shifted(part[..., ::-1], places, np.left_shift, np.right_shift)[..., ::-1])


def shifted_right(shares: Shares, places: int) -> Shares:
    """Towards the least significant bit; zeros enter."""
    return shares.rearranged(lambda part: _shifted(part, places, np.right_shift, np.left_shift))


def bit(shares: Shares, place: int) -> Shares:
    """One bit of each integer, as a word that is 0 or 1: shape without the last axis."""
    word, within = divmod(place, WORD)
    return shares.rearranged(lambda part: (part[..., word] >> np.uint64(within)) & np.uint64(1))


def parities(shares: Shares, masks: Elements) -> Shares:
    """For each public mask the XOR of the bits under it: shapes (..., words) and (masks, words) give (..., masks)."""
    return shares.rearranged(
        lambda part: np.bitwise_xor.reduce(np.bitwise_count(part[..., None, :] & masks), axis=-1).astype(np.uint64) & np.uint64(1)
    )


def add(party: Party, a: Shares, b: Shares, width: int) -> rounds.Protocol[Shares]:
    """The sum modulo 2^width, in two's complement; 1 + ceil(log2(width)) rounds. Bits from ``width`` on are undefined."""
    return a + b + shifted_left((yield from carries(party, a, b, width)), 1)


def carries(party: Party, a: Shares, b: Shares, width: int) -> rounds.Protocol[Shares]:
    """The carry out of each bit of a + b below ``width``; 1 + ceil(log2(width)) rounds."""
    generate = yield from multiply(party, a, b)
    through, distance = a + b, 1
    while 2 * distance < width:
        products = yield from multiply(party, through, shifted_left(stacked([generate, through]), distance))
        generate, through = generate + products[0], products[1]
        distance *= 2
    if distance < width:
        generate += yield from multiply(party, through, shifted_left(generate, distance))
    return generate


def difference(party: Party, minuend: Any, subtrahend: Shares, width: int) -> rounds.Protocol[Shares]:
    """Bits of a - b modulo 2^width for integers a that server 0 knows and b that is component 1 of ``subtrahend``.

    Shapes broadcast; 2 + ceil(log2(width)) rounds. Other servers' ``minuend`` gives the shape only.
    """
    first = yield from input_of_first(party, WORDS, pack(minuend + 1, width))
    complement = Shares(WORDS, pack(~subtrahend.own, width), pack(~subtrahend.previous, width))
    return (yield from add(party, first, component(party, complement, 1), width))


def suffix_or(party: Party, a: Shares, width: int) -> rounds.Protocol[Shares]:
    """Each bit becomes the OR of itself and all more significant ones below ``width``; ceil(log2(width)) rounds."""
    distance = 1
    while distance < width:
        moved = shifted_right(a, distance)
        a = a + moved + (yield from multiply(party, a, moved))
        distance *= 2
    return a


def to_arithmetic(party: Party, domain: Domain, bits: Shares) -> rounds.Protocol[Shares]:
    """Words that are 0 or 1 as 0 or 1 in another domain; two rounds.

    Each XOR component is known to two servers, hence shared in any domain, and x XOR y = x + y - 2 x y. The product of
    the first two is known to one server.
    """
    lifted = Shares(domain, domain.encode(bits.own), domain.encode(bits.previous))
    third = component(party, lifted, 2)
    known = domain.encode(np.asarray(bits.own & bits.previous) if party.index == 1 else np.zeros_like(bits.own))
    both = lifted - third - (yield from reshare(party, domain, known)).scaled(2)
    return both + third - (yield from multiply(party, both, third)).scaled(2)


def _shifted(words: Elements, places: int, towards: Any, back: Any) -> Elements:
    """Shift along the last axis towards its start."""
    whole, within = divmod(places, WORD)
    if words.shape[-1] == 1 and not whole:
        return np.asarray(towards(words, np.uint64(within)))
    moved = np.zeros_like(words)
    if whole >= words.shape[-1]:
        return moved
    moved[..., : words.shape[-1] - whole] = words[..., whole:]
    if not within:
        return moved
    entering = np.zeros_like(moved)
    entering[..., :-1] = back(moved[..., 1:], np.uint64(WORD - within))
    return np.asarray(towards(moved, np.uint64(within)) | entering)
