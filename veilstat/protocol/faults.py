"""What can go wrong between parties, as data that travels: a kind, a stable code, words, and whose fault it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

VIOLATION = "ProtocolViolation"
QUORUM = "QuorumLost"


class Reportable(Protocol):
    """An error that says what travels: every error of veilstat's does."""

    code: str
    message: str
    culprits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """``kind`` is the name of the error that a user sees; ``culprits`` are parties, empty where nobody is known."""

    kind: str
    code: str
    message: str
    culprits: tuple[str, ...] = ()

    @staticmethod
    def of(error: Reportable, *culprits: str) -> Fault:
        """An error as others are told it, laid to the given parties, or to whom it names itself."""
        return Fault(type(error).__name__, error.code, error.message, culprits or error.culprits)


class ProtocolError(Exception):
    """Raised inside a round; a session turns it into a failed session and tells the others."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class UnreportedError(ProtocolError):
    """A fault in what one party alone learns, who keeps it to itself: whether that decrypts, or is a possible total, tells of keys and data."""


@contextmanager
def unreported() -> Iterator[None]:
    """What is wrong from here on is told to nobody."""
    try:
        yield
    except ProtocolError as error:
        raise UnreportedError(error.fault) from None


def violation(code: str, message: str, *culprits: str) -> ProtocolError:
    """A party sent what the protocol forbids."""
    return ProtocolError(Fault(VIOLATION, code, message, tuple(sorted(culprits))))


def quorum_lost(round_name: str, present: int, needed: int, missing: tuple[str, ...]) -> ProtocolError:
    """Too few answered in time."""
    absent = ", ".join(missing) or "nobody"
    text = f"{present} answered in round {round_name}, at least {needed} are needed; missing: {absent}. This attempt has ended; try again once enough are there"
    return ProtocolError(Fault(QUORUM, "quorum_lost", text, missing))
