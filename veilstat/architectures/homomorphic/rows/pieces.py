"""Long messages from the cloud to all owners, in pieces: the next one leaves when everybody has the last one.

So no line ever holds more than a piece that its owner has not taken, and time runs for each piece by itself. Owners
know the length of the whole from what was agreed before. They answer each piece in the round that brings it, the last
one with what follows from the whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

from veilstat.architectures.waiting import OwnerFromServer
from veilstat.protocol.session import Message, Turn

from ..messages import check_size
from ..rounds import Company, FromAll

PIECE_BYTES = 1 << 26


class Forwarder(Company, Protocol):
    """The cloud; ``everyone`` is the name that reaches all owners."""

    @property
    def everyone(self) -> str: ...


def _cut_piece(parts: Iterable[memoryview], place: int) -> bytes:
    """Piece ``place`` of all parts, one behind the other."""
    start, end = place * PIECE_BYTES, (place + 1) * PIECE_BYTES
    pieces, before = [], 0
    for part in parts:
        pieces.append(part[max(0, start - before) : max(0, end - before)])
        before += len(part)
    return b"".join(pieces)


def split(whole: memoryview, sizes: Iterable[tuple[str, int]]) -> dict[str, memoryview]:
    """The parts by name, from all of them one behind the other."""
    parts, start = {}, 0
    for name, size in sizes:
        parts[name] = whole[start : start + size]
        start += size
    return parts


@dataclass(frozen=True, slots=True)
class PieceFromServer(OwnerFromServer):
    """An owner's round: piece ``place``, behind those in ``received``."""

    place: int = field(default=0, kw_only=True)
    received: bytearray = field(default_factory=bytearray, repr=False, kw_only=True)

    @property
    def round_name(self) -> str:
        """The name of the round, which all pieces share."""
        raise NotImplementedError

    @property
    def length(self) -> int:
        """Bytes of the whole."""
        raise NotImplementedError

    def follow(self, whole: memoryview) -> Turn:
        """What the whole is answered with; raises ProtocolError."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        return f"{self.round_name}/{self.place}"

    @property
    def largest(self) -> int:
        return PIECE_BYTES

    def close(self) -> Turn:
        [piece] = self.inbox
        check_size(self.owner.server, piece, min(PIECE_BYTES, self.length - len(self.received)))
        self.received.extend(piece)
        if len(self.received) == self.length:
            return self.follow(memoryview(self.received))
        return Turn((Message(self.name, self.owner.server, b""),), replace(self, place=self.place + 1, inbox=[]))


@dataclass(frozen=True, slots=True)
class PieceToAll(FromAll):
    """The cloud's round: piece ``place`` of ``parts`` has left, and all owners are to answer it."""

    server: Forwarder
    parts: tuple[memoryview, ...] = field(repr=False, kw_only=True)
    place: int = field(default=0, kw_only=True)

    @property
    def round_name(self) -> str:
        """The name of the round, which all pieces share."""
        raise NotImplementedError

    @property
    def largest_answer(self) -> int:
        """Bytes of what the whole is answered with."""
        raise NotImplementedError

    def check_answer(self, sender: str, payload: memoryview) -> None:
        """Refuse an answer to the whole; raises ProtocolError."""
        raise NotImplementedError

    def follow(self) -> Turn:
        """Everybody has answered the whole; raises ProtocolError."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        return f"{self.round_name}/{self.place}"

    @property
    def is_last(self) -> bool:
        return sum(map(len, self.parts)) <= (self.place + 1) * PIECE_BYTES

    @property
    def largest(self) -> int:
        return self.largest_answer if self.is_last else 0

    def check(self, sender: str, payload: memoryview) -> None:
        if self.is_last:
            self.check_answer(sender, payload)
        else:
            check_size(sender, payload, 0)

    def close(self) -> Turn:
        return self.follow() if self.is_last else replace(self, place=self.place + 1, arrived={}).begin()

    def begin(self) -> Turn:
        """Send the piece, and wait."""
        return Turn((Message(self.name, self.server.everyone, _cut_piece(self.parts, self.place)),), self)
