"""The coordinator as a process (`veilstat coordinator`): its party, lines to owners and compute servers, and the gateway."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
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
from ..epochs import study_digest
from ..identity_file import read_identity
from ..planner import make_planner
from ..roster_file import read_roster, require_parties
from ..study_file import load_published
from ..threads import executor_of
from .compute_lines import ComputeLines
from .coordinator_file import CoordinatorFile, load_coordinator_file
from .epoch_opener import EpochOpener
from .gateway import Gateway, serve_gateway
from .journal import Journal, Sparing
from .limits import RateLimit
from .owner_lines import Connect, Room, always_room, keep_line
from .patience import Patience
from .private import make_private
from .process import open_journal, plainly, told_to_end
from .ray_addition import RayTasks, addition_in
from .ray_cluster import Cluster, join_cluster
from .sessions import Sessions
from .switchboard import Switchboard
from .tokens import read_tokens

_LOOKS = 0.25
_REQUESTS_A_SECOND, _REQUESTS_AT_ONCE = 50.0, 500.0
_FAILURES_A_SECOND, _FAILURES_AT_ONCE = 0.2, 10.0


def run_coordinator(path: Path) -> None:
    """Serve the coordinator of a study's file until SIGTERM or SIGINT.

    Raises:
        SchemaError: a file is missing or wrong. CapabilityError: a key is not kept well, an address cannot be listened on, or
        an owner cannot be reached in any way.
    """
    config = load_coordinator_file(path)
    journal = open_journal(config.log)
    with plainly():
        asyncio.run(_serve(config, journal))


async def _serve(config: CoordinatorFile, journal: Journal) -> None:
    published = load_published(config.study)
    definition = published.definition()
    directory = read_roster(config.roster)
    roster = directory.roster
    require_parties(config.roster, roster, definition)
    identity = read_identity(config.identity, SERVER, roster.keys[SERVER])
    tasks_of_ray = RayTasks(0 if config.ray is None else config.ray.workers)
    party = Coordinator(
        Member(identity, roster),
        definition,
        make_planner(),
        _epoch_store(config, definition, roster),
        _addition(tasks_of_ray, journal),
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
        RateLimit(_REQUESTS_A_SECOND, _REQUESTS_AT_ONCE, time.monotonic),
        RateLimit(_FAILURES_A_SECOND, _FAILURES_AT_ONCE, time.monotonic),
    )
    is_over = told_to_end()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        lines = _sockets(config, definition.owners)
        tasks = []
        far = [owner for owner in definition.owners if owner not in lines]
        if far or tasks_of_ray.workers:
            cluster = _cluster(config, far, stack)
            stack.callback(tasks_of_ray.close)
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
        group.create_task(serve_gateway(gateway, config.listen, config.certificate, is_over))
        journal.write("started", roster=roster.digest.hex()[:16], study=definition.digest.hex()[:16], gateway=str(config.gateway))
        await is_over.wait()
        for task in tasks:
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
    make_private(config.epoch)
    return EpochStore(config.epoch, study_digest(definition, roster))


def _addition(tasks_of_ray: RayTasks, journal: Journal) -> Addition:
    """In Ray's tasks where its head has workers for them."""
    if not tasks_of_ray.workers:
        return SumHere
    return addition_in(tasks_of_ray, lambda added, lost: journal.write("added_in_tasks", vectors=added, lost=lost))


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
