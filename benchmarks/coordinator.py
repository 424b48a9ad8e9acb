"""Where the coordinator's CPU time goes when long masked vectors arrive and some owners are lost, beside what it cannot do without.

    OMP_NUM_THREADS=1 python -m benchmarks.coordinator                # 20 owners, 5 lost, 1e6 entries of 64 bits
    OMP_NUM_THREADS=1 python -m benchmarks.coordinator --threads 2    # masks taken off by so many threads

Vectors travel as in a deployment: signed frames of 1 MiB over a Unix socket from another process, then the party's checks,
the session, the sum, the masks. Milliseconds of this process's CPU time, for one vector until masks are taken off; the
least of several runs. Floors: the same bytes through ``recv_into``, SHA-256, one addition, the keystreams of one thread.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import multiprocessing
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import Clock, row
from veilstat.architectures.masking import bonawitz17 as paper
from veilstat.architectures.masking.bonawitz17_owner import Owner
from veilstat.architectures.masking.bonawitz17_server import Server
from veilstat.arithmetic.executor import Executor
from veilstat.arithmetic.keystream import SEED_BYTES, add_keystreams
from veilstat.arithmetic.rings import Elements, Ring
from veilstat.platform.threads import executor_of
from veilstat.protocol.envelope import Envelope, seal
from veilstat.protocol.identity import Identity, Roster
from veilstat.protocol.member import Member
from veilstat.protocol.session import Binding, Send, Session, Turn
from veilstat.transports.stream import Stream, dial, listen

ROOT, STEP = bytes(32), bytes([1]) * 32
RECEIVE, VERIFY, ADD, UNMASK = "receive", "verify", "assemble and add", "take off all masks, seal the total"
RUNS, SENT = 3, 3


@dataclass(frozen=True)
class Shape:
    """Owners, of whom some are lost before their masked vectors, and vectors."""

    count: int
    lost: int
    length: int
    ring: Ring

    @property
    def masks(self) -> int:
        """What the server expands: each survivor's own, and those that it shares with each of the lost."""
        return (self.count - self.lost) * (1 + self.lost)

    def vector(self, factor: int) -> Elements:
        """Every owner's input, times a factor."""
        total = self.ring.zeros(self.length)
        (total if self.ring.limbs == 1 else total[:, 0])[:] = np.arange(self.length) * factor
        return total


@dataclass
class Owners:
    """The owners of one session, by hand."""

    shape: Shape
    names: tuple[str, ...]
    identities: dict[str, Identity]
    waiting: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(shape: Shape) -> Owners:
        names = tuple(f"owner{place:02}" for place in range(shape.count))
        return Owners(shape, names, {name: Identity.from_seed(name, hashlib.sha256(name.encode()).digest()) for name in (*names, "server")})

    @property
    def roster(self) -> Roster:
        roles = {name: "server" if name == "server" else "owner" for name in self.identities}
        return Roster({name: its.public for name, its in self.identities.items()}, roles)

    @property
    def threshold(self) -> int:
        return self.shape.count // 2 + 1

    def start(self) -> list[bytes]:
        """Everybody's first frames."""
        vector, frames = self.shape.vector(1), list[bytes]()
        for name in self.names:
            party = Owner(
                name, "server", "analyst", self.names, self.threshold, STEP, self.shape.ring, vector, None, os.urandom, lambda survivors: None
            )  # fmt: skip
            frames += self._sealed(name, party.start())
        return frames

    def answer(self, event: Send) -> list[bytes]:
        """One owner's frames, once it was told something."""
        waiting = self.waiting[event.recipient]
        waiting.take("server", Envelope.decode(event.frame).payload)
        return list(self._sealed(event.recipient, waiting.close()))

    def _sealed(self, name: str, turn: Turn) -> Iterator[bytes]:
        self.waiting[name] = turn.following
        for message in turn.send:
            yield from seal(self.identities[name], ROOT, STEP, message.round, "server", message.payload)


async def through_a_socket(frames: list[bytes], clock: Clock) -> list[bytes]:
    """The same frames, from another process, on a connection that has carried as many before."""
    folder = tempfile.mkdtemp(prefix="vs-")
    arrived: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()

    async def read(stream: Stream) -> None:
        received = [await stream.receive() for _ in frames]
        start = time.process_time()
        received = [await stream.receive() for _ in frames]
        clock.spent.setdefault(RECEIVE, []).append(time.process_time() - start)
        stream.send(b"")
        await stream.flush()
        arrived.set_result(received)

    tasks = []
    server = await listen(Path(folder) / "socket", lambda stream: tasks.append(asyncio.create_task(read(stream))))
    sender = multiprocessing.get_context("fork").Process(target=send_all, args=(f"{folder}/socket", [*frames, *frames]))
    sender.start()
    async with asyncio.timeout(60):
        received = await arrived
    sender.join()
    server.close()
    shutil.rmtree(folder)
    return received


def send_all(path: str, frames: list[bytes]) -> None:
    """What the other process does."""

    async def send() -> None:
        stream = await dial(path)
        for frame in frames:
            stream.send(frame)
            await stream.flush()
        await stream.receive()

    asyncio.run(send())


def run(clock: Clock, shape: Shape, executor: Executor) -> float:
    """One session; the sum is checked. Wall seconds of taking off all masks."""
    owners = Owners.of(shape)
    server = Server("server", "analyst", owners.names, owners.threshold, STEP, shape.ring, shape.length, executor=executor)
    binding = Binding(owners.identities["server"], owners.roster, ROOT, STEP, (*paper.ROUNDS, paper.RESULT), ())
    session, member = Session(binding, server.start()), Member(owners.identities["server"], owners.roster)

    def verified(frames: list[bytes]) -> list[Envelope]:
        envelopes = [Envelope.decode(frame) for frame in frames]
        for envelope in envelopes:
            envelope.verify(member)
        return envelopes

    def take(envelopes: list[Envelope]) -> None:
        for envelope in envelopes:
            session.receive(envelope)

    def asked() -> list[Send]:
        return [event for event in session.events() if isinstance(event, Send)]

    take(verified(owners.start()))
    for event in asked():
        take(verified(owners.answer(event)))
    for place, event in enumerate(asked()[shape.lost :]):
        frames = owners.answer(event)
        if place < SENT:
            frames = asyncio.run(through_a_socket(frames, clock))
        envelopes = clock.time(VERIFY, partial(verified, frames))
        clock.time(ADD, partial(take, envelopes))
    if shape.lost:
        session.expire(paper.MASKED_INPUT)
    answers = [verified(owners.answer(event)) for event in asked()]
    for answer in answers[:-1]:
        take(answer)
    start = time.perf_counter()
    clock.time(UNMASK, lambda: take(answers[-1]))
    wall = time.perf_counter() - start
    payload = b"".join(Envelope.decode(event.frame).payload for event in asked())
    _, _, total = paper.decode_result(memoryview(payload), "server")
    assert total == shape.ring.to_bytes(shape.vector(shape.count - shape.lost))
    return wall


def measure_floors(clock: Clock, shape: Shape) -> None:
    """What cannot be done without, by the names of what does it."""
    total, raw = shape.ring.zeros(shape.length), os.urandom(shape.length * shape.ring.element_bytes)
    other = shape.ring.from_bytes(raw)
    buffer = memoryview(bytearray(len(raw)))
    for _ in range(9):
        clock.time(VERIFY, lambda: hashlib.sha256(raw).digest())
        clock.time(ADD, lambda: shape.ring.add(total, other))
        clock.time(UNMASK, lambda: add_keystreams(shape.ring, total, [bytes(SEED_BYTES)] * 10, []))
        theirs, ours = socket.socketpair()
        sender = multiprocessing.get_context("fork").Process(target=theirs.sendall, args=(raw,))
        sender.start()
        clock.time(RECEIVE, partial(receive_into, ours, buffer))
        sender.join()
        theirs.close()
        ours.close()
    clock.spent[UNMASK] = [seconds * shape.masks / 10 for seconds in clock.spent[UNMASK]]


def receive_into(line: socket.socket, buffer: memoryview) -> None:
    got = 0
    while got < len(buffer):
        got += line.recv_into(buffer[got:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--owners", type=int, default=20)
    parser.add_argument("--lost", type=int, default=5)
    parser.add_argument("--length", type=int, default=10**6)
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    shape = Shape(options.owners, options.lost, options.length, Ring(options.bits))
    clock, floors = Clock(), Clock()
    wall = min(run(clock, shape, executor_of(options.threads)) for _ in range(RUNS))
    measure_floors(floors, shape)
    for name in (RECEIVE, VERIFY, ADD, UNMASK):
        least, floor = min(clock.spent[name]), min(floors.spent[name])
        print(row(name, f"{1e3 * least:.1f}", f"{1e3 * floor:.1f}", f"{least / floor:.1f}"))
    print(f"{shape.masks} masks; wall of the last line: {1e3 * wall:.1f} ms")


if __name__ == "__main__":
    main()
