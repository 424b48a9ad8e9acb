"""Totals of real statistics on shared rows, against evaluation of the same circuit on the rows in the clear."""

import numpy as np
import pandas as pd
import pytest

import veilstat as vs
from tests.rows import Pooled, totals_of, uploaded
from veilstat.language.circuit import Op
from veilstat.language.evaluate import evaluate
from veilstat.testing.tables import small_schema, small_tables

SCHEMA = small_schema()
TABLES = small_tables(3)
FILLED = ("age", "bp", "region", "smoker")
WIDE_SCHEMA = vs.Schema(
    vs.Continuous("x", lower=0, upper=2**40, step=1), vs.Continuous("y", lower=-(2**30), upper=2**30, step=1), max_rows=2**14
)
QUERIES = {
    "count": vs.Count(),
    "mean": vs.Mean(("age", "bmi", "bp")),
    "mean listwise": vs.Mean(("age", "bmi", "female"), missing="listwise"),
    "variance": vs.Variance(("bmi", "age")),
    "covariance": vs.Covariance(("age", "bp")),
    "covariance with missing values": vs.Covariance(("age", "bmi", "female", "bp")),
    "crosstab": vs.Crosstab("region", "smoker"),
    "crosstab of a small integer": vs.Crosstab("smoker", "female"),
    "mean by": vs.MeanBy("bmi", "region"),
    "histogram": vs.Histogram("bmi", bins=(10, 20, 27.5, 30, 69.9)),
    "histogram to the bounds": vs.Histogram("age", bins=3),
    "regression": vs.LinearRegression("bp ~ age + bmi"),
    "categorical": vs.LinearRegression("bp ~ age + C(region) + female"),
    "interactions": vs.LinearRegression("bp ~ age * C(region) + bmi:C(region, Treatment('hills')) + C(smoker):C(female)"),
    "powers": vs.LinearRegression("bp ~ I(age**2) + bmi:age - 1"),
}


def steps_of(query, schema, owners):
    return [step.trace(schema, owners) for step in query.steps(schema)]


def check(query, schema, tables, uploads, public=None):
    """Every total of every step is exact; the rounds and bytes of the last."""
    for circuit in steps_of(query, schema, len(tables)):
        values, run = totals_of(circuit, uploads, public)
        expected = evaluate(circuit, tuple(values), rows=Pooled(schema, tables), inputs=public or {}, known={})
        assert values
        for place, value in values.items():
            assert np.array_equal(value, expected[place].astype(object)), circuit.express(place, {})
    return run.rounds, run.bytes_per_server


@pytest.mark.parametrize("complete", [(), FILLED], ids=["anything may be missing", "complete columns"])
@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
def test_statistics_are_exact(query, complete):
    check(query, SCHEMA, TABLES, uploaded(SCHEMA, TABLES, complete))


@pytest.mark.parametrize("query", ["covariance with missing values", "interactions", "histogram"])
def test_rows_shared_in_the_wide_ring_give_the_same(query):
    check(QUERIES[query], SCHEMA, TABLES, uploaded(SCHEMA, TABLES, FILLED, bits=128))


def test_owners_may_declare_different_columns_complete():
    complete = {"owner1": FILLED, "owner2": (), "owner3": ("age",)}
    check(QUERIES["interactions"], SCHEMA, TABLES, uploaded(SCHEMA, TABLES, complete))


def test_padding_and_empty_tables_add_nothing():
    tables = {"owner1": TABLES["owner1"].iloc[:0], "owner2": TABLES["owner2"].iloc[:1], "owner3": TABLES["owner3"]}
    for query in ("count", "histogram", "categorical", "powers"):
        check(QUERIES[query], SCHEMA, tables, uploaded(SCHEMA, tables, FILLED, padding=2))
        check(QUERIES[query], SCHEMA, tables, uploaded(SCHEMA, tables, (), padding=1))


@pytest.mark.parametrize("query", ["mean", "covariance", "crosstab", "regression", "categorical", "mean by"])
def test_complete_columns_cost_no_message_per_row(query):
    """One ring element per total, and the conversion of the totals; whatever the number of rows."""
    tables = {owner: frame.assign(bmi=frame["bmi"].fillna(20), female=0) for owner, frame in TABLES.items()}
    names = tuple(column.name for column in SCHEMA)
    sizes = set()
    for count in (5, 40):
        some = {owner: frame.iloc[:count] for owner, frame in tables.items()}
        chosen = vs.MeanBy("bmi", "region") if query == "mean by" else QUERIES[query]
        sizes.add(check(chosen, SCHEMA, some, uploaded(SCHEMA, some, names)))
    if query != "mean by":
        assert len(sizes) == 1
        assert sizes.pop()[0] == 11
    else:
        assert len(sizes) == 2


def wide_tables(rows=300):
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"x": rng.integers(0, 2**40, rows), "y": rng.integers(-(2**30), 2**30, rows).astype(float)})
    frame.loc[0] = [2**40, 2**30]
    frame.loc[1, "y"] = np.nan
    return {"north": frame, "south": frame.iloc[::-1]}


def test_totals_beyond_64_bits_need_the_wide_ring_and_are_exact_there():
    tables = wide_tables()
    check(vs.Covariance(("x", "y")), WIDE_SCHEMA, tables, uploaded(WIDE_SCHEMA, tables, bits=128))
    with pytest.raises(vs.CapabilityError) as error:
        check(vs.Covariance(("x", "y")), WIDE_SCHEMA, tables, uploaded(WIDE_SCHEMA, tables, bits=64))
    assert error.value.code == "narrow_ring"


def test_every_row_at_its_upper_bound_overflows_nothing():
    schema = vs.Schema(vs.Integer("x", lower=0, upper=2**22), vs.Integer("y", lower=0, upper=2**22), max_rows=2**17)
    tables = {"only": pd.DataFrame({"x": [2**22] * 2**17, "y": [2**22] * 2**17})}
    circuit = steps_of(vs.Covariance(("x", "y")), schema, 1)[0]
    assert max(node.bits for node in circuit.nodes if node.op is Op.INNER) == 63
    check(vs.Covariance(("x", "y")), schema, tables, uploaded(schema, tables, ("x", "y"), padding=0))
