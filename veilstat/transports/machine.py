"""What moves frames needs to know of a party: it is fed them, gives its own, and can be told that time is up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from veilstat.protocol.faults import Fault
from veilstat.protocol.session import Send


class Machine(Protocol):
    """One party, whatever it runs inside."""

    def receive(self, frame: bytes, carrier: str = "") -> None:
        """Take a frame; ``carrier`` is the party that brought it, as far as the transport knows."""
        ...

    def events(self) -> Iterator[Send]:
        """Frames to be sent since the last call."""
        ...

    @property
    def waiting(self) -> bool:
        """Whether something is awaited that may never come."""
        ...

    @property
    def stage(self) -> int:
        """How far it has come in what it waits for: of several that wait, the one in the earliest round gives up first."""
        ...

    def expire(self) -> None:
        """Nothing more will come for what is awaited now."""
        ...


class Hosted(Machine, Protocol):
    """A party that can be told that others' processes are gone."""

    @property
    def awaited(self) -> frozenset[str]:
        """Whom it waits for."""
        ...

    def lost(self, fault: Fault) -> bool:
        """The fault's culprits are gone, and with them what they knew of the running query; says whether that ends it."""
        ...
