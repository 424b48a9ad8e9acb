"""A line: how frames get to one party and back, whatever lies between. A line that broke is never mended; another one is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from veilstat.protocol.faults import ProtocolError

from .stream import Stream, dial


class Broken(Exception):
    """The line is over; what was sent on it may or may not have arrived, and is not sent again."""


class Line(Protocol):
    """``greeting`` is what the party said first."""

    @property
    def greeting(self) -> bytes: ...

    async def send(self, frame: bytes) -> None:
        """Pass a frame on; raises Broken."""
        ...

    async def receive(self) -> Sequence[bytes]:
        """The next frames, as soon as there are any; raises Broken."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class SocketLine:
    """A line to an agent's Unix socket on this machine."""

    def __init__(self, stream: Stream, greeting: bytes) -> None:
        self._stream, self.greeting = stream, greeting

    @staticmethod
    async def connect(path: str) -> SocketLine:
        """Connect and hear the greeting; raises Broken."""
        try:
            stream = await dial(path)
            return SocketLine(stream, await stream.receive())
        except (OSError, EOFError, ProtocolError) as error:
            raise Broken(f"the agent's socket does not answer ({type(error).__name__})") from None

    async def send(self, frame: bytes) -> None:
        try:
            self._stream.send(frame)
            await self._stream.flush()
        except OSError:
            raise Broken("the agent hung up") from None

    async def receive(self) -> Sequence[bytes]:
        try:
            return (await self._stream.receive(),)
        except (OSError, EOFError):
            raise Broken("the agent hung up") from None
        except ProtocolError as error:
            raise Broken(error.fault.message) from None

    def close(self) -> None:
        self._stream.close()
