"""Replicated secret sharing among three servers of which at most one is curious (Araki et al., CCS 2016, sec. 2).

x = x_0 + x_1 + x_2 over a domain; server i holds (x_i, x_(i-1)), so that all messages travel one way round the ring.
What is linear costs nothing; a product costs one element per *output* and server, whatever is summed inside it. The
message of a product is masked by a sharing of zero from pairwise keys, hence uniform to the server that receives it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from veilstat.architectures.interface import Random

from . import rounds
from .prss import Party
from .rounds import SERVERS, exchange

Elements: TypeAlias = "npt.NDArray[Any]"


class Domain(Protocol):
    """A finite ring whose elements are arrays: a prime field, the integers modulo 2^k, or vectors of bits."""

    @property
    def order(self) -> int:
        """How many elements it has."""
        ...

    @property
    def element_bytes(self) -> int: ...

    def encode(self, integers: Any) -> Elements: ...

    def add(self, a: Elements, b: Elements) -> Elements: ...

    def subtract(self, a: Elements, b: Elements) -> Elements: ...

    def multiply(self, a: Elements, b: Elements) -> Elements: ...

    def matmul(self, a: Elements, b: Elements) -> Elements: ...

    def sum(self, a: Elements, axis: int | None) -> Elements: ...

    def to_bytes(self, elements: Elements) -> bytes: ...

    def from_bytes(self, buffer: bytes | memoryview, shape: tuple[int, ...]) -> Elements:
        """Elements from any buffer of ``element_bytes`` each; uniform ones from uniform bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Shares:
    """What one server holds of an array: components i and i - 1. Linear operations act on both."""

    domain: Domain
    own: Elements = field(repr=False)
    previous: Elements = field(repr=False)

    def __post_init__(self) -> None:
        if self.own.shape != self.previous.shape:
            raise ValueError(f"components of shapes {self.own.shape} and {self.previous.shape} are no sharing")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.own.shape

    def __add__(self, other: Shares) -> Shares:
        return Shares(self.domain, self.domain.add(self.own, other.own), self.domain.add(self.previous, other.previous))

    def __sub__(self, other: Shares) -> Shares:
        return Shares(self.domain, self.domain.subtract(self.own, other.own), self.domain.subtract(self.previous, other.previous))

    def __getitem__(self, key: Any) -> Shares:
        dtype = self.own.dtype
        return Shares(self.domain, np.asarray(self.own[key], dtype=dtype), np.asarray(self.previous[key], dtype=dtype))

    def scaled(self, factors: Any) -> Shares:
        """Times public integers, elementwise with broadcasting."""
        encoded = self.domain.encode(factors)
        return Shares(self.domain, self.domain.multiply(self.own, encoded), self.domain.multiply(self.previous, encoded))

    def rearranged(self, function: Callable[[Elements], Elements]) -> Shares:
        """The same rearrangement (reshape, transpose, choice) of both components."""
        dtype = self.own.dtype
        return Shares(self.domain, np.asarray(function(self.own), dtype=dtype), np.asarray(function(self.previous), dtype=dtype))

    def reshape(self, shape: tuple[int, ...]) -> Shares:
        return self.rearranged(lambda part: part.reshape(shape))

    def joined(self, other: Shares) -> Shares:
        """Both, one behind the other along the first axis."""
        return Shares(self.domain, np.concatenate([self.own, other.own]), np.concatenate([self.previous, other.previous]))

    def total(self, axis: int | None = None) -> Shares:
        """The sum over one axis, or over all elements."""
        return self.rearranged(lambda part: self.domain.sum(part, axis))

    def left_times(self, matrix: Any) -> Shares:
        """Times a public matrix of integers from the left."""
        encoded = self.domain.encode(matrix)
        return self.rearranged(lambda part: self.domain.matmul(encoded, part))

    def right_times(self, matrix: Any) -> Shares:
        """Times a public matrix of integers from the right."""
        encoded = self.domain.encode(matrix)
        return self.rearranged(lambda part: self.domain.matmul(part, encoded))


def component(party: Party, shares: Shares, place: int) -> Shares:
    """The sharing whose component ``place`` is that of ``shares``, and whose others are 0."""
    zeros = shares.domain.encode(np.zeros(shares.shape, dtype=np.int64))
    own = shares.own if party.index == place else zeros
    previous = shares.previous if (party.index - 1) % SERVERS == place else zeros
    return Shares(shares.domain, own, previous)


def constant(party: Party, domain: Domain, integers: Any) -> Shares:
    """Public integers as a sharing (x, 0, 0); one of them meets sharings of every shape."""
    encoded = domain.encode(integers)
    return component(party, Shares(domain, encoded, encoded), 0)


def concatenated(parts: Sequence[Shares]) -> Shares:
    """All elements of several sharings over one domain, as a vector."""
    own, previous = (
        np.concatenate([side.reshape(-1) for side in sides]) for sides in zip(*((p.own, p.previous) for p in parts), strict=True)
    )
    return Shares(parts[0].domain, own, previous)


def beside(left: Shares, right: Shares) -> Shares:
    """Two matrices with equally many rows as one."""
    return Shares(left.domain, np.hstack([left.own, right.own]), np.hstack([left.previous, right.previous]))


def stacked(parts: Sequence[Shares]) -> Shares:
    """Sharings of equal shapes over one domain along a new first axis."""
    return Shares(parts[0].domain, np.stack([part.own for part in parts]), np.stack([part.previous for part in parts]))


def split(shares: Shares, shapes: Sequence[tuple[int, ...]]) -> list[Shares]:
    """The inverse of ``concatenated``."""
    sizes = [int(np.prod(shape, dtype=np.int64)) for shape in shapes]
    edges = np.cumsum([0, *sizes])
    return [shares[start : start + size].reshape(shape) for start, size, shape in zip(edges, sizes, shapes, strict=False)]


def random_shares(party: Party, domain: Domain, shape: tuple[int, ...]) -> Shares:
    """A sharing of uniform elements that nobody knows; no message."""
    own, previous = drawn(party, domain, shape)
    return Shares(domain, own, previous)


def multiply(party: Party, a: Shares, b: Shares) -> rounds.Protocol[Shares]:
    """Elementwise products with broadcasting; one round, one element per product."""
    domain = a.domain
    cross = domain.add(domain.multiply(a.own, domain.add(b.own, b.previous)), domain.multiply(a.previous, b.own))
    return (yield from reshare(party, domain, cross))


def matmul(party: Party, a: Shares, b: Shares) -> rounds.Protocol[Shares]:
    """The product of two matrices; one round, one element per entry of the result."""
    domain = a.domain
    cross = domain.add(domain.matmul(a.own, domain.add(b.own, b.previous)), domain.matmul(a.previous, b.own))
    return (yield from reshare(party, domain, cross))


def product(party: Party, factors: Shares) -> rounds.Protocol[Shares]:
    """The product along the first axis, as a tree; ceil(log2(length)) rounds."""
    while factors.shape[0] > 1:
        half = factors.shape[0] // 2
        products = yield from multiply(party, factors[:half], factors[half : 2 * half])
        factors = products.joined(factors[2 * half :])
    return factors[0]


def reshare(party: Party, domain: Domain, summand: Elements) -> rounds.Protocol[Shares]:
    """From one summand per server to a replicated sharing of their sum; one round."""
    own, previous = drawn(party, domain, summand.shape)
    masked = domain.subtract(domain.add(summand, own), previous)
    received = yield from exchange(domain.to_bytes(masked))
    return Shares(domain, masked, domain.from_bytes(received, masked.shape))


def input_of_first(party: Party, domain: Domain, elements: Elements) -> rounds.Protocol[Shares]:
    """A sharing of what server 0 knows; one round. Other servers' ``elements`` give the shape only.

    Component 2 is a mask that servers 2 and 0 draw, component 0 the masked value that server 0 sends to server 1.
    """
    own, previous = drawn(party, domain, elements.shape)
    zeros = domain.encode(np.zeros(elements.shape, dtype=np.int64))
    masked = domain.subtract(elements, previous) if party.index == 0 else zeros
    received = domain.from_bytes((yield from exchange(domain.to_bytes(masked))), elements.shape)
    views = ((masked, previous), (zeros, received), (own, zeros))
    return Shares(domain, *views[party.index])


def open_masked(shares: Shares) -> rounds.Protocol[Elements]:
    """Make a value known to all servers: only for values that a mask makes independent of data. One round."""
    domain = shares.domain
    received = yield from exchange(domain.to_bytes(shares.previous))
    missing = domain.from_bytes(received, shares.shape)
    return domain.add(domain.add(shares.own, shares.previous), missing)


def share(values: Any, domain: Domain, random: Random) -> tuple[Shares, Shares, Shares]:
    """Deal integers to the three servers."""
    encoded = domain.encode(values)
    first, second = (domain.from_bytes(random(encoded.size * domain.element_bytes), encoded.shape) for _ in range(2))
    parts = (first, second, domain.subtract(domain.subtract(encoded, first), second))
    dealt = [Shares(domain, parts[index], parts[index - 1]) for index in range(SERVERS)]
    return dealt[0], dealt[1], dealt[2]


def reconstruct(shares: Sequence[Shares]) -> Elements:
    """The elements behind the sharings of servers 0, 1 and 2.

    Raises:
        ValueError: two servers hold different values of one component.
    """
    domain = shares[0].domain
    for index in range(SERVERS):
        if domain.to_bytes(shares[index].previous) != domain.to_bytes(shares[index - 1].own):
            raise ValueError(f"servers {index} and {(index - 1) % SERVERS} hold different components")
    return domain.add(domain.add(shares[0].own, shares[1].own), shares[2].own)


def drawn(party: Party, domain: Domain, shape: tuple[int, ...]) -> tuple[Elements, Elements]:
    """Uniform elements from each key."""
    count = int(np.prod(shape, dtype=np.int64)) * domain.element_bytes
    own, previous = party.prss.draw(count)
    return domain.from_bytes(own, shape), domain.from_bytes(previous, shape)
