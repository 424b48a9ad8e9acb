"""A party of this process and one peer: their sessions, and the connection that serves them at present."""

from __future__ import annotations

import selectors
from collections.abc import Callable
from dataclasses import dataclass

from veilstat.protocol.faults import QUORUM, Fault, violation

from .connection import Connection
from .link import Link
from .records import SESSION_BYTES, VERSION, Hello

SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 1.0


@dataclass(slots=True, eq=False)
class Visit:
    """One connection of a party, and the channel that it serves once that is known."""

    party: str
    connection: Connection
    channel: Channel | None = None
    greeted: bool = False
    watched: int = selectors.EVENT_WRITE

    def write(self) -> None:
        """Write what is due; OSError once the connection is closed."""
        self.connection.write(self.channel.link.outgoing if self.channel is not None and self.greeted else _nothing)


@dataclass(slots=True, eq=False)
class Channel:
    """``over_at`` is when a session whose connection broke ends; ``dial_at`` when to dial again; ``trouble`` why that failed;
    ``heard_at`` when the peer's process was last known to run.
    """

    party: str
    peer: str
    dials: bool
    link: Link
    visit: Visit | None = None
    over_at: float | None = None
    dial_at: float = 0.0
    pause: float = SHORTEST_PAUSE
    trouble: str = ""
    heard_at: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether frames can be exchanged now."""
        return self.visit is not None and self.visit.greeted

    @property
    def is_unsent(self) -> bool:
        """Whether frames of the present session still wait to be written."""
        is_writing = self.visit is not None and bool(self.visit.connection.awaits & selectors.EVENT_WRITE)
        return bool(self.link.session) and (self.link.has_unsent or is_writing)

    def hello(self, roster: bytes) -> bytes:
        """The greeting that proposes to go on with the present session, if there is one."""
        return Hello(VERSION, self.party, self.peer, roster, self.link.session, self.link.received).encode()

    def agree(self, hello: Hello, random: Callable[[int], bytes]) -> bool:
        """Go on with the session that both know, or begin the one that the listening side draws; says whether one was lost by that."""
        known = self.link.session
        session = hello.session
        if not self.dials and (not known or session != known):
            session = random(SESSION_BYTES)
        if len(session) != SESSION_BYTES:
            raise violation("malformed", f"{self.peer!r} greeted without a session", self.peer)
        if session == known:
            self.link.resume(hello.received)
            return False
        if known:
            self.link.end()
        self.link.begin(session)
        return bool(known)

    def gone(self, how: str) -> Fault:
        """What to tell a party whose peer has ended."""
        text = f"the process of {self.peer!r} {how}; a query that was running has ended, start it again once {self.peer!r} is connected"
        return Fault(QUORUM, "party_lost", text, (self.peer,))


def _nothing() -> bytes:
    return b""
