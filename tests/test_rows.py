"""Totals of real statistics on shared rows, against evaluation of the same circuit on the rows in the clear."""

import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

import veilstat as vs
from tests.rows import Pooled, totals_of, uploaded
from veilstat.architectures.sharing.rows import totals as row_totals_module
from veilstat.architectures.sharing.rows.polynomials import Factor, Polynomial, Term
from veilstat.language.bounds import objects
from veilstat.language.circuit import Op, Output
from veilstat.language.evaluate import evaluate
from veilstat.language.trace import Trace
from veilstat.language.wording import express
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
            assert np.array_equal(value, expected[place].astype(object)), express(circuit, place, {})
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
        assert sizes.pop()[0] == 3
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


@pytest.mark.parametrize(("top", "bits"), [(2**22, 63), (2**23 - 1, 64), (2**23, 65)])
def test_every_row_at_its_upper_bound_overflows_nothing(top, bits):
    schema = vs.Schema(vs.Integer("x", lower=0, upper=top), vs.Integer("y", lower=0, upper=top), max_rows=2**17)
    tables = {"only": pd.DataFrame({"x": [top] * 2**17, "y": [top] * 2**17})}
    circuit = steps_of(vs.Covariance(("x", "y")), schema, 1)[0]
    assert max(node.bits for node in circuit.nodes if node.op is Op.INNER) == bits
    check(vs.Covariance(("x", "y")), schema, tables, uploaded(schema, tables, ("x", "y"), bits=64 if bits < 64 else 128, padding=0))
    if bits >= 64:
        with pytest.raises(vs.CapabilityError):
            totals_of(circuit, uploaded(schema, tables, ("x", "y"), bits=64, padding=0))


def test_polynomials_know_what_indicators_and_presence_absorb():
    a, b, c = (
        Polynomial.of(Factor(place, frozenset(("", name)), indicator))
        for place, name, indicator in ((1, "x", True), (2, "x", False), (3, "y", False))
    )
    present = Polynomial({Term((), frozenset(("", "x"))): 1})
    assert (a * a).terms == a.terms
    assert (b * b).terms != b.terms
    assert (a * present).terms == a.terms
    assert (c * present).terms != c.terms
    assert ((a + b) * (a - b) * present + b * b).terms == a.terms
    assert (6 * a - 9 * b).content == 3
    assert (6 * a - 9 * b).divided(3).terms == (2 * a - 3 * b).terms
    assert Polynomial({}).content == 1


@pytest.mark.parametrize("query", ["covariance with missing values", "histogram", "interactions", "mean listwise"])
def test_rows_are_computed_in_pieces_of_any_size(query, monkeypatch):
    monkeypatch.setattr(row_totals_module, "MOST_ROWS", 7)
    check(QUERIES[query], SCHEMA, TABLES, uploaded(SCHEMA, TABLES, FILLED))


def test_levels_of_one_column_are_never_multiplied():
    """No row has two levels, so such products cost nothing and the total of a square is linear."""
    rows = Trace(SCHEMA, 3)
    one, other = (rows.column("region").equal(code) for code in (1, 2))
    total = (one * other * rows.column("age")).total()
    circuit = rows.finish({"nothing": Output(total.index), "square": Output((one * one).total().index)})
    values, run = totals_of(circuit, uploaded(SCHEMA, TABLES, FILLED))
    expected = evaluate(circuit, tuple(values), rows=Pooled(SCHEMA, TABLES), inputs={}, known={})
    assert all(int(values[place]) == int(expected[place]) for place in values)
    assert run.rounds == 3


def test_comparisons_between_columns_and_at_every_code():
    schema = vs.Schema(vs.Integer("a", lower=0, upper=5), vs.Integer("b", lower=-3, upper=9, step=3), max_rows=64)
    pairs = [(a, b) for a in range(6) for b in (-3, 0, 3, 6, 9)]
    tables = {"only": pd.DataFrame({"a": [a for a, _ in pairs] + [None], "b": [b for _, b in pairs] + [9]})}
    rows = Trace(schema, 1)
    a, b = rows.column("a"), rows.column("b")
    conditions = [
        a.less(b),
        b.less(a),
        a.equal(b),
        a.equal([0, 1, 5, 6, -1]),
        a.less([0, 1, 5, 6]),
        a.less(Fraction(5, 2)),
        a.equal(Fraction(1, 2)),
    ]
    chosen = a.less(3).select(a * 2, b - 7)
    outputs = {str(place): Output(value.total().index) for place, value in enumerate([*conditions, chosen, chosen * b])}
    circuit = rows.finish(outputs)
    for complete in ((), ("b",)):
        values, _ = totals_of(circuit, uploaded(schema, tables, complete))
        expected = evaluate(circuit, tuple(values), rows=Pooled(schema, tables), inputs={}, known={})
        assert [value.tolist() for value in values.values()] == [objects(expected[place]).tolist() for place in values]


def test_what_is_not_arithmetic_on_rows_is_refused():
    rows = Trace(SCHEMA, 3)
    circuit = rows.finish({"x": Output((rows.column("age").apply("cosine", Fraction(1, 2**40), Fraction(0), Fraction(1))).total().index)})
    with pytest.raises(vs.CapabilityError) as error:
        totals_of(circuit, uploaded(SCHEMA, TABLES, FILLED, bits=128))
    assert error.value.code == "not_on_rows"


def chi_square(payloads):
    digits = np.bincount(np.frombuffer(b"".join(payloads), dtype=np.uint8), minlength=256)
    return ((digits - digits.sum() / 256) ** 2 / (digits.sum() / 256)).sum()


@pytest.mark.parametrize("query", ["covariance with missing values", "histogram"])
def test_what_a_server_receives_is_uniform_whatever_the_rows_hold(query):
    constant = {owner: frame.assign(age=18, bmi=np.nan, bp=45.0, region="coast", smoker=0, female=9) for owner, frame in TABLES.items()}
    circuit = steps_of(QUERIES[query], SCHEMA, 3)[0]
    for tables in (TABLES, constant):
        _, run = totals_of(circuit, uploaded(SCHEMA, tables))
        for received in run.received:
            assert sum(map(len, received)) > 5000
            assert chi_square(received) < 255 + 6 * np.sqrt(2 * 255)


TRANSCRIPT = """
import hashlib
from tests.rows import FIELD, UploadedRows, uploaded
from tests.test_rows import FILLED, QUERIES, SCHEMA, TABLES, steps_of
from veilstat.architectures.sharing.protocols.prss import Party, Prss
from veilstat.architectures.sharing.rows.totals import row_totals
state = hashlib.sha256()
for name in ("covariance with missing values", "histogram", "interactions", "powers"):
    circuit = steps_of(QUERIES[name], SCHEMA, 3)[0]
    places = tuple(place for place, node in enumerate(circuit.nodes) if node.op == "inner")
    parts = [UploadedRows(part.header, part.planes, part.words * 0) for part in uploaded(SCHEMA, TABLES, FILLED)[0]]
    protocol = row_totals(Party(0, Prss(bytes(16), bytes(range(16)))), circuit, places, parts, FIELD, {}, {})
    payload = next(protocol)
    try:
        while True:
            state.update(payload)
            payload = protocol.send(bytes(len(payload)))
    except StopIteration:
        pass
print(state.hexdigest())
"""


@pytest.mark.parametrize("other", ["2", pytest.param("3", marks=pytest.mark.long)])
def test_servers_go_through_their_work_in_the_same_order(other):
    """Sets of strings are ordered differently in every process; nothing that is sent may depend on it."""
    digests = set()
    for seed in ("1", other):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "."}
        ended = subprocess.run([sys.executable, "-c", TRANSCRIPT], env=environment, capture_output=True, text=True, check=True)
        digests.add(ended.stdout)
    assert len(digests) == 1
