"""The walk of docs/architecture.md through a deployment: a query through gateway, coordinator, relays and agents in one process.

The classes are those of a deployment, with three stand-ins: a client that calls the gateway's application without HTTPS, an
actor handle that calls the relay without Ray, and an event loop that all of them share.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType, SimpleNamespace
from typing import Any

import veilstat as vs
from docs.drawing import GREY, INK, Drawing
from veilstat.platform.deployment.connect import Deployment
from veilstat.platform.deployment.gateway import Gateway
from veilstat.platform.deployment.gateway_client import GatewayClient
from veilstat.platform.deployment.journal import Journal
from veilstat.platform.deployment.limits import RateLimit
from veilstat.platform.deployment.owner import AgentHost
from veilstat.platform.deployment.owner_lines import always_room, keep_line
from veilstat.platform.deployment.patience import Patience
from veilstat.platform.deployment.sessions import Sessions
from veilstat.platform.deployment.switchboard import Switchboard
from veilstat.platform.published import Published
from veilstat.protocol.envelope import Envelope
from veilstat.testing.tables import small_schema, small_tables
from veilstat.transports.ray import SOCKET_VARIABLE, RayLine, Relay
from veilstat.transports.stream import listen

NAME, TITLE = "deployed", 'study.mean("age") under masking, in a deployment'
OWNERS = ("east", "north", "south", "west")
LANES: Mapping[str, type] = {"analyst": Deployment, "gateway": Gateway, "coordinator": Switchboard, "relays": Relay, "agents": AgentHost}
"""From left to right, and who moves frames there."""
_ACROSS = 250
_WITHIN = f"{Path(vs.__file__).parent}/"


@dataclass(slots=True)
class Passage:
    """A message that one lane says to others: which it reached, and what took it in the end."""

    sender: str
    words: str
    reached: dict[str, None] = field(default_factory=dict)
    taken_by: str = ""


@dataclass(slots=True)
class Watch:
    """A profiler that notes where frames arrive, and which files a query enters."""

    passages: dict[tuple[str, str], Passage] = field(default_factory=dict)
    files: dict[str, None] = field(default_factory=dict)

    def see(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(_WITHIN):
            return
        self.files.setdefault(code.co_filename.removeprefix(_WITHIN))
        here = frame.f_locals
        match code.co_qualname:
            case "Switchboard.take":
                self._arrive(here["frame"], "gateway" if here["origin"] == "analyst" else "relays", "coordinator")
            case "Relay.send":
                self._arrive(here["frame"], "relays")
            case "AgentHost._hear":
                self._arrive(here["frame"], "agents")
            case "Sessions._receive":
                self._arrive(here["frame"], "gateway", "analyst")
            case name if name.endswith(".take") and "sender" in here:
                self._take(here["sender"], here["self"].name.partition("/")[0], here["self"])
            case name if name.endswith(".on_query"):
                self._take(here["envelope"].sender, here["envelope"].round, here["self"])

    def _arrive(self, frame: bytes, *lanes: str) -> None:
        envelope = Envelope.decode(frame)
        passage = self._passage(envelope.sender, envelope.round)
        passage.reached |= dict.fromkeys(lanes)

    def _take(self, sender: str, words: str, by: object) -> None:
        self._passage(sender, words).taken_by = f"{'/'.join(type(by).__module__.split('.')[-2:])}.py: {type(by).__name__}"

    def _passage(self, sender: str, words: str) -> Passage:
        lane = "agents" if sender in OWNERS else "coordinator" if sender == "server" else sender
        return self.passages.setdefault((lane, words), Passage(lane, words))


class Client(GatewayClient):
    """Calls the gateway's application; everybody else goes on while it waits."""

    def __init__(self, application: Any, loop: asyncio.AbstractEventLoop, token: str) -> None:
        self.where, self._application, self._loop = "the gateway", application, loop
        self._header = (b"authorization", f"Bearer {token}".encode())

    def request(self, method: str, path: str, body: bytes = b"") -> tuple[Any, bytes]:
        return self._loop.run_until_complete(self._ask(method, path, body))

    def close(self) -> None:
        pass

    async def _ask(self, method: str, path: str, body: bytes) -> tuple[Any, bytes]:
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [self._header],
            "client": ("", 0),
        }
        told: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: dict[str, Any]) -> None:
            told.append(message)

        await self._application(scope, receive, send)
        headers = {name.decode(): value.decode() for name, value in told[0]["headers"]}
        return SimpleNamespace(headers=headers), b"".join(message.get("body", b"") for message in told[1:])


class Actor:
    """What Ray gives for a relay on an owner's node: methods to call from afar."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self.relay, name))


class Line(RayLine):
    """A line over a relay that is no process."""

    def close(self) -> None:
        self._relay.relay._line.close()


async def _connect(path: Path) -> Line:
    relay = Relay()
    os.environ[SOCKET_VARIABLE] = str(path)
    return Line(Actor(relay), await relay.open())


@contextmanager
def _deployment() -> Iterator[tuple[vs.Study, Deployment]]:
    """A study, and its parties joined as in a deployment."""
    loop = asyncio.new_event_loop()
    study = vs.simulate(dict(zip(OWNERS, small_tables().values(), strict=False)), small_schema(), vs.Masking())
    parties: Any = study._backend
    board = Switchboard(parties.coordinator, Patience(60, time.monotonic), lambda event, name, why: None)
    often = RateLimit(1e6, 1e6, time.monotonic)
    published = Published("", "masking", {}, OWNERS, {})
    tokens = {"alice": hashlib.sha256(b"token").hexdigest()}
    sessions = Sessions(board, os.urandom, time.monotonic)
    gateway = Gateway(published, parties.coordinator.roster.digest, board, sessions, tokens, often, often)
    with TemporaryDirectory() as name:
        servers = loop.run_until_complete(_join(Path(name), parties.agents, board, parties.coordinator.roster.digest))
        yield study, Deployment(Client(gateway.application(), loop, "token"), parties.analyst, study.definition, 60.0)
        loop.run_until_complete(_end(servers))
    loop.close()


async def _join(folder: Path, agents: Mapping[str, Any], board: Switchboard, roster: bytes) -> list[asyncio.Server]:
    """Every agent behind its socket, a relay in front of it, and a line from the coordinator to the relay."""
    loop, servers = asyncio.get_running_loop(), []
    for name, agent in agents.items():
        path = folder / name
        host = AgentHost(agent, Journal(folder / f"{name}.log", lambda: datetime.now(UTC)), Patience(60, time.monotonic))
        servers.append(await listen(path, lambda stream, host=host: loop.create_task(host.serve(stream))))
        loop.create_task(keep_line(name, partial(_connect, path), board, roster, always_room))  # the loop's tasks are all ended together
        while name not in board.ports:
            await asyncio.sleep(0.001)
    return servers


async def _end(servers: list[asyncio.Server]) -> None:
    """Lines are ended first, so that hosts hear that they are alone."""
    for server in servers:
        server.close()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0.01)


def run() -> tuple[tuple[Passage, ...], tuple[str, ...], Any]:
    """What travelled and was taken, the files that it entered, and the result."""
    with _deployment() as (study, deployment):
        plan, watch = study.plan(vs.Mean("age")), Watch()
        sys.setprofile(watch.see)
        try:
            result = deployment.run(plan, lambda *step: None)
        finally:
            sys.setprofile(None)
    return tuple(passage for passage in watch.passages.values() if passage.taken_by), tuple(watch.files), result


def picture(passages: tuple[Passage, ...]) -> str:
    """Lanes with who moves frames there, and every message over all the lanes that it passes."""
    across = {title: 125 + _ACROSS * place for place, title in enumerate(LANES)}
    drawing = Drawing(_ACROSS * len(LANES), 96 + 46 * len(passages))
    drawing.words(16, 24, TITLE, 15, anchor="start", weight="bold")
    for title, x in across.items():
        drawing.line(x, 86, x, drawing.height - 14, GREY, "3 4")
        drawing.box(x - 116, 40, 232, 46)
        drawing.words(x, 60, title)
        kind = LANES[title]
        drawing.words(x, 76, f"{'/'.join(kind.__module__.split('.')[-2:])}.py: {kind.__name__}", 10, GREY)
    for place, passage in enumerate(passages):
        _draw(drawing, passage, 122 + 46 * place, across)
    return drawing.svg()


def _draw(drawing: Drawing, passage: Passage, y: int, across: Mapping[str, int]) -> None:
    start = across[passage.sender]
    ends = sorted((across[lane] for lane in passage.reached if across[lane] != start), key=lambda x: abs(x - start))
    stops = [start, *ends]
    for x1, x2 in zip(stops, ends, strict=False):
        drawing.arrow(x1, y, x2 - 2 if x2 > x1 else x2 + 2, y, INK)
    drawing.words((stops[0] + stops[1]) // 2, y - 6, passage.words)
    drawing.words((stops[-2] + stops[-1]) // 2, y + 13, passage.taken_by, 10, GREY)
