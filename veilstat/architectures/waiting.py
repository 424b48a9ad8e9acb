"""Rounds that wait for one message of the server, as owners and analysts of several architectures do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from veilstat.protocol.faults import ProtocolError, violation


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


@dataclass(frozen=True, slots=True)
class FromServer(OneMessage):
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
