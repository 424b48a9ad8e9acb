"""Rounds in which every owner takes part: what the sessions of encrypted rows have in common."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from veilstat.protocol.faults import ProtocolError, violation


@dataclass(frozen=True, slots=True)
class FromCloud:
    """An owner's round, which waits for one message of the cloud."""

    inbox: list[memoryview] = field(default_factory=list, repr=False, kw_only=True)

    quorum: ClassVar[int] = 1

    @property
    def me(self) -> str:
        """Whose round it is."""
        raise NotImplementedError

    @property
    def cloud(self) -> str:
        """Who forwards what all owners sent."""
        raise NotImplementedError

    @property
    def company(self) -> tuple[str, ...]:
        """All owners, who are needed in every round."""
        raise NotImplementedError

    @property
    def senders(self) -> frozenset[str]:
        return frozenset((self.cloud,))

    def take(self, sender: str, payload: memoryview) -> None:
        """Keep the message until the round closes."""
        self.inbox.append(payload)

    def check_company(self, names: Iterable[str]) -> None:
        """Refuse what is not of all owners."""
        found = set(names)
        if found != set(self.company):
            raise self.refuse("bad_participants", f"messages of {len(found)} owners were forwarded, the key is of {len(self.company)}")

    def refuse(self, code: str, message: str) -> ProtocolError:
        """A violation by the cloud, which had the chance to refuse this itself."""
        return violation(code, f"data owner {self.me!r}: {message}", self.cloud)


@dataclass(frozen=True, slots=True)
class FromAll:
    """The cloud's round, which waits for one message of every owner."""

    arrived: dict[str, memoryview] = field(default_factory=dict, repr=False, kw_only=True)

    @property
    def company(self) -> tuple[str, ...]:
        """All owners."""
        raise NotImplementedError

    @property
    def senders(self) -> frozenset[str]:
        return frozenset(self.company)

    @property
    def quorum(self) -> int:
        return len(self.company)

    def take(self, sender: str, payload: memoryview) -> None:
        """Keep the message, if it may be what it is."""
        self.check(sender, payload)
        self.arrived[sender] = payload

    def check(self, sender: str, payload: memoryview) -> None:
        """Refuse what does not fit what the sender said before."""
        raise NotImplementedError


def check_size(sender: str, payload: memoryview, size: int) -> None:
    """Refuse a message that is not as long as was agreed."""
    if len(payload) != size:
        raise violation("malformed", f"{sender!r} sent {len(payload):,} bytes, {size:,} were agreed", sender)
