"""Statistics on shared rows: CPU milliseconds of one server, rounds and bytes, beside the products no server can avoid.

    python benchmarks/rows.py

Three servers run in one process, one thread; each server's time is taken by itself. The floor is the local products:
two Gram matrices of its components and their sum.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

import numpy as np

import veilstat as vs
from veilstat.architectures.sharing.araki16 import share
from veilstat.architectures.sharing.field import Field
from veilstat.architectures.sharing.prss import Party, Prss
from veilstat.architectures.sharing.row_totals import row_totals
from veilstat.architectures.sharing.uploads import Header, UploadedRows, planes
from veilstat.arithmetic.products import gram
from veilstat.arithmetic.rings import Ring
from veilstat.language.circuit import Op

FIELD = Field(521)
COLUMNS = [f"x{place}" for place in range(10)]


def uploads(schema: vs.Schema, rows: int, complete: tuple[str, ...], bits: int) -> list[UploadedRows]:
    """The parts of a table of random shares; products take equally long on any."""
    header = Header("owner", 1, schema.digest.hex(), complete, rows, bits, "00")
    stack = planes(schema, complete)
    random = np.random.default_rng(1)
    components = [random.integers(0, 2**64, (len(stack), bits // 64, rows), dtype=np.uint64) for _ in range(3)]
    return [UploadedRows(header, stack, np.stack([components[i], components[i - 1]], axis=1)) for i in range(3)]


def measure(circuit: Any, parts: list[UploadedRows], state: dict[str, Any]) -> tuple[float, int, int]:
    """(CPU seconds of server 0, rounds, bytes that it sends); ``state`` is shared."""
    keys = [os.urandom(16) for _ in range(3)]
    parties = [Party(index, Prss(keys[index], keys[index - 1])) for index in range(3)]
    places = tuple(place for place, node in enumerate(circuit.nodes) if node.op is Op.INNER)
    nodes = {str(node.attributes["name"]): place for place, node in enumerate(circuit.nodes) if node.op is Op.STATE}
    dealt = {nodes[name]: share(value, FIELD, os.urandom) for name, value in state.items()}
    shared = [{place: shares[index] for place, shares in dealt.items()} for index in range(3)]
    lanes = [row_totals(party, circuit, places, [parts[party.index]], FIELD, {}, shared[party.index]) for party in parties]
    spent, rounds, sent = 0.0, 0, 0
    received: list[bytes | None] = [None] * 3
    while True:
        payloads = []
        for lane, message in zip(lanes, received, strict=True):
            start = time.process_time()
            with contextlib.suppress(StopIteration):
                payloads.append(lane.send(message))  # type: ignore[arg-type]
            if lane is lanes[0]:
                spent += time.process_time() - start
        if not payloads:
            return spent, rounds, sent
        received = [payloads[index - 1] for index in range(3)]
        rounds, sent = rounds + 1, sent + len(payloads[0])


def floor(rows: int) -> float:
    """Seconds of two Gram matrices of ten columns modulo 2^64 and the sum of two components."""
    x = np.random.default_rng(1).integers(0, 2**64, (10, rows), dtype=np.uint64)
    ring, times = Ring(64), []
    for _ in range(3):
        start = time.process_time()
        gram(ring, x + x)
        gram(ring, x)
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    """One line per query and size."""
    print("| query | rows x columns | server | floor | rounds | bytes sent |")
    print("|---|---|---|---|---|---|")
    schema = vs.Schema(*(vs.Integer(name, lower=0, upper=1000) for name in COLUMNS), max_rows=2**20)
    queries = {
        "covariance": (vs.Covariance(COLUMNS), tuple(COLUMNS)),
        "covariance, one column may be missing": (vs.Covariance(COLUMNS), tuple(COLUMNS[1:])),
        "means and variances": (vs.Variance(COLUMNS), tuple(COLUMNS)),
        "histogram of ten bins": (vs.Histogram("x1", bins=10), ()),
    }
    for rows in (100_000, 1_000_000):
        for name, (query, complete) in queries.items():
            parts = uploads(schema, rows, complete, 64)
            circuit = query.steps(schema)[0].trace(schema, 1)
            runs = [measure(circuit, parts, {}) for _ in range(3)]
            spent, rounds, sent = min(runs)
            least = f"{1e3 * floor(rows):.1f}" if name.startswith("cov") else ""
            print(f"| {name} | {rows:,} x 10 | {1e3 * spent:.1f} | {least} | {rounds} | {sent:,} |", flush=True)
    binary = vs.Schema(*schema, vs.Binary("y"), max_rows=2**20)
    complete = tuple(column.name for column in binary)
    for method in (vs.LinearRegression, vs.LogisticRegression):
        step = next(step for step in method(f"y ~ {' + '.join(COLUMNS)}", method="gradient_descent").steps(binary) if step.state)
        held = next(node for node in step.trace_held(binary, 1).nodes if node.op is Op.ITERATE)
        state = {"probe": np.array([place << 36 for place in range(11)], dtype=object)}
        spent, rounds, sent = min(measure(held.attributes["body"], uploads(binary, 10_000, complete, 128), state) for _ in range(3))
        print(f"| {method.name} gradient, protected state | 10,000 x 10 | {1e3 * spent:.1f} |  | {rounds} | {sent:,} |", flush=True)


if __name__ == "__main__":
    main()
