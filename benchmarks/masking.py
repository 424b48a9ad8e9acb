"""Pairwise masking: CPU time per client and server beside the floor of the same bytes, and the server's peak memory.

    OMP_NUM_THREADS=1 python -m benchmarks.masking                  # the table of docs/benchmarks.md
    OMP_NUM_THREADS=1 python -m benchmarks.masking --owners 100 --drop 30
    OMP_NUM_THREADS=1 python -m benchmarks.masking --memory         # 500 vectors of 1e6 64-bit entries

One thread. The protocol's rounds are fed directly, as a session feeds them; signing and verifying envelopes is
listed by itself, measured on the same messages. The floor is what no implementation can avoid: the keystream bytes
added into a vector, and the X25519 exchanges.
"""

from __future__ import annotations

import argparse
import os
import statistics
from functools import partial
from typing import Any

import numpy as np

from benchmarks.measuring import Clock, heading, peak_memory, row
from veilstat.architectures.addition import SumHere
from veilstat.architectures.masking.bonawitz17_owner import Owner
from veilstat.architectures.masking.bonawitz17_server import CollectInputs, Server
from veilstat.arithmetic.agreement import KeyPair
from veilstat.arithmetic.keystream import SEED_BYTES, Keystream, fastest_mode
from veilstat.arithmetic.rings import Ring
from veilstat.protocol.envelope import Envelope, seal
from veilstat.protocol.identity import Identity, Roster

CONTEXT = bytes(32)
TIMED_OWNERS = 6


def run_session(count: int, drop: int, length: int, bits: int) -> tuple[Clock, int]:
    """A whole session of ``count`` owners, ``drop`` percent lost before their masked input; sums are checked."""
    clock, ring, threshold = Clock(), Ring(bits), 2 * count // 3
    names = [f"owner{place:04}" for place in range(count)]
    lost = set(names[:: max(1, count // max(1, round(count * drop / 100)))][: round(count * drop / 100)]) if drop else set()
    vector = np.random.default_rng(1).integers(0, 2**20, length).astype(ring.dtype)
    server = Server("server", "analyst", tuple(names), threshold, CONTEXT, ring, length)
    waiting: dict[str, Any] = {}
    collecting: Any = server.start().following
    for name in names:
        owner = Owner(name, "server", "analyst", tuple(names), threshold, CONTEXT, ring, vector, None, os.urandom, lambda survivors: None)
        turn = clock.time("keys", owner.start)
        waiting[name] = turn.following
        collecting.take(name, memoryview(turn.send[0].payload))
    timed = set([name for name in names if name not in lost][:TIMED_OWNERS])
    for round_name in ("shares", "masked", "unmask"):
        asked = collecting.close() if round_name != "unmask" else clock.time("server collects", collecting.close)
        collecting = asked.following
        for message in asked.send:
            name = message.recipient
            if round_name == "masked" and name in lost:
                continue
            waiting[name].take("server", memoryview(message.payload))
            turn = clock.time(round_name if name in timed else "others", waiting[name].close)
            waiting[name] = turn.following
            payload = memoryview(turn.send[0].payload)
            if round_name == "masked":
                clock.time("server adds", partial(collecting.take, name, payload))
            else:
                collecting.take(name, payload)
    clock.time("server unmasks", collecting.close)
    assert np.array_equal(collecting.total, (vector * ring.dtype.type(count - len(lost))).astype(ring.dtype))
    return clock, len(lost)


def server_seconds(clock: Clock) -> float:
    """Adding all vectors and removing all masks."""
    return sum(clock.spent["server adds"]) + clock.median("server unmasks")


def floor(count: int, lost: int, length: int, bits: int) -> tuple[float, float]:
    """(client, server) seconds for keystream bytes, vector additions and key agreements alone."""
    ring = Ring(bits)
    vector, other = ring.zeros(length), ring.zeros(length)
    stream, clock, peer = Keystream(ring, fastest_mode()), Clock(), KeyPair.generate(os.urandom).public
    mine = KeyPair.generate(os.urandom)
    for _ in range(60):
        clock.time("stream", lambda: stream.add(vector, bytes(SEED_BYTES)))
        clock.time("add", lambda: ring.add(vector, other))
        clock.time("exchange", lambda: mine.exchange(peer))
    stream_seconds, add, exchange = (clock.median(name) for name in ("stream", "add", "exchange"))
    survivors = count - lost
    client = count * stream_seconds + 2 * (count - 1) * exchange
    return client, survivors * (add + stream_seconds) + lost * survivors * (stream_seconds + exchange)


def envelope_seconds(payload: int) -> tuple[float, float]:
    """(seal, verify) seconds of one message of ``payload`` bytes."""
    identity = Identity.from_seed("owner0000", bytes(32))
    roster = Roster({"owner0000": identity.public}, {"owner0000": "owner"})
    clock, body = Clock(), bytes(payload)
    for _ in range(9):
        frames = clock.time("seal", lambda: list(seal(identity, CONTEXT, CONTEXT, "masked_input", "server", body)))
        clock.time("verify", partial(verify, frames, roster))
    return clock.median("seal"), clock.median("verify")


def verify(frames: list[bytes], roster: Roster) -> None:
    """What a recipient does with one message."""
    for frame in frames:
        Envelope.decode(frame).verify(roster)


def report(count: int, drop: int, length: int, bits: int) -> None:
    """One line of the table."""
    runs = [run_session(count, drop, length, bits) for _ in range(3 if count <= 100 else 1)]
    client = statistics.median(clock.median("keys", "shares", "masked", "unmask") for clock, _ in runs)
    server = statistics.median(server_seconds(clock) for clock, _ in runs)
    lost = runs[0][1]
    least_client, least_server = floor(count, lost, length, bits)
    sealing, verifying = envelope_seconds(length * bits // 8)
    small_seal, small_verify = envelope_seconds(count * 150)
    client_signing = sealing + 3 * small_seal + 4 * small_verify
    server_signing = (count - lost) * verifying + 3 * count * (small_verify + small_seal)
    its_client = f"{1e3 * client:.1f}", f"{1e3 * least_client:.1f}", f"{client / least_client:.2f}", f"{1e3 * client_signing:.1f}"
    its_server = f"{1e3 * server:.0f}", f"{1e3 * least_server:.0f}", f"{server / least_server:.2f}", f"{1e3 * server_signing:.0f}"
    print(row(count, f"{drop} %", *its_client, *its_server), flush=True)


def measure_memory(count: int, length: int) -> None:
    """Peak memory of a server that adds ``count`` vectors of ``length`` 64-bit entries as they arrive."""
    ring = Ring(64)
    names = frozenset(f"owner{place:04}" for place in range(count))
    server = Server("server", "analyst", tuple(sorted(names)), count, CONTEXT, ring, length)
    before = peak_memory()
    collecting = CollectInputs(server, names, length * ring.element_bytes, {}, {}, SumHere(ring, length))
    for name in sorted(names):
        collecting.take(name, memoryview(os.urandom(length * ring.element_bytes)))
    grown, vector = peak_memory() - before, length * ring.element_bytes
    print(
        f"{count} vectors of {length:,} 64-bit entries: peak memory grew by {grown / 1e6:.1f} MB, {grown / vector:.1f} vectors of {vector / 1e6:.0f} MB"
    )


def main() -> None:
    """The whole table, or what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--owners", type=int, action="append")
    parser.add_argument("--drop", type=int, action="append")
    parser.add_argument("--length", type=int, default=100_000)
    parser.add_argument("--bits", type=int, default=32)
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    if options.memory:
        measure_memory(500, 1_000_000)
        return
    print("CPU milliseconds, one thread; complete graph, threshold 2n/3, AES-128,", f"{options.length:,} entries of {options.bits} bits\n")
    party = ("floor", "ratio", "its envelopes")
    print(heading("owners", "drop out", "per client", *party, "server", *party))
    for count in options.owners or [100, 500]:
        for drop in options.drop or [0, 10, 30]:
            report(count, drop, options.length, options.bits)


if __name__ == "__main__":
    main()
