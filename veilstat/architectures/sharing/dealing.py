"""Dealing: how a vector is split into components, which server holds which, and what travels.

All components but the last come from 28-byte seeds, so a vector travels once for every server that holds the last.

* additive among S servers: x = x_0 + ... + x_(S-1), server i holds x_i; secret while one server is honest;
* replicated among three: x = x_0 + x_1 + x_2, server i holds x_i and x_(i-1); secret while two are (Araki et al.,
  CCS 2016, section 2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from veilstat.architectures.interface import Random
from veilstat.arithmetic.keystream import SEED_BYTES, expand, following, stream_of
from veilstat.arithmetic.rings import Elements, Ring

_BLOCK = 1 << 13
"""Elements that are masked at once: few enough for the processor's cache."""


class Group(Protocol):
    """Elements that are added: a ring of residues, or a prime field."""

    @property
    def element_bytes(self) -> int: ...

    def encode(self, integers: Any) -> Elements: ...

    def add(self, a: Elements, b: Elements) -> Elements: ...

    def subtract(self, a: Elements, b: Elements) -> Elements: ...

    def to_bytes(self, elements: Elements) -> bytes: ...

    def from_bytes(self, buffer: bytes | memoryview, shape: tuple[int, ...]) -> Elements: ...


@dataclass(frozen=True, slots=True)
class Residues:
    """Vectors of integers modulo 2^bits, in limbs."""

    ring: Ring

    @property
    def element_bytes(self) -> int:
        return self.ring.element_bytes

    def encode(self, integers: Any) -> Elements:
        return self.ring.encode(integers)

    def add(self, a: Elements, b: Elements) -> Elements:
        total = a.copy()
        self.ring.add(total, b)
        return total

    def subtract(self, a: Elements, b: Elements) -> Elements:
        difference = a.copy()
        self.ring.subtract(difference, b)
        return difference

    def to_bytes(self, elements: Elements) -> bytes:
        return bytes(self.ring.to_bytes(elements))

    def from_bytes(self, buffer: bytes | memoryview, shape: tuple[int, ...]) -> Elements:
        return self.ring.from_bytes(buffer)


@dataclass(frozen=True, slots=True)
class Dealing:
    """Which server holds which components of vectors over ``group``."""

    group: Group
    held: tuple[tuple[int, ...], ...]
    last: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "last", max(component for parts in self.held for component in parts))

    def payload_bytes(self, server: int, length: int) -> int:
        """Bytes that the server gets for a vector."""
        return sum(self._bytes(component, length) for component in self.held[server])

    def deal(self, integers: Any, random: Random) -> tuple[bytes, ...]:
        """What each server gets."""
        group, rest = self.group, self.group.encode(integers)
        seeds = [random(SEED_BYTES) for _ in range(self.last)]
        size = len(rest) * group.element_bytes
        streams = [stream_of(seed, size) for seed in seeds]
        for start in range(0, len(rest), _BLOCK):
            block = rest[start : start + _BLOCK]
            for stream in streams:
                mask = following(stream, len(block) * group.element_bytes)
                block[:] = group.subtract(block, group.from_bytes(mask, (len(block),)))
        parts = [*seeds, group.to_bytes(rest)]
        return tuple(b"".join(parts[component] for component in held) for held in self.held)

    def components(self, server: int, payload: bytes | memoryview, length: int) -> tuple[Elements, ...]:
        """The components in what a server got, in the order in which it holds them."""
        found, start = [], 0
        for component in self.held[server]:
            part = payload[start : start + self._bytes(component, length)]
            start += len(part)
            raw = part if component == self.last else expand(bytes(part), length * self.group.element_bytes)
            found.append(self.group.from_bytes(raw, (length,)))
        return tuple(found)

    def zeros(self, length: int) -> Elements:
        """A vector of zeros."""
        return self.group.encode(np.zeros(length, dtype=np.int64))

    def _bytes(self, component: int, length: int) -> int:
        return length * self.group.element_bytes if component == self.last else SEED_BYTES


def additive(group: Group, servers: int) -> Dealing:
    """Every server holds one component."""
    return Dealing(group, tuple((server,) for server in range(servers)))


def replicated(group: Group) -> Dealing:
    """Three servers; server i holds components i and i - 1."""
    return Dealing(group, ((0, 2), (1, 0), (2, 1)))
