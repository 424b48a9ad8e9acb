"""Statistics on rows that three servers share, beside the floor, plain numpy, and MPyC: milliseconds on shared inputs.

    OMP_NUM_THREADS=1 python -m benchmarks.sharing --mpyc PYTHON

PYTHON is an interpreter that has MPyC. Servers are processes on loopback, joined by the project's pinned TLS on
blocking sockets; MPyC's parties are processes on loopback without TLS. Planning and sharing the rows are not counted,
for anybody. One thread each.

The floor is what no implementation of these protocols avoids: the servers' local products on as many cores as there
are, the bytes of one at the speed of the connection, and the rounds at its latency, each measured in the same run.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import veilstat as vs
from benchmarks.measuring import fastest, heading, row
from benchmarks.three_servers import Measured, measure
from veilstat.architectures.interface import no_noise
from veilstat.architectures.sharing.protocols.araki16 import share
from veilstat.architectures.sharing.protocols.conversion import less_than_zero
from veilstat.architectures.sharing.protocols.prss import Party, Prss
from veilstat.architectures.sharing.protocols.ring import NARROW
from veilstat.architectures.sharing.protocols.rounds import SERVERS
from veilstat.architectures.sharing.protocols.sorting import sort
from veilstat.architectures.sharing.schemes import Place
from veilstat.architectures.sharing.sealed import SealedRows
from veilstat.architectures.sharing.uploads import UPLOAD_BITS, Header, UploadedRows, deal, expand, planes
from veilstat.arithmetic.products import gram, inner, weighted_sums
from veilstat.arithmetic.rings import Ring
from veilstat.language.bounds import objects
from veilstat.language.cut import Cut, Entry, cut
from veilstat.language.evaluate import evaluate
from veilstat.language.step import Opened
from veilstat.platform.table import Table
from veilstat.schema.encoding import rounded_root
from veilstat.statistics.solve import solve

COLUMNS = [f"x{place}" for place in range(10)]
TERMS = " + ".join(COLUMNS[:9])
SCHEMA = vs.Schema(
    *(vs.Integer(name, lower=0, upper=1000) for name in COLUMNS),
    vs.Binary("y"),
    vs.Integer("score", lower=0, upper=100),
    max_rows=2**20,
)
COMPARED = 1_000_000
SORTED = 10_000
RUNS = 5
CALLS = 3


@dataclass(frozen=True)
class Connection:
    """Seconds of a round, and of a byte."""

    latency: float
    byte: float

    @staticmethod
    def measured() -> Connection:
        """Rounds of 100 bytes, and of 1 MiB."""

        def seconds(count: int, size: int) -> float:
            def program(place: Place) -> Generator[bytes, bytes, bytes]:
                for _ in range(count):
                    yield bytes(size)
                return b""

            return measure(program, 3).seconds / count

        latency = seconds(2000, 100)
        return Connection(latency, (seconds(50, 1 << 20) - latency) / (1 << 20))


@dataclass(frozen=True)
class Workload:
    """What is measured, and on how many rows.

    Args:
        statistic: its last step that keeps a state is measured, or else its first. opened: "moments" or "estimate".
        plain: numpy's way, on the columns and y. products: one server's local products, on a matrix of words.
        peer: what `sharing_mpyc.py` calls it; part: the fraction of it that runs there, since the whole takes minutes.
        incomplete: columns that may be missing.
    """

    name: str
    statistic: Any
    rows: int
    opened: str = "moments"
    plain: Callable[[Any, Any], Any] | None = None
    products: Callable[[Any], Any] | None = None
    peer: str = ""
    part: int = 1
    incomplete: tuple[str, ...] = ()


def frame_of(rows: int) -> pd.DataFrame:
    """Correlated integers, and a binary column that depends on them."""
    rng = np.random.default_rng(1)
    common = rng.integers(0, 300, rows)
    frame = pd.DataFrame({name: common + rng.integers(0, 700, rows) for name in COLUMNS})
    return frame.assign(y=(rng.random(rows) < 1 / (1 + np.exp((common - 150) / 100))).astype(int), score=common // 3)


def uploads(rows: Any, incomplete: tuple[str, ...]) -> list[tuple[UploadedRows]]:
    """Each server's part of the table."""
    complete = tuple(column.name for column in SCHEMA if column.name not in incomplete)
    header = Header("owner", 1, SCHEMA.digest.hex(), complete, len(rows), UPLOAD_BITS, os.urandom(16).hex())
    dealt = list(deal(header, SCHEMA, rows.columns, len(rows), os.urandom))
    words = (np.stack([expand(header, server, payloads[server]) for payloads in dealt]) for server in range(SERVERS))
    return [(UploadedRows(header, planes(SCHEMA, complete), part),) for part in words]


def measured_step(workload: Workload, rows: Any) -> tuple[Cut, Mapping[str, Any]]:
    """The cut of the step and its public values, which follow from the steps before."""
    architecture = vs.Sharing(servers=3, entry="rows", open=workload.opened)
    steps = {step.label: step for step in workload.statistic.steps(SCHEMA)}
    label = next((label for label, step in steps.items() if step.state), next(iter(steps)))
    run = workload.statistic.run(SCHEMA)
    request = next(run)
    while request.label != label:
        circuit = steps[request.label].trace(SCHEMA, 1)
        values = evaluate(circuit, tuple(output.node for output in circuit.outputs.values()), rows=rows, inputs={}, known={})
        request = run.send(Opened({name: objects(values[output.node]) for name, output in circuit.outputs.items()}, ("owner",)))
    step = steps[label]
    circuit = step.trace_held(SCHEMA, 1) if step.state else step.trace(SCHEMA, 1)
    types, given = {**step.public, **step.state}, {**request.public, **request.state}
    return cut(circuit, Entry.ROWS, architecture.supports), {name: types[name].integers(name, value) for name, value in given.items()}


def deviation(chosen: Cut, rows: Any, public: Mapping[str, Any], answer: Any) -> str:
    """How far an answer is from the exact one, which is what rounding to the declared units gives."""
    values = evaluate(chosen.circuit, tuple(o.node for o in chosen.openings), rows=rows, inputs=public, known={}, solve=solve)
    worst, place = Fraction(0), 0
    for opening in chosen.openings:
        exact = values[opening.node].reshape(-1)
        unit = opening.resolution or chosen.circuit.nodes[opening.node].scale or Fraction(1)
        for element in opening.elements:
            value = Fraction(exact[element]) / (opening.resolution or 1)
            if opening.rooted:
                value = Fraction(rounded_root(Fraction(exact[element]), unit))
            if math.floor(value + Fraction(1, 2)) != answer[place]:
                worst = max(worst, abs(value - int(answer[place])) * unit)
            place += 1
    return f"{float(worst):.0e}" if worst else "none"


def statistic(workload: Workload) -> tuple[Measured, str]:
    """A whole step on uploaded rows."""
    rows = Table("owner", frame_of(workload.rows), SCHEMA).rows(tuple(column.name for column in SCHEMA))
    chosen, public = measured_step(workload, rows)
    scheme, parts = SealedRows(chosen), uploads(rows, workload.incomplete)
    found = measure(lambda place: scheme.program(place, parts[place.index], public, no_noise), RUNS)
    return found, deviation(chosen, rows, public, scheme.combine(("owner",), found.parts).values)


def comparisons(count: int) -> tuple[Measured, str]:
    """Whether numbers of 32 bits are below 0, as shares; their sum is checked."""
    numbers = np.random.default_rng(1).integers(-(2**31), 2**31, count)
    parts = share(numbers, NARROW, os.urandom)

    def program(place: Place) -> Generator[bytes, bytes, bytes]:
        party = Party(place.index, Prss(place.own_key, place.previous_key))
        below = yield from less_than_zero(party, parts[place.index], 31, NARROW)
        return NARROW.to_bytes(below.total().own)

    found = measure(program, RUNS)
    total = sum(int.from_bytes(part, "little") for part in found.parts) % NARROW.order
    return found, "none" if total == np.count_nonzero(numbers < 0) else "wrong"


def sorting(count: int) -> tuple[Measured, str]:
    """Numbers of 32 bits in ascending order, as shares; all of them are checked."""
    numbers = np.random.default_rng(1).integers(-(2**31), 2**31, count)
    parts = share(numbers, NARROW, os.urandom)

    def program(place: Place) -> Generator[bytes, bytes, bytes]:
        party = Party(place.index, Prss(place.own_key, place.previous_key))
        return NARROW.to_bytes((yield from sort(party, parts[place.index], 32)).own)

    found = measure(program, RUNS)
    total = np.stack([np.frombuffer(part, dtype=np.uint64) for part in found.parts]).sum(axis=0)
    return found, "none" if np.array_equal(total.astype(np.int64), np.sort(numbers)) else "wrong"


def products(workload: Workload) -> float:
    """CPU seconds of one server's local products."""
    words = np.random.default_rng(1).integers(0, 2**64, (10, workload.rows, 2), dtype=np.uint64)
    return fastest(partial(workload.products, words), CALLS) if workload.products else 0.0


def plain(workload: Workload) -> float:
    """CPU seconds of numpy on the same rows in the clear, as floats."""
    frame = frame_of(workload.rows)
    x, y = frame[COLUMNS].to_numpy(dtype=float), frame["y"].to_numpy(dtype=float)
    return fastest(partial(workload.plain, x, y), CALLS) if workload.plain else 0.0


def peer(interpreter: str, workload: Workload) -> tuple[str, str]:
    """(milliseconds, deviation) of MPyC."""
    if not interpreter or not workload.peer:
        return "", ""
    script = Path(__file__).with_name("sharing_mpyc.py")
    command = [interpreter, str(script), "-M3", "--no-log", workload.peer, str(workload.rows), str(workload.part)]
    seconds, error = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return f"{1e3 * float(seconds) * workload.part:,.0f}", f"{float(error):.0e}" if float(error) else "none"


def gram_products(words: Any) -> None:
    """Of a matrix and of the sum of two."""
    low = np.ascontiguousarray(words[..., 0])
    gram(Ring(64), low + low)
    gram(Ring(64), low)


def gradient_products(words: Any) -> None:
    """Ten times: rows by weights, columns by residuals, each for both terms of a product of shares."""
    for _ in range(20):
        weighted = weighted_sums(Ring(128), words[None, :, 0], words)
        inner(Ring(128), words, weighted)


def logistic_steps(x: Any, y: Any) -> Any:
    """Ten gradient steps of logistic regression."""
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    weights = np.zeros(scaled.shape[1])
    for _ in range(10):
        weights -= scaled.T @ (1 / (1 + np.exp(-scaled @ weights)) - y) * (4 / 11 / len(y))
    return weights


WORKLOADS = (
    Workload("covariance", vs.Covariance(COLUMNS), 100_000, "moments", lambda x, y: np.cov(x.T), gram_products, "gram"),
    Workload("covariance, divided inside", vs.Covariance(COLUMNS), 100_000, "estimate", lambda x, y: np.cov(x.T), gram_products),
    Workload("covariance, one column may be missing", vs.Covariance(COLUMNS), 100_000, incomplete=("x3",)),
    Workload(
        "regression, solved inside", vs.LinearRegression(f"x9 ~ {TERMS}"), 10_000, "estimate",
        lambda x, y: np.linalg.lstsq(x[:, :9], x[:, 9]), gram_products, "regression",
    ),
    Workload("moments", vs.Covariance(COLUMNS), 1_000_000, "moments", lambda x, y: x.T @ x, gram_products, "gram", 10),
    Workload(
        "logistic, 10 gradient steps, the last opened",
        vs.LogisticRegression(f"y ~ {TERMS} + x9", method="gradient_descent", max_iterations=10),
        10_000, "estimate", logistic_steps, gradient_products, "logistic", 10,
    ),
    Workload("median and quartiles, 101 values, selection", vs.Quantile("score", (0.25, 0.5, 0.75), form="selection"), 10_000, "estimate"),
    Workload("median and quartiles, 101 values, search", vs.Quantile("score", (0.25, 0.5, 0.75), form="search"), 10_000, "estimate"),
    Workload("median, 1,001 values, search", vs.Quantile("x0", 0.5, form="search"), 10_000, "estimate"),
)  # fmt: skip


def line(
    name: str, size: str, found: Measured, connection: Connection, local: float, clear: float, error: str, theirs: tuple[str, str]
) -> str:
    """One line of the table."""
    least = local * SERVERS / min(SERVERS, os.cpu_count() or 1) + found.rounds * connection.latency + found.sent * connection.byte
    numbers = (f"{value:,.0f}" for value in (1e3 * found.seconds, 1e3 * found.cpu_seconds, found.rounds, found.sent, 1e3 * least))
    return row(name, size, *numbers, f"{found.seconds / least:.1f}", error, f"{1e3 * clear:,.1f}", *theirs)


def main() -> None:
    """One line per workload."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mpyc", default="", metavar="PYTHON")
    parser.add_argument("--only", default="", help="workloads whose names begin so")
    options = parser.parse_args()
    if not options.mpyc:
        print("MPyC is not measured; --mpyc PYTHON names an interpreter that has it\n")
    connection = Connection.measured()
    print(f"A round takes {1e6 * connection.latency:.0f} microseconds, and a connection carries {1e-9 / connection.byte:.2f} GB/s.\n")
    ours = ("ms", "CPU of a server", "rounds", "bytes sent", "floor", "ratio", "error")
    print(heading("workload", "rows x columns", *ours, "numpy", "MPyC", "its error"))
    for workload in WORKLOADS:
        if workload.name.startswith(options.only):
            found, error = statistic(workload)
            size, theirs = f"{workload.rows:,} x 10", peer(options.mpyc, workload)
            print(line(workload.name, size, found, connection, products(workload), plain(workload), error, theirs), flush=True)
    if "comparisons".startswith(options.only):
        found, error = comparisons(COMPARED)
        numbers = np.random.default_rng(1).integers(-(2**31), 2**31, COMPARED)
        theirs = peer(options.mpyc, Workload("comparisons", None, COMPARED, peer="compare", part=100))
        clear = fastest(lambda: np.count_nonzero(numbers < 0), CALLS)
        print(line("comparisons of 32 bits", f"{COMPARED:,}", found, connection, 0.0, clear, error, theirs), flush=True)
    if "sort".startswith(options.only):
        found, error = sorting(SORTED)
        numbers = np.random.default_rng(1).integers(-(2**31), 2**31, SORTED)
        clear = fastest(lambda: np.sort(numbers), CALLS)
        print(line("sort of 32 bits", f"{SORTED:,}", found, connection, 0.0, clear, error, ("", "")), flush=True)


if __name__ == "__main__":
    main()
