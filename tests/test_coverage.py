"""Intervals under privacy hold the truth as often as they say: the benchmark's cells, with fewer repetitions."""

import pytest

import veilstat as vs
from benchmarks.coverage import DELTA, REPETITIONS, TRUTH, Cell, cells, main, measure

MEAN = {"mean": TRUTH["Intercept"] + TRUTH["age"] * 54 + TRUTH["smoker"] / 2}


@pytest.mark.parametrize(
    "cell",
    [Cell(vs.Mean("bmi"), MEAN, 800, 1.0), Cell(vs.LinearRegression("bmi ~ age + smoker"), TRUTH, 3000, 2.0)],
    ids=["mean", "regression"],
)
@pytest.mark.parametrize(("count", "low", "high"), [(200, 0.9, 0.99), pytest.param(400, 0.92, 0.98, marks=pytest.mark.long)])
def test_intervals_hold_the_truth_as_often_as_they_say(cell, count, low, high):
    found = measure(cell, count)
    assert found.given == 1
    assert low <= found.least <= found.largest <= high
    assert found.wider > 1.2


def test_too_little_data_gets_no_interval_and_no_share():
    found = measure(Cell(vs.LinearRegression("bmi ~ age + smoker"), TRUTH, 300, 0.2), 20)
    assert found.given == 0
    assert found.least != found.least


def test_the_table_has_a_line_for_every_cell():
    written = []
    main(1, written.append)
    assert len("\n".join(written).splitlines()) == 2 + len(list(cells()))
    assert DELTA == 1e-6


@pytest.mark.long
@pytest.mark.parametrize("cell", list(cells()), ids=str)
def test_nominal_95_percent_is_93_to_97(cell):
    found = measure(cell, REPETITIONS)
    if found.given > 0.99:
        assert 0.93 <= found.least <= found.largest <= 0.97
