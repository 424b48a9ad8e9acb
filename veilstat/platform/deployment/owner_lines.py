"""The coordinator's lines to owners: made, checked, served until they break, and made again, so that the owner is there for the next query."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from veilstat import __version__
from veilstat.protocol.faults import ProtocolError, violation
from veilstat.transports.line import Broken, Line
from veilstat.transports.stream import Greeting

from .switchboard import Switchboard

Connect: TypeAlias = Callable[[], Awaitable[Line]]
Room: TypeAlias = Callable[[], Awaitable[None]]
_CONNECTED_WITHIN = 20.0
_MOST_UNSENT = 1 << 28
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


async def keep_line(owner: str, connect: Connect, board: Switchboard, roster: bytes, room: Room) -> None:
    """Serve an owner for ever, reading on once there is ``room``; each new reason why it cannot be served is reported once."""
    pause, trouble = _SHORTEST_PAUSE, ""
    while True:
        try:
            async with asyncio.timeout(_CONNECTED_WITHIN):
                line = await connect()
        except (Broken, TimeoutError) as error:
            why = str(error) or f"no answer within {_CONNECTED_WITHIN:g} seconds"
        else:
            try:
                _check(owner, line.greeting, roster)
                pause = _SHORTEST_PAUSE
                trouble = why = await _serve(owner, line, board, room)
            except ProtocolError as error:
                why = error.fault.message
            finally:
                line.close()
        if why != trouble:
            trouble = why
            board.report("unreachable", owner, why)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


async def always_room() -> None:
    """Where nothing is passed on that anybody could leave unread."""


def _check(owner: str, greeting: bytes, roster: bytes) -> None:
    """That the line leads to the right owner, of this version and roster; a mistake in configuration, since nobody signs it."""
    found = Greeting.decode(greeting, __version__)
    if found.party != owner or found.roster != roster:
        whom = f"the agent of {found.party!r}" if found.party != owner else "an agent with another roster"
        raise violation("misdirected", f"the line to {owner!r} reached {whom}; compare sockets, labels and rosters")


async def _serve(owner: str, line: Line, board: Switchboard, room: Room) -> str:
    """Move frames both ways until the line breaks; says why."""
    unsent: asyncio.Queue[bytes] = asyncio.Queue()
    waiting = 0
    over = asyncio.Event()

    def put(frame: bytes) -> None:
        nonlocal waiting
        waiting += len(frame)
        unsent.put_nowait(frame)
        if waiting > _MOST_UNSENT:
            over.set()

    async def send() -> None:
        nonlocal waiting
        while True:
            frame = await unsent.get()
            await line.send(frame)
            waiting -= len(frame)

    async def receive() -> None:
        while True:
            for frame in await line.receive():
                board.take(owner, frame)
            await room()

    board.plug(owner, put)
    tasks = [asyncio.create_task(send()), asyncio.create_task(receive()), asyncio.create_task(over.wait())]
    why = "the line was ended"
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        why = "it takes too little for too long"
        for task in done:
            task.result()
    except Broken as error:
        why = str(error)
    finally:
        for task in tasks:
            task.cancel()
        board.unplug(owner, why)
    return why
