"""The analyst's session at the gateway: one at a time, with the frames that wait to be fetched."""

from __future__ import annotations

import asyncio
import hmac
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from veilstat.errors import QuorumLost, SchemaError

from ..definition import ANALYST
from .switchboard import Switchboard

_ID_BYTES = 16
_IDLE_SECONDS = 60.0
_MOST_WAITING = 1 << 28
_FETCHED_TOGETHER = 1 << 24


@dataclass(slots=True, eq=False)
class Session:
    """Whose it is, when it was last used, and frames behind the first ``fetched``."""

    identifier: str
    holder: str
    used: float
    fetched: int = 0
    size: int = 0
    frames: deque[bytes] = field(default_factory=deque, repr=False)
    arrived: asyncio.Event = field(default_factory=asyncio.Event, repr=False)


class Sessions:
    """Opens and closes the one session that the study's analyst may have; a session that nobody uses ends."""

    def __init__(self, board: Switchboard, random: Callable[[int], bytes], clock: Callable[[], float]) -> None:
        self.board, self.random, self.clock = board, random, clock
        self._current: Session | None = None
        self._replaced = ""

    def open(self, holder: str) -> Session:
        """A new session, in place of one of the same holder: whoever crashed need not wait until it ends.

        Raises:
            QuorumLost: another holder has one, which has been used within a minute.
        """
        if self._current is not None:
            if self._current.holder != holder:
                raise QuorumLost(
                    "another analyst's query runs, and the study answers one at a time; ask again once `study.status()` shows none, "
                    f"within {_IDLE_SECONDS:g} seconds if its analyst is gone",
                    code="coordinator_busy",
                )
            self._replaced = self._current.identifier
            self._end("replaced")
        session = self._current = Session(self.random(_ID_BYTES).hex(), holder, self.clock())
        self.board.plug(ANALYST, self._receive)
        return session

    def find(self, identifier: str, holder: str) -> Session:
        """The session of that name, which is used by this; SchemaError where it is over, or another's."""
        session = self._current
        if self._replaced and hmac.compare_digest(self._replaced.encode(), identifier.encode()):
            raise SchemaError(
                "a later query with the same token took this session's place; ask one query at a time with each token",
                code="session_replaced",
            )
        if session is None or not hmac.compare_digest(session.identifier.encode(), identifier.encode()) or session.holder != holder:
            raise SchemaError("there is no such session; it is over, so start the query again", code="no_session")
        session.used = self.clock()
        return session

    def close(self, session: Session) -> None:
        """The analyst is done."""
        if session is self._current:
            self._end("closed")

    def tick(self) -> None:
        """Called several times a second: ends a session that nobody uses."""
        if self._current is not None and self.clock() - self._current.used > _IDLE_SECONDS:
            self._end("idle")

    def _receive(self, frame: bytes) -> None:
        session = self._current
        assert session is not None
        session.frames.append(frame)
        session.size += len(frame)
        session.arrived.set()
        if session.size > _MOST_WAITING:
            self._end("unread")

    def _end(self, why: str) -> None:
        session, self._current = self._current, None
        if session is not None:
            session.arrived.set()
            self.board.unplug(ANALYST, why)


async def fetch(session: Session, after: int, wait: float) -> tuple[int, list[bytes]]:
    """Frames behind the first ``after``, which need not be kept any longer, and the number of the last of them.

    Raises:
        SchemaError: ``after`` counts frames that were not there.
    """
    if not session.fetched <= after <= session.fetched + len(session.frames):
        raise SchemaError("after counts frames that the session has not, or has no longer", code="bad_after")
    while session.fetched < after:
        session.size -= len(session.frames.popleft())
        session.fetched += 1
    if not session.frames:
        session.arrived.clear()
        try:
            async with asyncio.timeout(wait):
                await session.arrived.wait()
        except TimeoutError:
            return after, []
    frames: list[bytes] = []
    for frame in session.frames:
        frames.append(frame)
        if sum(map(len, frames)) >= _FETCHED_TOGETHER:
            break
    return after + len(frames), frames
