"""Frames over a byte stream between two processes of one machine: a greeting each way, then frames behind their lengths.

Nothing here is trusted: a Unix socket authenticates an account and no program, so what the frames hold is signed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from veilstat.protocol.envelope import LARGEST_FRAME
from veilstat.protocol.faults import Fault, ProtocolError, violation

VERSION = 1
LARGEST_GREETING = 1 << 10
_LENGTH_BYTES = 4
# asyncio's 64 KiB would have a frame read in spurts, for up to twice the CPU time.
_READ_AHEAD = LARGEST_FRAME


class Greeting(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Who answers at this end: the transport's version, the software's, the party, and the digest of its roster."""

    version: int
    software: str
    party: str
    roster: bytes

    def encode(self) -> bytes:
        """MessagePack."""
        return msgspec.msgpack.encode(self)

    @staticmethod
    def decode(body: bytes, software: str) -> Greeting:
        """Parse a greeting.

        Raises:
            ProtocolError: it is malformed, or of another version than ``software`` speaks; both are named.
        """
        try:
            greeting = msgspec.msgpack.decode(body, type=Greeting)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise violation("malformed", "a greeting could not be read") from None
        if (greeting.version, greeting.software) != (VERSION, software):
            raise violation(
                "version",
                f"{greeting.party!r} runs veilstat {greeting.software[:32]} (transport {greeting.version}), this is veilstat {software} "
                f"(transport {VERSION}); install the same version on both",
                greeting.party,
            )
        return greeting


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """One end of a connection.

    Raises:
        ProtocolError: a length above the limit was announced. OSError, EOFError: the connection is over.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def receive(self, largest: int = LARGEST_FRAME) -> bytes:
        """The next frame; its length is held against the limit before anything is kept for it."""
        length = int.from_bytes(await self.reader.readexactly(_LENGTH_BYTES), "little")
        if length > largest:
            raise violation("too_large", f"a frame of {length:,} bytes was announced, at most {largest:,} are taken")
        return await self.reader.readexactly(length)

    def send(self, frame: bytes) -> None:
        """Queue a frame."""
        self.writer.write(len(frame).to_bytes(_LENGTH_BYTES, "little") + frame)

    async def flush(self) -> None:
        """Wait until the peer has taken enough."""
        await self.writer.drain()

    def close(self) -> None:
        """Hang up, once the peer has taken what was sent."""
        self.writer.close()

    def drop(self) -> None:
        """Hang up now."""
        self.writer.transport.abort()


async def dial(path: str) -> Stream:
    """Connect to a Unix socket; OSError if nobody listens there."""
    return Stream(*await asyncio.open_unix_connection(path, limit=_READ_AHEAD))


async def listen(path: Path, serve: Callable[[Stream], object], group: str | None = None) -> asyncio.Server:
    """Hand every connection to a Unix socket to ``serve``, which starts a task. This account may connect, and a group if one is named.

    Raises:
        ProtocolError: another process listens there, the path holds something else than a socket, or there is no such group.
    """
    listener = _bind(path)
    if group is not None:
        try:
            shutil.chown(path, group=group)
            path.chmod(0o660)
        except (OSError, LookupError) as error:
            listener.close()
            raise _unusable(path, f"the group {group!r} cannot be let in ({type(error).__name__})") from None

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serve(Stream(reader, writer))

    return await asyncio.start_unix_server(connected, sock=listener, limit=_READ_AHEAD)


def _bind(path: Path) -> socket.socket:
    """Bind without a moment in which others could connect; the socket of a process that has ended is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        if path.exists() and stat.S_ISSOCK(path.lstat().st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                if probe.connect_ex(str(path)) == 0:
                    raise _unusable(path, "another process listens there; end it")
            path.unlink()
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise _unusable(path, error.strerror or str(error)) from None
    finally:
        os.umask(mask)
    listener.setblocking(False)
    return listener


def _unusable(path: Path, why: str) -> ProtocolError:
    return ProtocolError(Fault("CapabilityError", "cannot_listen", f"the socket {str(path)!r} cannot be listened on: {why}"))
