"""Three addends of which one server knows the sum of two and the others know the third, each server in its turn.

A sharing x = x_0 + x_1 + x_2 of a vector is cut into three equal parts. In part j server j knows x_j + x_(j-1), and
servers j + 1 and j - 1 both know x_(j+1). So x is a sum of two numbers, not three, that somebody knows; whatever is
bilinear in functions of the one and of the other takes two rounds: server j deals its functions between the other
two (one component from the key that it shares with j - 1, the other sent to j + 1), each of them multiplies by what
it knows, and the products are shared again. (What is known to one or two parties of three, as an input: Mohassel,
Rindal, ACM CCS 2018, sec. 5; here every server has as much to send as the others.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .araki16 import Domain, Elements, Shares, drawn, reshare
from .prss import Party
from .rounds import SERVERS, Protocol, exchange


@dataclass(frozen=True, slots=True)
class Held:
    """What a server knows of two addends.

    Args:
        mine: of the addend that it alone knows, in its own part; shape (..., elements).
        theirs: of the other addend, in the parts of the following and of the previous server; shape (..., 2, elements).
    """

    mine: Elements = field(repr=False)
    theirs: Elements = field(repr=False)

    def each(self, function: Callable[[Elements], Elements]) -> Held:
        """A function of either addend."""
        return Held(function(self.mine), function(self.theirs))

    def __xor__(self, other: Held) -> Held:
        return Held(self.mine ^ other.mine, self.theirs ^ other.theirs)


@dataclass(frozen=True, slots=True)
class Dealt:
    """A sharing of what every server knows in its own part.

    Args:
        sent, kept: components i and i - 1 in the own part.
        theirs: the component that a server has in the other two; both servers' add up to what was dealt.
    """

    sent: Elements = field(repr=False)
    kept: Elements = field(repr=False)
    theirs: Elements = field(repr=False)


def part_size(count: int) -> int:
    """How many of ``count`` elements a part has; the last ones are filled up with zeros."""
    return -(-count // SERVERS)


def held(party: Party, own: Elements, previous: Elements, add: Callable[[Elements, Elements], Elements]) -> Held:
    """What a server knows of a sharing, whose last axis is cut into parts."""
    following, before = (party.index + 1) % SERVERS, (party.index - 1) % SERVERS
    own, previous = parted(own), parted(previous)
    mine = add(own[..., party.index, :], previous[..., party.index, :])
    return Held(mine, np.stack([previous[..., following, :], own[..., before, :]], axis=-2))


def parted(elements: Elements) -> Elements:
    """The last axis in three parts: shape (..., 3, part_size(elements))."""
    count = elements.shape[-1]
    size = part_size(count)
    padded = np.zeros((*elements.shape[:-1], SERVERS * size), dtype=elements.dtype)
    padded[..., :count] = elements
    return padded.reshape(*elements.shape[:-1], SERVERS, size)


def whole(party: Party, mine: Elements, theirs: Elements) -> Elements:
    """All three parts in order, as one axis."""
    parts = np.empty((*mine.shape[:-1], SERVERS, mine.shape[-1]), dtype=mine.dtype)
    parts[..., party.index, :] = mine
    parts[..., (party.index + 1) % SERVERS, :] = theirs[..., 0, :]
    parts[..., (party.index - 1) % SERVERS, :] = theirs[..., 1, :]
    return parts.reshape(*mine.shape[:-1], -1)


def deal(party: Party, domain: Domain, mine: Elements) -> Protocol[Dealt]:
    """A sharing of what each server knows in its own part; one round, one element for three."""
    own, previous = drawn(party, domain, mine.shape)
    masked = domain.subtract(mine, previous)
    received = domain.from_bytes((yield from exchange(domain.to_bytes(masked))), mine.shape)
    return Dealt(masked, previous, np.stack([own, received], axis=-2))


def shared(party: Party, domain: Domain, addends: Held) -> Protocol[Shares]:
    """A sharing of the addends' sum; one round, one element for three. The second may have more axes in front."""
    dealt = yield from deal(party, domain, addends.mine)
    shape = addends.theirs.shape[: addends.theirs.ndim - dealt.theirs.ndim]
    sent, kept, drawn_component, received = (
        np.broadcast_to(part, (*shape, *part.shape)) for part in (dealt.sent, dealt.kept, dealt.theirs[..., 0, :], dealt.theirs[..., 1, :])
    )
    own = whole(party, sent, np.stack([drawn_component, addends.theirs[..., 1, :]], axis=-2))
    return Shares(domain, own, whole(party, kept, np.stack([addends.theirs[..., 0, :], received], axis=-2)))


def once(theirs: Elements) -> Elements:
    """What both other servers know as something that only one of them adds."""
    counted = np.zeros_like(theirs)
    counted[..., 1, :] = theirs[..., 1, :]
    return counted


def either(party: Party, domain: Domain, bits: Held, overlap: int) -> Protocol[Elements]:
    """Summands, in the other servers' parts, of u + v - overlap u v for bits u and v: XOR for 2, OR for 1; one round."""
    dealt = yield from deal(party, domain, domain.encode(bits.mine))
    products = domain.multiply(dealt.theirs, domain.encode(overlap * bits.theirs))
    return domain.add(domain.subtract(dealt.theirs, products), once(domain.encode(bits.theirs)))


def to_arithmetic(party: Party, domain: Domain, bits: Held, count: int) -> Protocol[Shares]:
    """XOR of both addends as 0 or 1 in a domain, of the first ``count`` elements; two rounds, four elements for three."""
    theirs = yield from either(party, domain, bits, 2)
    nothing = domain.encode(np.zeros(bits.mine.shape, dtype=np.int64))
    return (yield from reshare(party, domain, whole(party, nothing, theirs)))[..., :count]
