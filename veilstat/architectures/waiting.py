"""What rounds of owners and analysts have in common across architectures: one message of the server, and a release at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from veilstat.protocol.faults import ProtocolError, unreported, violation
from veilstat.protocol.session import Turn

from .interface import Released


class Participant(Protocol):
    """An owner in a session: its name, and that of the server."""

    @property
    def name(self) -> str: ...

    @property
    def server(self) -> str: ...


@dataclass(frozen=True, slots=True)
class OneMessage:
    """A round that waits for one message, and keeps it until the round closes."""

    inbox: list[memoryview] = field(default_factory=list, repr=False, kw_only=True)

    quorum: ClassVar[int] = 1

    def take(self, sender: str, payload: memoryview) -> None:
        self.inbox.append(payload)


class Releasing:
    """The analyst's last round. What it finds wrong is told to nobody: others would learn something of what was opened."""

    __slots__ = ()

    def released(self) -> Released:
        """What was opened; raises ProtocolError."""
        raise NotImplementedError

    def close(self) -> Turn:
        with unreported():
            return Turn((), None, self.released())


@dataclass(frozen=True, slots=True)
class AnalystFromServer(Releasing, OneMessage):
    """The analyst's round, which waits for the server."""

    server: str

    @property
    def senders(self) -> frozenset[str]:
        return frozenset((self.server,))


@dataclass(frozen=True, slots=True)
class OwnerFromServer(OneMessage):
    """An owner's round, which waits for the server."""

    owner: Participant

    @property
    def senders(self) -> frozenset[str]:
        return frozenset((self.owner.server,))

    def refuse(self, code: str, message: str) -> ProtocolError:
        """A violation by the server, which had the chance to refuse this itself."""
        return violation(code, f"data owner {self.owner.name!r}: {message}", self.owner.server)
