"""The coordinator as a process (`veilstat coordinator`): its party, lines to owners and compute servers, and the gateway."""

from __future__ import annotations

import asyncio
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from veilstat.architectures.addition import Addition, SumHere
from veilstat.errors import CapabilityError, SchemaError
from veilstat.protocol.identity import Roster
from veilstat.protocol.member import Member
from veilstat.transports.line import SocketLine

from ..coordinator import Coordinator
from ..definition import SERVER, Definition
from ..epoch_store import EpochStore
from ..identity_file import read_identity
from ..planner import make_planner
from ..roster_file import read_roster
from ..study_file import load_published
from ..threads import executor_of
from .compute_lines import ComputeLines
from .coordinator_file import CoordinatorFile, load_coordinator_file
from .epoch_directory import open_store
from .epoch_opener import EpochOpener
from .gateway import Gateway
from .journal import Journal, Sparing
from .limits import RateLimit
from .owner_lines import Connect, Room, always_room, keep_line
from .patience import Patience
from .plainly import plainly
from .ray_addition import RayTasks, addition_in
from .ray_cluster import Cluster, join_cluster
from .sessions import Sessions
from .switchboard import Switchboard
from .tokens import read_tokens

_LOOKS = 0.25
REQUESTS_A_SECOND, REQUESTS_AT_ONCE = 50.0, 500.0
FAILURES_A_SECOND, FAILURES_AT_ONCE = 0.2, 10.0


def run_coordinator(path: Path) -> None:
    """Serve the coordinator of a study's file until SIGTERM or SIGINT.

    Raises:
        SchemaError: a file is missing or wrong. CapabilityError: a key is not kept well, an address cannot be listened on, or
        an owner cannot be reached in any way.
    """
    config = load_coordinator_file(path)
    journal = Journal(config.log, lambda: datetime.now(UTC))
    sys.excepthook = journal.write_crash
    with plainly():
        asyncio.run(_serve(config, journal))


async def _serve(config: CoordinatorFile, journal: Journal) -> None:
    published = load_published(config.study)
    definition = published.definition()
    directory = read_roster(config.roster)
    roster = directory.roster
    if dict(roster.roles) != definition.roles:
        raise SchemaError(
            f"{config.roster.name} lists other parties than {config.study.name}; make the certificates anew", code="roster_differs"
        )
    identity = read_identity(config.identity, SERVER, roster.keys[SERVER])
    party = Coordinator(
        Member(identity, roster),
        definition,
        make_planner(),
        _epoch_store(config, definition, roster),
        _addition(config, journal),
        executor_of(config.threads),
    )
    board = Switchboard(party, Patience(config.progress, time.monotonic), _reporter(journal))
    sessions = Sessions(board, secrets.token_bytes, time.monotonic)
    gateway = Gateway(
        published,
        roster.digest,
        board,
        sessions,
        read_tokens(config.tokens),
        RateLimit(REQUESTS_A_SECOND, REQUESTS_AT_ONCE, time.monotonic),
        RateLimit(FAILURES_A_SECOND, FAILURES_AT_ONCE, time.monotonic),
    )
    is_over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, is_over.set)
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        lines = _sockets(config, definition.owners)
        tasks = []
        far = [owner for owner in definition.owners if owner not in lines]
        if far or _workers(config):
            cluster = _cluster(config, far, stack)
            lines |= cluster.connects
            tasks.append(group.create_task(cluster.watch()))
        room: Room = always_room
        if definition.servers:
            compute = ComputeLines(directory, config.identity, board, definition.servers)
            stack.callback(compute.close)
            tasks.append(group.create_task(compute.serve()))
            room = compute.room
        tasks += [group.create_task(keep_line(owner, connect, board, roster.digest, room)) for owner, connect in lines.items()]
        tasks.append(group.create_task(_watch(board, sessions, EpochOpener(board, time.monotonic))))
        tasks.append(group.create_task(_serve_gateway(gateway, config, is_over)))
        journal.write("started", roster=roster.digest.hex()[:16], study=definition.digest.hex()[:16], gateway=str(config.gateway))
        await is_over.wait()
        for task in tasks[:-1]:
            task.cancel()
    journal.write("ended")


def _epoch_store(config: CoordinatorFile, definition: Definition, roster: Roster) -> EpochStore | None:
    """Where the study has encrypted rows."""
    if not definition.keeps_epochs:
        return None
    if config.epoch is None:
        raise SchemaError(
            f"{config.study.name}: [coordinator] has no epoch, which names the directory that encrypted rows are kept in; add epoch = 'epoch'",
            code="missing_key",
        )
    return open_store(config.epoch, definition, roster)


def _workers(config: CoordinatorFile) -> int:
    return 0 if config.ray is None else config.ray.workers


def _addition(config: CoordinatorFile, journal: Journal) -> Addition:
    """In Ray's tasks where its head has workers for them."""
    if not _workers(config):
        return SumHere
    return addition_in(RayTasks(_workers(config)), lambda added, lost: journal.write("added_in_tasks", vectors=added, lost=lost))


def _reporter(journal: Journal) -> Callable[[str, str, str], None]:
    """Queries are all noted; of what parties can cause without one, only so much."""
    caused = Sparing(journal, time.monotonic)

    def report(event: str, name: str, why: str) -> None:
        (journal if event == "query" else caused).write(event, party=name, why=why)

    return report


def _sockets(config: CoordinatorFile, owners: tuple[str, ...]) -> dict[str, Connect]:
    """Owners whose agents run on this machine."""
    return {owner: partial(SocketLine.connect, str(config.sockets[owner])) for owner in owners if owner in config.sockets}


def _cluster(config: CoordinatorFile, owners: list[str], stack: AsyncExitStack) -> Cluster:
    """The others, on their nodes."""
    if config.ray is None:
        raise CapabilityError(
            f"there is no way to {owners[0]!r}: give [coordinator.sockets] its agent's socket, or reach its node over [coordinator.ray]",
            code="no_line",
        )
    return join_cluster(config.ray, owners, stack)


async def _watch(board: Switchboard, sessions: Sessions, opener: EpochOpener) -> None:
    while True:
        await asyncio.sleep(_LOOKS)
        board.tick()
        sessions.tick()
        opener.tick()


async def _serve_gateway(gateway: Gateway, config: CoordinatorFile, is_over: asyncio.Event) -> None:
    import ssl

    import uvicorn

    class Server(uvicorn.Server):
        """Signals end the whole process, so they are taken elsewhere."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    settings = uvicorn.Config(
        gateway.application(),
        host=config.listen.host,
        port=config.listen.port,
        http="h11",
        ws="none",
        lifespan="off",
        ssl_certfile=config.certificate,
        ssl_keyfile=config.certificate,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=64,
        timeout_graceful_shutdown=2,
    )
    settings.load()
    assert settings.ssl is not None
    settings.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    server = Server(settings)

    async def end() -> None:
        await is_over.wait()
        server.should_exit = True

    ending = asyncio.create_task(end())
    try:
        await server.serve()
    except SystemExit:
        raise CapabilityError(f"the gateway cannot listen on {config.listen}; end what listens there", code="cannot_listen") from None
    finally:
        ending.cancel()
    is_over.set()
