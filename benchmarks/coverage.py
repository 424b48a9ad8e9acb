"""How often nominal 95 % intervals of private means and regressions hold the truth, rows and noise drawn anew each time.

OMP_NUM_THREADS=1 python -m benchmarks.coverage [repetitions]
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

import veilstat as vs
from benchmarks.measuring import heading, row
from veilstat.testing.releases import releases

SCHEMA = vs.Schema(
    vs.Integer("age", lower=0, upper=120),
    vs.Binary("smoker"),
    vs.Continuous("bmi", lower=10, upper=70, step=0.1),
    max_rows=1 << 17,
)
OWNERS = ("east", "north", "west")
TRUTH = {"Intercept": 22.0, "age": 0.125, "smoker": 3.0}
SPREAD = 5.0
REPETITIONS = 2000
FEWEST = 100
"""Intervals from which a share is told."""
DELTA = 1e-6


@dataclass(frozen=True)
class Cell:
    """One line: a query, its true values by name, how many rows, and epsilon."""

    query: Any
    truth: dict[str, float]
    rows: int
    epsilon: float


@dataclass(frozen=True)
class Coverage:
    """Of the releases with intervals: the share that holds the truth, least and largest over names, nan where they are few.

    ``given``: the share of all releases that have intervals. ``wider``: their width beside the exact query's.
    """

    least: float
    largest: float
    given: float
    wider: float


def draw(source: np.random.Generator, rows: int) -> dict[str, pd.DataFrame]:
    """Rows of all owners: bmi is linear in age and smoker up to uniform errors, and lies within its bounds."""
    age, smoker = source.integers(18, 91, rows), source.integers(0, 2, rows)
    bmi = TRUTH["Intercept"] + TRUTH["age"] * age + TRUTH["smoker"] * smoker + source.uniform(-1, 1, rows) * np.sqrt(3) * SPREAD
    frame = pd.DataFrame({"age": age, "smoker": smoker, "bmi": bmi.round(1)})
    return {name: frame.iloc[place :: len(OWNERS)] for place, name in enumerate(OWNERS)}


def intervals(result: Any) -> pd.DataFrame | None:
    """Lower and upper ends by name, None where there are none."""
    found = result.conf_int()
    if found is None:
        return None
    if isinstance(found, tuple):
        return pd.DataFrame([found], index=["mean"], columns=[0, 1])
    return pd.DataFrame(found).set_axis([0, 1], axis=1)


def measure(cell: Cell, repetitions: int, seed: int = 1) -> Coverage:
    """Coverage in one cell. Widths are medians over releases, beside the exact query's on the rows of the last."""
    source = np.random.default_rng(seed)
    study = vs.simulate(draw(source, 30), SCHEMA, "masking")
    plan = study.plan(cell.query, privacy=vs.Gaussian(cell.epsilon, DELTA))
    truth, hits, widths = pd.Series(cell.truth), [], []
    for repetition in range(repetitions):
        tables = draw(source, cell.rows)
        (result,) = releases(plan, tables, random.Random(seed * repetitions + repetition).randbytes)
        ends = intervals(result)
        if ends is not None:
            hits.append((ends[0] <= truth) & (truth <= ends[1]))
            widths.append(ends[1] - ends[0])
    exact = intervals(vs.simulate(tables, SCHEMA, "clear").run(cell.query))
    if len(hits) < FEWEST or exact is None:
        return Coverage(math.nan, math.nan, len(hits) / repetitions, math.nan)
    shares, wider = pd.DataFrame(hits).mean(), pd.DataFrame(widths).median() / (exact[1] - exact[0])
    return Coverage(float(shares.min()), float(shares.max()), len(hits) / repetitions, float(wider.max()))


def cells() -> Iterator[Cell]:
    """Several sizes and promises for a mean and for a regression."""
    mean = {"mean": TRUTH["Intercept"] + TRUTH["age"] * 54 + TRUTH["smoker"] / 2}
    for rows in (500, 2_000, 10_000):
        for epsilon in (0.5, 1.0, 4.0):
            yield Cell(vs.Mean("bmi"), mean, rows, epsilon)
    for rows in (2_000, 4_000, 10_000):
        for epsilon in (0.5, 1.0, 4.0):
            yield Cell(vs.LinearRegression("bmi ~ age + smoker"), TRUTH, rows, epsilon)


def main(repetitions: int, write: Callable[[str], None] = print) -> None:
    """One line for each cell, as it is done."""
    shares = ("with intervals", "coverage, least", "coverage, largest")
    write(heading("query", "rows", "epsilon", *shares, "width beside the exact one"))
    for cell in cells():
        found = measure(cell, repetitions)
        numbers = ["" if math.isnan(value) else f"{value:.1%}" for value in (found.given, found.least, found.largest)]
        wider = "" if math.isnan(found.wider) else f"{found.wider:.2f}"
        write(row(cell.query.name, f"{cell.rows:,}", f"{cell.epsilon:g}", *numbers, wider))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else REPETITIONS)
