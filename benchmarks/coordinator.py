"""Where the coordinator's CPU time goes when long masked vectors arrive and some owners are lost, beside what it cannot do without.

    PYTHONPATH=. OMP_NUM_THREADS=1 python benchmarks/coordinator.py                # 20 owners, 5 lost, 1e6 entries of 64 bits
    PYTHONPATH=. OMP_NUM_THREADS=1 python benchmarks/coordinator.py --threads 2    # masks taken off by so many threads

Vectors travel as in a deployment: signed frames of 1 MiB over a Unix socket from another process, then the party's checks,
the session, the sum, the masks. Milliseconds of this process's CPU time, for one vector until masks are taken off; the
least of several runs. Floors: the same bytes through ``recv_into``, SHA-256, one addition, the keystreams of one thread.
"""

import argparse
import asyncio
import hashlib
import multiprocessing
import os
import shutil
import socket
import tempfile
import time
from pathlib import Path

import numpy as np

from veilstat.architectures.masking import bonawitz17 as paper
from veilstat.architectures.masking.bonawitz17_owner import Owner
from veilstat.architectures.masking.bonawitz17_server import Server
from veilstat.arithmetic.keystream import Keystream, fastest_mode
from veilstat.arithmetic.rings import Ring
from veilstat.platform.threads import executor_of
from veilstat.protocol.envelope import Envelope, seal
from veilstat.protocol.identity import Identity, Roster
from veilstat.protocol.member import Member
from veilstat.protocol.session import Binding, Send, Session
from veilstat.transports.stream import dial, listen

ROOT, STEP = bytes(32), bytes([1]) * 32
RUNS = 3


class Clock:
    """The least seconds by name."""

    def __init__(self):
        self.cpu, self.wall = {}, {}

    def time(self, name, call):
        cpu, wall = time.process_time(), time.perf_counter()
        result = call()
        self.note(name, time.process_time() - cpu, time.perf_counter() - wall)
        return result

    def note(self, name, cpu, wall):
        self.cpu[name] = min(self.cpu.get(name, cpu), cpu)
        self.wall[name] = min(self.wall.get(name, wall), wall)


class Owners:
    """Owners of one session, which the server's frames are passed to."""

    def __init__(self, count, length, ring):
        self.names = tuple(f"owner{place:02}" for place in range(count))
        everybody = [Identity.from_seed(name, hashlib.sha256(name.encode()).digest()) for name in (*self.names, "server")]
        self.identities = {its.name: its for its in everybody}
        roles = {name: "server" if name == "server" else "owner" for name in self.identities}
        self.roster = Roster({its.name: its.public for its in everybody}, roles)
        self.ring, self.length = ring, length
        self.vector = np.random.default_rng(1).integers(0, 2**20, length).astype(np.uint64)
        self.rounds = {}

    def start(self):
        threshold = len(self.names) // 2 + 1
        its = ring_vector(self.ring, self.vector)
        for name in self.names:
            party = Owner(name, "server", "analyst", self.names, threshold, STEP, self.ring, its, None, os.urandom, lambda survivors: None)
            turn = party.start()
            self.rounds[name] = turn.following
            yield from self._frames(name, turn)

    def answer(self, name, payload):
        self.rounds[name].take("server", payload)
        turn = self.rounds[name].close()
        self.rounds[name] = turn.following
        return list(self._frames(name, turn))

    def _frames(self, name, turn):
        for message in turn.send:
            yield from seal(self.identities[name], ROOT, STEP, message.round, "server", message.payload)


def ring_vector(ring, vector):
    total = ring.zeros(len(vector))
    (total if ring.limbs == 1 else total[:, 0])[:] = vector
    return total


async def through_a_socket(frames, clock):
    """The same frames, from another process, on a connection that has carried as many before."""
    folder = tempfile.mkdtemp(prefix="vs-")
    arrived = asyncio.get_running_loop().create_future()

    async def read(stream):
        received = [await stream.receive() for _ in frames]
        cpu, wall = time.process_time(), time.perf_counter()
        received = [await stream.receive() for _ in frames]
        clock.note("receive", time.process_time() - cpu, time.perf_counter() - wall)
        stream.send(b"")
        await stream.flush()
        arrived.set_result(received)

    tasks = []
    server = await listen(Path(folder) / "socket", lambda stream: tasks.append(asyncio.create_task(read(stream))))
    sender = multiprocessing.get_context("fork").Process(target=send_all, args=(f"{folder}/socket", frames))
    sender.start()
    async with asyncio.timeout(30):
        received = await arrived
    sender.join()
    server.close()
    shutil.rmtree(folder)
    return received


def send_all(path, frames):
    async def send():
        stream = await dial(path)
        for frame in (*frames, *frames):
            stream.send(frame)
            await stream.flush()
        await stream.receive()

    asyncio.run(send())


def run(clock, count, lost, length, bits, executor):
    ring = Ring(bits)
    owners = Owners(count, length, ring)
    server = Server("server", "analyst", owners.names, count // 2 + 1, STEP, ring, length, executor=executor)
    binding = Binding(owners.identities["server"], owners.roster, ROOT, STEP, (*paper.ROUNDS, paper.RESULT), ())
    session = Session(binding, server.start())
    member = Member(owners.identities["server"], owners.roster)

    def take(frames):
        envelopes = [Envelope.decode(frame) for frame in frames]
        for envelope in envelopes:
            envelope.verify(member)
        return envelopes

    for envelope in take(owners.start()):
        session.receive(envelope)
    silent = set(owners.names[:lost])
    for _ in range(3):
        asked = [event for event in session.events() if isinstance(event, Send)]
        masked = session.waiting_for == paper.MASKED_INPUT
        answers = []
        for event in asked:
            if not (masked and event.recipient in silent):
                answers.append(owners.answer(event.recipient, Envelope.decode(event.frame).payload))
        for place, frames in enumerate(answers):
            if masked:
                frames = asyncio.run(through_a_socket(frames, clock)) if place < RUNS else frames
                envelopes = clock.time("verify", lambda: take(frames))  # noqa: B023
                clock.time("assemble and add", lambda: [session.receive(envelope) for envelope in envelopes])  # noqa: B023
            elif session.waiting_for == paper.UNMASKING and place == len(answers) - 1:
                (envelope,) = take(frames)
                clock.time("take off all masks, seal the total", lambda: session.receive(envelope))  # noqa: B023
            else:
                for envelope in take(frames):
                    session.receive(envelope)
        if masked and silent:
            session.expire(paper.MASKED_INPUT)
    payload = b"".join(bytes(Envelope.decode(event.frame).payload) for event in session.events() if isinstance(event, Send))
    _, _, raw = paper.decode_result(memoryview(payload), "server")
    assert bytes(raw) == bytes(ring.to_bytes(ring_vector(ring, owners.vector * np.uint64(count - lost))))


def measure_floors(clock, count, lost, length, bits):
    ring = Ring(bits)
    total, raw = ring.zeros(length), os.urandom(length * ring.element_bytes)
    stream, other = Keystream(ring, fastest_mode()), ring.from_bytes(raw)
    for _ in range(3 * RUNS):
        clock.time("sha", lambda: hashlib.sha256(raw).digest())
        clock.time("sum", lambda: ring.add(total, other))
        clock.time("streams", lambda: [stream.add(total, bytes(28)) for _ in range(10)])
        theirs, ours = socket.socketpair()
        if os.fork() == 0:
            theirs.sendall(raw)
            os._exit(0)
        buffer = memoryview(bytearray(len(raw)))
        clock.time("bytes", lambda: receive_into(ours, buffer))  # noqa: B023
        os.wait()
        theirs.close()
        ours.close()
    return (count - lost) * (1 + lost)


def receive_into(line, buffer):
    got = 0
    while got < len(buffer):
        got += line.recv_into(buffer[got:])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--owners", type=int, default=20)
    parser.add_argument("--lost", type=int, default=5)
    parser.add_argument("--length", type=int, default=10**6)
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    shape = (options.owners, options.lost, options.length, options.bits)
    clock, floor = Clock(), Clock()
    for _ in range(RUNS):
        run(clock, *shape, executor_of(options.threads))
    masks = measure_floors(floor, *shape)
    floors = {"receive": floor.cpu["bytes"], "verify": floor.cpu["sha"], "assemble and add": floor.cpu["sum"]}
    for name in clock.cpu:
        least = floors.get(name, masks / 10 * floor.cpu["streams"])
        print(f"| {name} | {1e3 * clock.cpu[name]:.1f} | {1e3 * least:.1f} | {clock.cpu[name] / least:.1f} |")
    print(f"{masks} masks; wall of the last line: {1e3 * clock.wall[name]:.1f} ms")


if __name__ == "__main__":
    main()
