"""The coordinator's pinned TLS connections to compute servers, which reach owners and the analyst through it."""

from __future__ import annotations

import asyncio
import secrets
import time
from functools import partial
from pathlib import Path

from veilstat.transports.connection import Timeouts
from veilstat.transports.directory import Directory
from veilstat.transports.occurrences import Arrived, Lost, Notice
from veilstat.transports.tcp import Endpoint
from veilstat.transports.tls import Credential

from ..definition import SERVER
from .switchboard import Switchboard

MOST_KEPT = 1 << 23
_LOOKS = 0.1


class ComputeLines:
    """One endpoint, served by the loop whenever one of its sockets is ready."""

    def __init__(self, directory: Directory, identity: Path, board: Switchboard, servers: tuple[str, ...]) -> None:
        self.board, self.servers = board, servers
        credential = Credential(SERVER, str(identity))
        self.endpoint = Endpoint(directory, [credential], frozenset(("compute",)), Timeouts(), secrets.token_bytes, time.monotonic)
        self._ready, self._polled = asyncio.Event(), asyncio.Event()

    async def room(self) -> None:
        """Wait while a server leaves more than 8 MiB unread: whoever reads on for it keeps what it reads."""
        while any(self.endpoint.backlog(SERVER, server) > MOST_KEPT for server in self.servers):
            self._polled.clear()
            await self._polled.wait()

    async def serve(self) -> None:
        """For ever."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self.endpoint.descriptor, self._ready.set)
        try:
            while True:
                self._poll()
                self._ready.clear()
                try:
                    async with asyncio.timeout(_LOOKS):
                        await self._ready.wait()
                except TimeoutError:
                    continue
        finally:
            loop.remove_reader(self.endpoint.descriptor)

    def close(self) -> None:
        """Say goodbye."""
        self.endpoint.close()

    def _poll(self) -> None:
        for occurrence in self.endpoint.poll(0.0):
            match occurrence:
                case Arrived(peer=peer, frame=frame):
                    self.board.take(peer, frame)
                case Lost(peer=peer, fault=fault):
                    self.board.unplug(peer, fault.message)
                case Notice("connected", _, peer):
                    self.board.plug(peer, partial(self._send, peer))
                case Notice(what, _, peer, why):
                    self.board.report(what, peer, why)
        self._polled.set()

    def _send(self, peer: str, frame: bytes) -> None:
        self.endpoint.send(SERVER, peer, frame)
        self._ready.set()
