"""The coordinator reads on for compute servers only as fast as they take what it passes on."""

import asyncio
import os
import time

import pytest

from tests.servers import make_study
from veilstat.platform.deployment.compute_lines import MOST_KEPT, ComputeLines
from veilstat.platform.deployment.owner_lines import keep_line
from veilstat.platform.roster_file import read_roster
from veilstat.transports.connection import Timeouts
from veilstat.transports.occurrences import Arrived
from veilstat.transports.stream import VERSION, Greeting
from veilstat.transports.tcp import Endpoint
from veilstat.transports.tls import Credential

FRAME = bytes(1 << 20)


class Board:
    """Hears what a switchboard would."""

    def __init__(self):
        self.ports, self.taken = {}, 0

    def plug(self, name, port):
        self.ports[name] = port

    def unplug(self, name, why):
        self.ports.pop(name, None)

    def take(self, origin, frame):
        self.taken += 1

    def report(self, *words):
        pass


class Endless:
    """A line whose owner never stops speaking."""

    from veilstat import __version__ as software

    greeting = Greeting(VERSION, software, "north", b"").encode()

    async def receive(self):
        await asyncio.sleep(0)
        return (FRAME,)

    async def send(self, frame):
        pass

    def close(self):
        pass


def test_an_owner_is_not_read_while_there_is_no_room_for_what_it_says():
    board, rooms = Board(), asyncio.Queue()

    async def run():
        async def connect():
            return Endless()

        line = asyncio.create_task(keep_line("north", connect, board, b"", rooms.get))
        for count in (1, 2, 3):
            await asyncio.sleep(0.05)
            assert board.taken == count
            rooms.put_nowait(None)
        line.cancel()

    asyncio.run(run())


def test_room_is_what_the_slowest_server_has_taken(tmp_path):
    folder = make_study(tmp_path)
    directory = read_roster(folder / "private/roster.toml")
    credential = Credential("compute2", str(folder / "private/compute2.pem"))
    server = Endpoint(directory, [credential], frozenset(("server",)), Timeouts(), os.urandom, time.monotonic)
    board = Board()

    async def until(happened):
        async with asyncio.timeout(20):
            while not happened():
                server.poll(0.0)
                await asyncio.sleep(0.01)

    async def run():
        lines = ComputeLines(directory, folder / "private/server.pem", board, ("compute1", "compute2", "compute3"))
        serving = asyncio.create_task(lines.serve())
        await until(lambda: "compute2" in board.ports)
        await asyncio.wait_for(lines.room(), 5)
        count = 3 * MOST_KEPT // len(FRAME)
        for _ in range(count):
            board.ports["compute2"](FRAME)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(lines.room(), 0.5)
        waiting, arrived = asyncio.create_task(lines.room()), 0
        async with asyncio.timeout(20):
            while arrived < count:
                arrived += sum(isinstance(occurrence, Arrived) for occurrence in server.poll(0.0))
                # Room is there once no more than so much is on its way, and not only when nothing is.
                assert arrived * len(FRAME) >= 2 * MOST_KEPT - len(FRAME) or not waiting.done()
                await asyncio.sleep(0)
        await asyncio.wait_for(waiting, 5)
        serving.cancel()
        lines.close()

    asyncio.run(run())
    server.close()
