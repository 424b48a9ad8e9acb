"""Lines to agents over Ray: on an owner's node a relay moves opaque frames between the agent's socket and whoever asks for them.

Ray places the relay by the node's label, carries bytes, and says when it is gone. It is no security boundary: it runs
any code it is given with the node's rights, so everything that passes here is signed, and nothing is secret. A relay
that is gone is never started again, and no call is ever repeated, since a call may have been executed.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

from veilstat.protocol.envelope import LARGEST_FRAME

from .line import Broken, SocketLine

OWNER_LABEL = "owner"
SOCKET_VARIABLE = "VEILSTAT_AGENT_SOCKET"
ANSWERED_WITHIN = 15.0
_LONGEST_WAIT = 5.0
_MOST_KEPT = 64
_FETCHED_TOGETHER = 1 << 24
_NODE = "the owner's node"


class Relay:
    """The actor on an owner's node; its own environment says where the agent's socket is."""

    def __init__(self) -> None:
        self._arrived: asyncio.Queue[bytes | None] = asyncio.Queue(_MOST_KEPT)
        self._line: SocketLine | None = None
        self._reading: asyncio.Task[None] | None = None

    async def open(self) -> bytes:
        """Connect to the agent; gives its greeting."""
        path = os.environ.get(SOCKET_VARIABLE)
        if path is None:
            raise Broken("the owner's node was started without its agent's socket; start it by `veilstat node`")
        self._line = await SocketLine.connect(path)
        self._reading = asyncio.create_task(self._read(self._line))
        return self._line.greeting

    async def send(self, frame: bytes) -> None:
        """Pass a frame to the agent."""
        if self._line is None or len(frame) > LARGEST_FRAME:
            raise Broken("the relay is not connected, or was given too large a frame")
        await self._line.send(frame)

    async def receive(self, seconds: float) -> Sequence[bytes]:
        """The agent's next frames; none if it says nothing for that long."""
        frames: list[bytes] = []
        try:
            async with asyncio.timeout(seconds):
                frame = await self._arrived.get()
        except TimeoutError:
            return frames
        while frame is not None:
            frames.append(frame)
            if self._arrived.empty() or sum(map(len, frames)) >= _FETCHED_TOGETHER:
                return frames
            frame = self._arrived.get_nowait()
        self._arrived.put_nowait(None)
        if not frames:
            raise Broken("the agent hung up")
        return frames

    async def _read(self, line: SocketLine) -> None:
        """A task of its own, since a read that is given up halfway would lose bytes."""
        try:
            while True:
                for frame in await line.receive():
                    await self._arrived.put(frame)
        except Broken:
            await self._arrived.put(None)


_RELAYS: Any = ray.remote(Relay)
"""Made once: Ray's head keeps a copy of the class for each time that it is."""


class RayLine:
    """A line whose other end is a relay; every wait is bounded."""

    def __init__(self, relay: Any, greeting: bytes) -> None:
        self._relay, self.greeting = relay, greeting

    @staticmethod
    async def connect(owner: str) -> RayLine:
        """Place a relay on the owner's node and connect it to the agent; raises Broken, also where there is no such node."""
        placed = _RELAYS.options(label_selector={OWNER_LABEL: owner}, num_cpus=0, max_restarts=0, max_task_retries=0)
        # In a thread, since it blocks as long as a head that stands still does; Ray ends a relay that comes too late for anybody to know of.
        relay = await _answer(asyncio.to_thread(placed.remote), ANSWERED_WITHIN, "Ray's head")
        try:
            return RayLine(relay, await _answer(relay.open.remote(), ANSWERED_WITHIN, _NODE))
        except BaseException:
            # The same: Ray ends no relay before its head knows of it.
            threading.Thread(target=_end, args=(relay,), daemon=True).start()
            raise

    async def send(self, frame: bytes) -> None:
        await _answer(self._relay.send.remote(frame), ANSWERED_WITHIN, _NODE)

    async def receive(self) -> Sequence[bytes]:
        while True:
            waits = _LONGEST_WAIT + ANSWERED_WITHIN
            frames: Sequence[bytes] = await _answer(self._relay.receive.remote(_LONGEST_WAIT), waits, _NODE)
            if frames:
                return frames

    def close(self) -> None:
        ray.kill(self._relay)


def _end(relay: Any) -> None:
    with suppress(RayError):
        ray.kill(relay)


async def _answer(reference: Awaitable[Any], seconds: float, whose: str) -> Any:
    try:
        async with asyncio.timeout(seconds):
            return await reference
    except TimeoutError:
        raise Broken(f"{whose} did not answer within {seconds:g} seconds") from None
    except (RayError, Broken) as error:
        raise _broken(error) from None


def _broken(error: Exception) -> Broken:
    cause = error.__cause__ if isinstance(error.__cause__, Broken) else error
    return Broken(str(cause) if isinstance(cause, Broken) else f"the relay is gone ({type(error).__name__})")
