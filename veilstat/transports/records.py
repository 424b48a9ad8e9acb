"""What travels on a connection between two processes: records with a kind, a length, a sequence number and an acknowledgement.

A record is ``kind (1 byte) | length (4) | sequence (8) | acknowledged (8) | body``, little-endian. The length is held
against a limit before anything is kept for it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

import msgspec

from veilstat.protocol.envelope import LARGEST_FRAME
from veilstat.protocol.faults import violation

VERSION = 1
SESSION_BYTES = 16
_LARGEST_GREETING = 1 << 10
_HEAD = struct.Struct("<BIQQ")


class Kind(IntEnum):
    """What a record is: a greeting, a party's frame, an acknowledgement, the reason of a refusal, or the end of a process."""

    HELLO = 1
    FRAME = 2
    ACKNOWLEDGE = 3
    REFUSAL = 4
    GOODBYE = 5


@dataclass(frozen=True, slots=True)
class Record:
    """One record; ``sequence`` counts the frames before it, ``acknowledged`` the frames that the sender has received."""

    kind: Kind
    sequence: int
    acknowledged: int
    body: bytes

    def encode(self) -> bytes:
        """The record as it travels."""
        return _HEAD.pack(self.kind, len(self.body), self.sequence, self.acknowledged) + self.body


class Hello(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Who speaks to whom under which roster, and which session it would go on with (empty: none) from where."""

    version: int
    sender: str
    recipient: str
    roster: bytes
    session: Annotated[bytes, msgspec.Meta(max_length=SESSION_BYTES)]
    received: Annotated[int, msgspec.Meta(ge=0)]

    def encode(self) -> bytes:
        """The greeting as a record."""
        return Record(Kind.HELLO, 0, 0, msgspec.msgpack.encode(self)).encode()

    @staticmethod
    def decode(body: bytes) -> Hello:
        """Parse a greeting; a violation if it is malformed or of another version."""
        try:
            hello = msgspec.msgpack.decode(body, type=Hello)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise violation("malformed", "a greeting could not be read") from None
        if hello.version != VERSION:
            text = f"{hello.sender!r} speaks version {hello.version} of the transport, this software {VERSION}; install the same version on both"
            raise violation("version", text)
        return hello


class Reader:
    """Cuts a stream of bytes into records."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._largest = _LARGEST_GREETING

    def greeted(self) -> None:
        """The peer is known: from now on frames may come."""
        self._largest = LARGEST_FRAME

    def feed(self, received: memoryview) -> None:
        """More bytes from the peer."""
        self._buffer += received

    def records(self) -> Iterator[Record]:
        """What is complete; a violation as soon as a head announces an unknown kind or too much."""
        buffer = self._buffer
        while len(buffer) >= _HEAD.size:
            kind, length, sequence, acknowledged = _HEAD.unpack_from(buffer)
            if not Kind.HELLO <= kind <= Kind.GOODBYE:
                raise violation("malformed", f"a record has the unknown kind {kind}")
            if length > self._largest:
                raise violation("too_large", f"a record of {length:,} bytes was announced, at most {self._largest:,} are taken")
            end = _HEAD.size + length
            if len(buffer) < end:
                return
            with memoryview(buffer) as view:
                body = bytes(view[_HEAD.size : end])
            del buffer[:end]
            yield Record(Kind(kind), sequence, acknowledged, body)
