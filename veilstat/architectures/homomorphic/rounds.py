"""Rounds between owners and the cloud: what the sessions of encrypted totals and of encrypted rows have in common."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from veilstat.architectures.waiting import OwnerFromServer, Participant


class Company(Protocol):
    """Whoever knows the owners of a study, all of whom must take part."""

    @property
    def company(self) -> tuple[str, ...]: ...


class Member(Participant, Company, Protocol):
    """One of them."""


@dataclass(frozen=True, slots=True)
class Collecting:
    """The cloud's round, which waits for one message of each of several owners."""

    arrived: dict[str, memoryview] = field(default_factory=dict, repr=False, kw_only=True)

    def take(self, sender: str, payload: memoryview) -> None:
        """Keep the message, if it may be what it is."""
        self.check(sender, payload)
        self.arrived[sender] = payload

    def check(self, sender: str, payload: memoryview) -> None:
        """Refuse what does not fit what was agreed, or what the sender said before."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class FromAll(Collecting):
    """The cloud's round in which the whole company takes part."""

    server: Company

    @property
    def senders(self) -> frozenset[str]:
        return frozenset(self.server.company)

    @property
    def quorum(self) -> int:
        return len(self.server.company)


@dataclass(frozen=True, slots=True)
class AllForwarded(OwnerFromServer):
    """An owner's round in which the cloud forwards what the whole company sent."""

    owner: Member

    def check_company(self, names: Iterable[str]) -> None:
        """Refuse what is not of all."""
        found = set(names)
        if found != set(self.owner.company):
            raise self.refuse(
                "bad_participants",
                f"messages of {len(found)} owners were forwarded, all {len(self.owner.company)} who made the key are needed",
            )
