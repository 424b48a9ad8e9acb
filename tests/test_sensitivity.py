"""Sensitivities by brute force: one row's contribution, over every value that a row may have, never exceeds the bound and reaches it."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

import veilstat as vs
from veilstat.dp import sensitivity
from veilstat.dp.sensitivity import owner_blocks, row_blocks
from veilstat.language.cut import Entry, cut
from veilstat.language.evaluate import evaluate
from veilstat.language.step import Step
from veilstat.language.trace import stack
from veilstat.platform.plan import make_plan
from veilstat.platform.table import Table

SCHEMA = vs.Schema(
    vs.Integer("age", lower=3, upper=11),
    vs.Continuous("dose", lower=-1, upper=1, step=0.25),
    vs.Categorical("sex", levels=["f", "m", "x"]),
    vs.Binary("smoker"),
    max_rows=50,
)
VALUES = {
    "age": [None, *range(3, 12)],
    "dose": [None, *np.arange(-1, 1.01, 0.25)],
    "sex": [None, "f", "m", "x"],
    "smoker": [None, 0, 1],
}
PROMISE = vs.Gaussian(1.0, 1e-6)
QUERIES = [
    vs.Count(),
    vs.Count(["age", "sex"]),
    vs.Count(["age", "sex"], missing="listwise"),
    vs.Sum("age"),
    vs.Sum("age", clip=(5, 9)),
    vs.Sum(["age", "dose"]),
    vs.Sum(["age", "dose"], missing="listwise"),
    vs.Mean(["age", "dose"]),
    vs.Variance(["age", "dose"], clip={"dose": (-0.5, 0.5)}),
    vs.Covariance(["age", "dose"]),
    vs.Correlation(["age", "dose", "smoker"]),
    vs.Histogram("dose", bins=[-0.6, 0.0, 0.3]),
    vs.Histogram("age", bins=4),
    vs.Crosstab("sex", "smoker"),
    vs.MeanBy("age", "sex"),
    vs.LinearRegression("age ~ dose + smoker"),
    vs.LinearRegression("age ~ dose", clip={"age": (4, 6), "dose": (-0.5, 0.5)}),
]


def definition():
    frame = pd.DataFrame({"age": [3], "dose": [0.0], "sex": ["f"], "smoker": [0]})
    return vs.simulate(dict.fromkeys("abcd", frame), SCHEMA).definition


def all_rows(columns):
    for values in itertools.product(*(VALUES[name] for name in columns)):
        filled = {name: [VALUES[name][1]] for name in VALUES} | {name: [value] for name, value in zip(columns, values, strict=True)}
        yield pd.DataFrame(filled)


def contribution(chosen, frame):
    """What the opened numbers are for this table, block by block."""
    rows = Table("one", frame, SCHEMA).rows(chosen.columns())
    vector = chosen.flatten(evaluate(chosen.circuit, tuple(o.node for o in chosen.openings), rows=rows, inputs={}, known={}))
    ends = np.cumsum([len(opening.elements) for opening in chosen.openings])[:-1]
    return np.split(vector, ends)


def joint(parts, blocks):
    """The squared norm in units of the bounds, summed over blocks: at most the number of blocks."""
    return sum(float((part**2).sum() / block.squared_sensitivity) for part, block in zip(parts, blocks, strict=True))


def row_parts(query, promise=PROMISE):
    """The cut of a query, and what every row that the schema allows adds to it: rows x numbers, ends of blocks."""
    chosen = make_plan(query, definition(), promise).steps[0].cut
    vectors = [np.concatenate(contribution(chosen, frame)) for frame in all_rows(query.columns(SCHEMA) or ("sex",))]
    ends = np.cumsum([len(opening.elements) for opening in chosen.openings])[:-1]
    return chosen, np.array(vectors, dtype=object), ends


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_no_row_moves_what_is_opened_by_more_and_some_row_by_nearly_as_much(query):
    chosen, vectors, ends = row_parts(query)
    blocks = row_blocks(chosen)
    assert len(blocks) == len(chosen.openings)
    largest, reached = [0] * len(blocks), 0.0
    for vector in vectors:
        parts = np.split(vector, ends)
        largest = [max(most, int((part**2).sum())) for most, part in zip(largest, parts, strict=True)]
        reached = max(reached, joint(parts, blocks))
    assert all(most <= block.squared_sensitivity for most, block in zip(largest, blocks, strict=True))
    assert all(math.sqrt(most) >= 0.9 * math.sqrt(block.squared_sensitivity) for most, block in zip(largest, blocks, strict=True))
    assert 0.81 * len(blocks) <= reached <= len(blocks)


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_no_replaced_row_moves_what_is_opened_by_more_and_some_by_nearly_as_much(query):
    """Over every pair of rows. A constant total moves by nothing, and its bound says so."""
    chosen, vectors, ends = row_parts(query)
    for part, block in zip(np.split(vectors, ends, axis=1), row_blocks(chosen, "replace_one"), strict=True):
        rows = np.unique(part.astype(np.int64), axis=0).astype(float)
        squares = (rows**2).sum(axis=1)
        most = round((np.add.outer(squares, squares) - 2 * rows @ rows.T).max())
        assert most <= block.squared_sensitivity
        assert math.sqrt(most) >= 0.9 * math.sqrt(block.squared_sensitivity)


@pytest.mark.parametrize("neighbours", ["add_remove", "replace_one"])
@pytest.mark.parametrize("query", [vs.Count(), vs.Count("age"), vs.Sum("age"), vs.Mean("age"), vs.Variance("age")], ids=str)
def test_no_owner_moves_what_is_opened_by_more(query, neighbours):
    """Every table of up to two rows against the empty one, or against every other: brute force over an owner's data."""
    chosen, vectors, ends = row_parts(query)
    tables = [np.zeros_like(vectors[0]), *vectors, *(first + second for first in vectors for second in vectors)]
    for place, block in enumerate(owner_blocks(chosen, 2, neighbours)):
        parts = np.array([np.split(table, ends)[place] for table in tables]).astype(float)
        others = parts if neighbours == "replace_one" else parts[:1]
        most = max(((parts - other) ** 2).sum(axis=1).max() for other in others)
        assert most <= block.squared_sensitivity
        assert math.sqrt(most) >= 0.9 * math.sqrt(block.squared_sensitivity)


def test_a_replaced_row_needs_at_most_twice_the_noise_and_its_promise_travels():
    study = definition()
    for query in QUERIES:
        added, replaced = (
            make_plan(query, study, vs.Gaussian(1.0, 1e-6, neighbours=neighbours)) for neighbours in ("add_remove", "replace_one")
        )
        for one, other in zip(added.steps[0].noise.blocks, replaced.steps[0].noise.blocks, strict=True):
            assert other.squared_sensitivity <= 4 * one.squared_sensitivity
        assert added.digest != replaced.digest
        assert replaced.privacy.neighbours == "replace_one"
    assert [block.squared_sensitivity for block in row_blocks(make_plan(vs.Count(), study, PROMISE).steps[0].cut, "replace_one")] == [0]
    with pytest.raises(vs.SchemaError, match="add_remove"):
        vs.Gaussian(1.0, 1e-6, neighbours="swap")


@pytest.mark.parametrize("neighbours", ["add_remove", "replace_one"])
@pytest.mark.parametrize(
    "query", [vs.Covariance(["age", "dose"]), vs.LinearRegression("age ~ dose + C(sex) + smoker"), vs.MeanBy("age", "sex")], ids=str
)
def test_wider_blocks_are_bounded_too(query, neighbours):
    """Totals of the exact queries, which are not centred: bounds hold, though they are not tight."""
    study = definition()
    step = query.steps(SCHEMA)[0]
    chosen = cut(step.trace(SCHEMA, 4), Entry.TOTALS, study.architecture.supports)
    parts = [contribution(chosen, frame) for frame in itertools.islice(all_rows(query.columns(SCHEMA)), 0, None, 7)]
    for place, block in enumerate(row_blocks(chosen, neighbours)):
        rows = np.array([part[place] for part in parts]).astype(float)
        others = rows if neighbours == "replace_one" else np.zeros((1, rows.shape[1]))
        most = max(((rows - other) ** 2).sum(axis=1).max() for other in others)
        assert most <= block.squared_sensitivity


def test_bins_of_a_fine_lattice_cost_what_one_count_does():
    """A hundred million codes are not enumerated: only those beside the edges are."""
    schema = vs.Schema(vs.Continuous("income", lower=0, upper=1e6, step=0.01))
    frame = pd.DataFrame({"income": [1.0]})
    study = vs.simulate(dict.fromkeys("abc", frame), schema)
    chosen = study.plan(vs.Histogram("income", bins=200), privacy=PROMISE).steps[0].cut
    assert {block.squared_sensitivity for block in row_blocks(chosen)} == {1}


def test_arrays_that_owners_bring_have_no_known_sensitivity():
    """What depends on a broadcast value or is no total over rows is refused, not guessed."""
    query = vs.LinearRegression("age ~ dose", method="gradient_descent")
    chosen = cut(query.steps(SCHEMA)[-1].trace(SCHEMA, 4), Entry.TOTALS, definition().architecture.supports)
    with pytest.raises(vs.CapabilityError) as error:
        row_blocks(chosen)
    assert error.value.code == "no_sensitivity"


def test_a_peak_at_a_single_code_is_found():
    """Indicators that are all 1 for one code only: no other code, and no end of the range, shows the norm."""

    def contribution(rows, public):
        age = rows.column("age")
        return {"total": stack(age.less(6), age.equal(5), 2 - age.less(5), age.equal(5)).total()}

    step = Step("peak", contribution, lambda totals, public: totals)
    chosen = cut(step.trace(SCHEMA, 4), Entry.TOTALS, definition().architecture.supports)
    assert [block.squared_sensitivity for block in row_blocks(chosen)] == [1 + 1 + 4 + 1]


def test_missing_and_present_rows_of_many_columns_cost_what_one_count_does():
    """Too many columns to try every combination of missing values: a flag and its complement are 1 together."""
    names = [f"x{place}" for place in range(30)]
    schema = vs.Schema(*(vs.Binary(name) for name in names))
    study = vs.simulate(dict.fromkeys("abc", pd.DataFrame({name: [1] for name in names})), schema)
    plan = study.plan(vs.Count(names, missing="listwise"), privacy=PROMISE)
    assert [block.squared_sensitivity for block in row_blocks(plan.steps[0].cut)] == [1]
    assert [block.squared_sensitivity for block in row_blocks(plan.steps[0].cut, "replace_one")] == [2]


def test_a_flag_beside_its_complement_and_itself_is_counted_again(monkeypatch):
    monkeypatch.setattr(sensitivity, "_MOST_COMBINATIONS", 1)

    def flags(rows, public):
        flag = rows.present("age") * rows.present("dose") * rows.present("smoker")
        return {"total": stack(1 - flag, flag, flag, flag).total()}

    step = Step("flags", flags, lambda totals, public: totals)
    chosen = cut(step.trace(SCHEMA, 4), Entry.TOTALS, definition().architecture.supports)
    (block,) = row_blocks(chosen)
    rows = [np.concatenate(contribution(chosen, frame)) for frame in all_rows(["age", "dose", "smoker"])]
    assert 1 < max(int((row**2).sum()) for row in rows) <= block.squared_sensitivity
