"""Statistics on shared rows: three servers in three processes, beside the products that no server can avoid.

    python benchmarks/rows.py

Server 0's own CPU milliseconds, the milliseconds that pass on this machine (messages go through local sockets), rounds
and bytes. The floor is the local products: two Gram matrices of a server's components and their sum. One thread each.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import socket
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import veilstat as vs
from veilstat.architectures.sharing.araki16 import Shares, share
from veilstat.architectures.sharing.field import Field
from veilstat.architectures.sharing.prss import Party, Prss
from veilstat.architectures.sharing.row_totals import row_totals
from veilstat.architectures.sharing.uploads import Header, UploadedRows, planes
from veilstat.arithmetic.products import gram
from veilstat.arithmetic.rings import Ring
from veilstat.language.circuit import Circuit, Op

FIELD = Field(521)
COLUMNS = [f"x{place}" for place in range(10)]
SCHEMA = vs.Schema(*(vs.Integer(name, lower=0, upper=1000) for name in COLUMNS), vs.Binary("y"), max_rows=2**20)
EVERY = tuple(column.name for column in SCHEMA)


@dataclass(frozen=True)
class Query:
    """What is measured: ``times`` runs of the row part of a circuit."""

    name: str
    circuit: Circuit
    rows: int
    complete: tuple[str, ...] = EVERY
    bits: int = 64
    times: int = 1


def upload(query: Query, index: int) -> UploadedRows:
    """A server's part of a table of random shares; products take equally long on any."""
    stack = planes(SCHEMA, query.complete)
    parts = [
        np.random.default_rng(place % 3).integers(0, 2**64, (len(stack), query.bits // 64, query.rows), dtype=np.uint64)
        for place in (index, index + 2)
    ]
    return UploadedRows(
        Header("owner", 1, SCHEMA.digest.hex(), query.complete, query.rows, query.bits, "00"), stack, np.stack(parts, axis=1)
    )


def exchange(payload: bytes, following: socket.socket, previous: socket.socket) -> bytes:
    """Send to one neighbour and receive as much from the other, whichever is ready."""
    sending, buffer = memoryview(payload), bytearray(len(payload))
    receiving = memoryview(buffer)
    while sending or receiving:
        readable, writable, _ = select.select([previous] if receiving else [], [following] if sending else [], [])
        if writable:
            sending = sending[following.send(sending) :]
        if readable:
            receiving = receiving[previous.recv_into(receiving) :]
    return bytes(buffer)


def drive(protocol: Any, following: socket.socket, previous: socket.socket) -> tuple[int, int]:
    """Run a server's protocol to its end; (rounds, bytes sent)."""
    rounds, sent, received = 0, 0, None
    while True:
        try:
            payload = protocol.send(received)
        except StopIteration:
            return rounds, sent
        received = exchange(payload, following, previous)
        rounds, sent = rounds + 1, sent + len(payload)


def serve(query: Query, index: int, sockets: list[Any], keys: list[bytes], shared: dict[int, Shares], barrier: Any, results: Any) -> None:
    """One server's process."""
    rows = upload(query, index)
    party = Party(index, Prss(keys[index], keys[index - 1]))
    places = tuple(place for place, node in enumerate(query.circuit.nodes) if node.op is Op.INNER)
    for _ in range(4):
        barrier.wait()
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(query.times):
            rounds, sent = drive(
                row_totals(party, query.circuit, places, [rows], FIELD, {}, shared), sockets[index][0], sockets[index - 1][1]
            )
        if index == 0:
            results.put((time.perf_counter() - wall, time.process_time() - cpu, rounds * query.times, sent * query.times))


def measure(query: Query) -> tuple[float, float, int, int]:
    """(seconds, CPU seconds of server 0, rounds, bytes that it sends): medians, but for the first run."""
    for ends in (sockets := [socket.socketpair() for _ in range(3)]):
        for end in ends:
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
    fork = multiprocessing.get_context("fork")
    keys = [os.urandom(16) for _ in range(3)]
    barrier, results = fork.Barrier(3), fork.Queue()
    state = [place for place, node in enumerate(query.circuit.nodes) if node.op is Op.STATE]
    dealt = {place: share(np.full(query.circuit.nodes[place].shape, 1 << 36, dtype=object), FIELD, os.urandom) for place in state}
    servers = [
        fork.Process(target=serve, args=(query, i, sockets, keys, {place: shares[i] for place, shares in dealt.items()}, barrier, results))
        for i in range(3)
    ]
    for server in servers:
        server.start()
    runs = [results.get() for _ in range(4)][1:]
    for server in servers:
        server.join()
    return statistics.median(r[0] for r in runs), statistics.median(r[1] for r in runs), runs[0][2], runs[0][3]


def floor(rows: int) -> float:
    """CPU seconds of two Gram matrices of ten columns modulo 2^64 and the sum of two components."""
    x = np.random.default_rng(1).integers(0, 2**64, (10, rows), dtype=np.uint64)
    ring, work = Ring(64), []
    for _ in range(3):
        start = time.process_time()
        gram(ring, x + x)
        gram(ring, x)
        work.append(time.process_time() - start)
    return min(work)


def descent(method: Callable[..., Any]) -> Circuit:
    """The row part of a gradient step with protected coefficients."""
    step = next(step for step in method(f"y ~ {' + '.join(COLUMNS)}", method="gradient_descent").steps(SCHEMA) if step.state)
    body = next(node.attributes["body"] for node in step.trace_held(SCHEMA, 1).nodes if node.op is Op.ITERATE)
    assert isinstance(body, Circuit)
    return body


def main() -> None:
    """One line per query."""

    def first(statistic: Any) -> Circuit:
        return statistic.steps(SCHEMA)[0].trace(SCHEMA, 1)

    missing = tuple(name for name in EVERY if name != "x3")
    queries = [
        Query("covariance", first(vs.Covariance(COLUMNS)), 100_000),
        Query("covariance", first(vs.Covariance(COLUMNS)), 1_000_000),
        Query("covariance, one column may be missing", first(vs.Covariance(COLUMNS)), 100_000, missing),
        Query("means and variances", first(vs.Variance(COLUMNS)), 1_000_000),
        Query("histogram of ten bins", first(vs.Histogram("x1", bins=10)), 100_000),
        Query("10 logistic gradients, protected coefficients", descent(vs.LogisticRegression), 10_000, bits=128, times=10),
    ]
    print("| query | rows x columns | milliseconds | CPU of a server | floor | rounds | bytes sent |")
    print("|---|---|---|---|---|---|---|")
    for query in queries:
        wall, cpu, rounds, sent = measure(query)
        least = f"{1e3 * floor(query.rows):.1f}" if query.name == "covariance" else ""
        print(f"| {query.name} | {query.rows:,} x 10 | {1e3 * wall:.0f} | {1e3 * cpu:.1f} | {least} | {rounds} | {sent:,} |", flush=True)


if __name__ == "__main__":
    main()
