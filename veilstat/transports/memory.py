"""All parties in one process: frames pass through a queue, and tests inject faults into it.

Every message is serialised on every hop. There is no clock: when nothing is left to deliver, whatever is still
awaited expires, the server's rounds first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

from veilstat.protocol.envelope import Author, Envelope, seal
from veilstat.protocol.faults import ProtocolError
from veilstat.protocol.session import Send

from .machine import Machine


@dataclass(frozen=True, slots=True)
class _MessageFault:
    """What goes wrong with a party's message of one round, in every query but the first ``after``."""

    party: str
    round: str
    after: int = field(default=0, kw_only=True)


@dataclass(frozen=True, slots=True)
class Dropout(_MessageFault):
    """The party goes silent for the rest of the query, before the message is sent."""


@dataclass(frozen=True, slots=True)
class Loss(_MessageFault):
    """The message never reaches one of its recipients."""

    recipient: str


@dataclass(frozen=True, slots=True)
class Delay(_MessageFault):
    """The message arrives after the round has expired."""


@dataclass(frozen=True, slots=True)
class Duplicate(_MessageFault):
    """The message arrives twice."""


@dataclass(frozen=True, slots=True)
class Tamper(_MessageFault):
    """Somebody on the way flips a bit of the message; ``place`` is a fraction of its length."""

    place: float = 0.75


def _flip_last_bit(payload: bytes) -> bytes:
    """The smallest lie."""
    return payload[:-1] + bytes((payload[-1] ^ 1,)) if payload else b"\1"


@dataclass(frozen=True, slots=True)
class Lie(_MessageFault):
    """The party itself sends something else, properly signed."""

    change: Callable[[bytes], bytes] = _flip_last_bit


@dataclass(frozen=True, slots=True)
class Reorder:
    """Messages are delivered in random order."""

    seed: int = 0


Fault: TypeAlias = Dropout | Loss | Delay | Duplicate | Tamper | Reorder | Lie


@dataclass(slots=True)
class Traffic:
    """Bytes that a party sent and received, and the frames that it received."""

    sent: int = 0
    received: int = 0
    frames: list[bytes] = field(default_factory=list)


class MemoryNetwork:
    """Delivers frames between parties until nothing moves.

    Args:
        machines: every party by name. groups: names that stand for several recipients.
        faults: what goes wrong. authors: parties' keys, for ``Lie`` only.
        kept: parties whose received frames are kept for inspection.
        tiers: whose waits expire first, and of those the ones in the earliest round together.
    """

    def __init__(
        self,
        machines: Mapping[str, Machine],
        groups: Mapping[str, tuple[str, ...]],
        faults: Iterable[Fault],
        authors: Mapping[str, Author],
        kept: tuple[str, ...],
        tiers: tuple[tuple[str, ...], ...],
    ) -> None:
        self.machines, self.groups, self.kept, self.tiers = machines, groups, kept, tiers
        self.faults, self.authors = tuple(faults), authors
        self.traffic = {name: Traffic() for name in machines}
        self._queue: deque[tuple[str, str, bytes]] = deque()
        self._late: list[tuple[str, str, bytes]] = []
        self._silent: set[tuple[str, bytes]] = set()
        self._queries: dict[bytes, int] = {}
        self._order = next((Random(fault.seed) for fault in self.faults if isinstance(fault, Reorder)), None)  # noqa: S311  # an order to repeat, no secret

    def settle(self) -> None:
        """Deliver, and expire what is awaited in vain, until nothing moves."""
        while True:
            self._deliver_all()
            if not self._expire_one():
                if not self._late:
                    return
                self._queue.extend(self._late)
                self._late = []

    def _deliver_all(self) -> None:
        self._collect()
        while self._queue:
            if self._order is not None:
                self._queue.rotate(self._order.randrange(len(self._queue)))
            carrier, recipient, frame = self._queue.popleft()
            self.traffic[recipient].received += len(frame)
            if recipient in self.kept:
                self.traffic[recipient].frames.append(frame)
            self.machines[recipient].receive(frame, carrier)
            self._collect()

    def _expire_one(self) -> bool:
        for tier in self.tiers:
            waiting = [self.machines[name] for name in tier if self.machines[name].waiting]
            first = min((machine.stage for machine in waiting), default=0)
            for machine in waiting:
                if machine.stage == first:
                    machine.expire()
            self._collect()
            if self._queue:
                return True
        return False

    def _collect(self) -> None:
        for name, machine in self.machines.items():
            for event in machine.events():
                self._send(name, event)

    def _send(self, sender: str, event: Send) -> None:
        for recipient in self.groups.get(event.recipient, (event.recipient,)):
            for frame in self._with_faults(sender, recipient, event.frame):
                self.traffic[sender].sent += len(frame)
                self._queue.append((sender, recipient, frame))

    def _with_faults(self, sender: str, recipient: str, frame: bytes) -> list[bytes]:
        if not self.faults:
            return [frame]
        try:
            envelope = Envelope.decode(frame)
        except ProtocolError:
            return [frame]
        copies = [frame]
        if envelope.round == "propose":
            self._queries.setdefault(envelope.root, len(self._queries))
        query = self._queries.get(envelope.root, len(self._queries))
        for fault in self.faults:
            if isinstance(fault, Reorder) or query < fault.after:
                continue
            if (fault.party, fault.round) != (sender, envelope.round) or envelope.sender != sender:
                continue
            match fault:
                case Dropout():
                    self._silent.add((sender, envelope.root))
                case Loss():
                    copies = [] if recipient == fault.recipient else copies
                case Delay():
                    self._late += [(sender, recipient, copy) for copy in copies]
                    copies = []
                case Duplicate():
                    copies = copies * 2
                case Tamper():
                    copies = [_flipped(copy, fault.place) for copy in copies]
                case Lie():
                    payload = fault.change(bytes(envelope.payload))
                    copies = list(seal(self.authors[sender], envelope.root, envelope.step, envelope.round, envelope.recipient, payload))
        if {(sender, envelope.root), (recipient, envelope.root)} & self._silent:
            return []
        return copies


def _flipped(frame: bytes, place: float) -> bytes:
    position = min(len(frame) - 1, int(len(frame) * place))
    return frame[:position] + bytes((frame[position] ^ 1,)) + frame[position + 1 :]
