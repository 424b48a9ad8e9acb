"""What a server sees of sealed queries on rows is distributed alike for two very different tables.

Bytes of one message depend on each other (the words of one number, the signs of a mask), so a chi-square statistic of
two samples of runs is held against the same statistic after runs have changed sides at random.
"""

from dataclasses import replace

import numpy as np
import pytest

import veilstat as vs
from tests.rows import uploaded
from tests.sharing import parties, run_three
from veilstat.architectures.sharing.circuit.analysis import ranges
from veilstat.architectures.sharing.rows.execute import execute_rows
from veilstat.language.cut import Entry, cut
from veilstat.testing.tables import small_schema, small_tables

SCHEMA = small_schema()
BUSY = small_tables(2)
STILL = {owner: frame.assign(age=18, bmi=70.0, bp=np.nan, region="coast", smoker=0, female=1) for owner, frame in BUSY.items()}
QUERIES = {
    "logistic step": vs.LogisticRegression("smoker ~ age + bmi", method="gradient_descent", tolerance=1e-300),
    "search": vs.Quantile("age", 0.5, form="search"),
    "mean": vs.Mean("bmi"),
    "histogram": vs.Histogram("age", bins=4),
}
TIMES = 12
MOST = 6


def sealed_step(query):
    """One iteration of a query behind the wall, or its only step, and public values that have nothing to do with the rows."""
    steps = query.steps(SCHEMA)
    step = replace(next((step for step in steps if step.state), steps[0]), at_most=1)
    circuit = step.trace_held(SCHEMA, len(BUSY)) if step.state else step.trace(SCHEMA, len(BUSY))
    public = {name: np.full(wire.shape, int(1 / wire.scale), dtype=object) for name, wire in {**step.public, **step.state}.items()}
    return cut(circuit, Entry.ROWS, vs.Sharing(entry="rows", open="estimate").supports), public


def counted(query, tables):
    """How often each byte is in what each server receives in each round, for several runs on fresh uploads."""
    chosen, public = sealed_step(query)
    known, runs = ranges(chosen), []
    for _ in range(TIMES):
        uploads = uploaded(SCHEMA, tables, bits=128)
        received = run_three(execute_rows(known, uploads[party.index], public, party) for party in parties()).received
        runs.append([np.bincount(np.frombuffer(message, dtype=np.uint8), minlength=256) for server in received for message in server])
    return np.array(runs)


def excess(first, second):
    """By how many standard deviations the samples of some message differ more than random halves of all runs do, at most."""
    runs, source = np.concatenate([first, second]), np.random.default_rng(1)

    def statistics(order):
        a, b = (runs[part].sum(axis=0) for part in (order[:TIMES], order[TIMES:]))
        return ((a - b) ** 2 / np.maximum(a + b, 1)).sum(axis=1)

    halves = np.array([statistics(source.permutation(2 * TIMES)) for _ in range(200)])
    return ((statistics(np.arange(2 * TIMES)) - halves.mean(axis=0)) / (halves.std(axis=0) + 1)).max()


@pytest.mark.parametrize("query", QUERIES)
def test_messages_of_very_different_tables_look_alike(query):
    first, second = (counted(QUERIES[query], tables) for tables in (BUSY, STILL))
    assert first.shape == second.shape
    assert excess(first, second) < MOST


def test_the_comparison_finds_forty_bytes_of_one_round():
    """Of two samples from one table, one gets a message with as many equal bytes as a constant column would have."""
    first, second = (counted(QUERIES["histogram"], BUSY) for _ in range(2))
    assert excess(first, second) < MOST
    first[:, 5, 0] += 40
    assert excess(first, second) > MOST
