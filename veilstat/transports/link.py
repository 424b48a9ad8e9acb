"""The frames between two processes, over as many connections as it takes: each arrives once and in order, or the session ends.

A session begins when two processes first greet each other and lasts over broken connections: what the peer has not
acknowledged is kept and sent again. A process that has restarted knows no session; then nothing is sent again, because
a step is never run twice. Sans I/O: ``put`` frames, write what ``outgoing`` gives, hand what was read to ``accept``.
"""

from __future__ import annotations

from collections import deque

from veilstat.protocol.faults import QUORUM, Fault, ProtocolError, violation

from .records import Kind, Record

_ACKNOWLEDGED_FRAMES, _ACKNOWLEDGED_BYTES = 64, 1 << 18
_WRITTEN_TOGETHER = 1 << 14


class Link:
    """One end of the sessions with one peer; ``limit`` bounds the bytes that are kept for it.

    Frames that are put while there is no session belong to the next one.
    """

    def __init__(self, peer: str, limit: int) -> None:
        self.peer, self.limit = peer, limit
        self._unsent: deque[bytes] = deque()
        self._unacknowledged: deque[bytes] = deque()
        self._held = 0
        self._beats = False
        self.begin(b"")

    @property
    def has_unsent(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._unsent)

    @property
    def held(self) -> int:
        """Bytes that the peer has not acknowledged."""
        return self._held

    def begin(self, session: bytes) -> None:
        """A new session: both sides count from zero."""
        self.session = session
        self.received = self._sent = 0
        self._told, self._untold_bytes = 0, 0

    def end(self) -> None:
        """The session is over, and everything that was kept for it is dropped."""
        self._unsent.clear()
        self._unacknowledged.clear()
        self._held = 0
        self.begin(b"")

    def resume(self, received: int) -> None:
        """The same session on a new connection: go on behind the frames that the peer has received."""
        self._acknowledge(received)
        self._unsent.extendleft(reversed(self._unacknowledged))
        self._unacknowledged.clear()
        self._sent = received

    def put(self, frame: bytes) -> None:
        """Queue a frame; ProtocolError if the peer has taken too little for too long."""
        if self._held + len(frame) > self.limit:
            text = (
                f"{self.peer!r} left more than {self.limit:,} bytes unread, so the query has ended; see that its process runs and try again"
            )
            raise ProtocolError(Fault(QUORUM, "peer_too_slow", text, (self.peer,)))
        self._held += len(frame)
        self._unsent.append(frame)

    def beat(self) -> None:
        """Let the peer know that this process runs: an acknowledgement is due, whatever it acknowledges."""
        self._beats = bool(self.session)

    def outgoing(self) -> bytes:
        """The next bytes to write: small frames together, large ones alone, an acknowledgement where one is due, or nothing."""
        records: list[bytes] = []
        size = 0
        while self._unsent and (not records or size + len(self._unsent[0]) <= _WRITTEN_TOGETHER):
            frame = self._unsent.popleft()
            self._unacknowledged.append(frame)
            records.append(Record(Kind.FRAME, self._sent, self.received, frame).encode())
            self._sent += 1
            size += len(frame)
        is_due = self._beats or self.received - self._told >= _ACKNOWLEDGED_FRAMES or self._untold_bytes >= _ACKNOWLEDGED_BYTES
        if not records and is_due:
            records.append(Record(Kind.ACKNOWLEDGE, self._sent, self.received, b"").encode())
        if records:
            self._told, self._untold_bytes, self._beats = self.received, 0, False
        return b"".join(records)

    def accept(self, record: Record) -> None:
        """Count a frame or an acknowledgement of the peer; a violation if it does not follow on the last."""
        self._acknowledge(record.acknowledged)
        if record.kind is Kind.FRAME:
            if record.sequence != self.received:
                raise violation("bad_sequence", f"{self.peer!r} sent frame {record.sequence} where {self.received} is due", self.peer)
            self.received += 1
            self._untold_bytes += len(record.body)

    def _acknowledge(self, count: int) -> None:
        fresh = count - (self._sent - len(self._unacknowledged))
        if not 0 <= fresh <= len(self._unacknowledged):
            raise violation("bad_acknowledgement", f"{self.peer!r} acknowledged frames that it was not sent", self.peer)
        for _ in range(fresh):
            self._held -= len(self._unacknowledged.popleft())
