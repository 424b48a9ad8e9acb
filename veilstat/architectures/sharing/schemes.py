"""What servers do with the shares of a step: add them and open the totals, or compute on them and open the answer."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Protocol

from veilstat.architectures.interface import Noise, Released
from veilstat.arithmetic.rings import Ring
from veilstat.language.cut import Cut
from veilstat.language.step import Arrays

from .dealing import Dealing, Residues, additive


@dataclass(frozen=True, slots=True)
class Place:
    """A server's place among the servers, and the keys that it shares with the next and the previous one."""

    index: int
    own_key: bytes = field(repr=False)
    previous_key: bytes = field(repr=False)


class Scheme(Protocol):
    """One step on shares."""

    @property
    def dealing(self) -> Dealing:
        """How owners split what they send."""
        ...

    @property
    def inward(self) -> Cut:
        """What owners send."""
        ...

    @property
    def result_bytes(self) -> int:
        """Bytes of one server's part of the answer."""
        ...

    def passage(self) -> tuple[str, ...]:
        """How numbers travel between owners and servers, in words; () where a ring's width says it."""
        ...

    def program(self, place: Place, inputs: tuple[Any, ...], public: Arrays, noise: Noise) -> Generator[bytes, bytes, bytes]:
        """What a server computes on its components of the owners' total, or on its parts of the owners' uploads: it
        yields what goes to the next server, receives what the previous one sent, and returns its part of the answer,
        with its own ``noise`` in it.
        """
        ...

    def combine(self, survivors: tuple[str, ...], parts: list[bytes]) -> Released:
        """The answer from every server's part, in order of servers."""
        ...


@dataclass(frozen=True, slots=True)
class Added:
    """Additive sharing among S servers: each adds its components and sends the sum."""

    cut: Cut
    servers: int

    @property
    def dealing(self) -> Dealing:
        return additive(Residues(self._ring), self.servers)

    @property
    def inward(self) -> Cut:
        return self.cut

    @property
    def result_bytes(self) -> int:
        return self.cut.size * self._ring.element_bytes

    def passage(self) -> tuple[str, ...]:
        return ()

    def program(self, place: Place, inputs: tuple[Any, ...], public: Arrays, noise: Noise) -> Generator[bytes, bytes, bytes]:
        yield from ()
        ring = self._ring
        part = ring.encode(noise(self.cut.size))
        ring.add(part, inputs[0])
        return bytes(ring.to_bytes(part))

    def combine(self, survivors: tuple[str, ...], parts: list[bytes]) -> Released:
        total = self._ring.zeros(self.cut.size)
        for part in parts:
            self._ring.add(total, self._ring.from_bytes(part))
        return Released(self._ring.decode(total, self.cut.lower), survivors)

    @property
    def _ring(self) -> Ring:
        return Ring.for_bits(self.cut.bits)
