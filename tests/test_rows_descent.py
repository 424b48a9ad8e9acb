"""Gradient steps on shared rows, with public and with protected coefficients, against the same circuit in the clear."""

import os
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import veilstat as vs
from tests.rows import FIELD, Pooled, totals_of, uploaded
from tests.sharing import integers
from veilstat.architectures.sharing.protocols.araki16 import share
from veilstat.architectures.sharing.protocols.piecewise import ERROR
from veilstat.language.circuit import Circuit, Op, Output
from veilstat.language.evaluate import evaluate
from veilstat.language.trace import Trace
from veilstat.statistics.standardisation import LATTICE
from veilstat.testing.tables import small_schema, small_tables

SCHEMA = small_schema()
TABLES = small_tables(2)
COMPLETE = ("age", "bp", "region", "smoker")
LOGISTIC = vs.LogisticRegression("smoker ~ age + bmi + C(region)", method="gradient_descent")
LINEAR = vs.LinearRegression("bp ~ age + bmi + C(region)", method="gradient_descent")


def step_of(query, protected):
    """The circuit of one iteration; its probe is broadcast, or shared among the servers."""
    step = next(step for step in query.steps(SCHEMA) if step.label == "descend")
    circuit = step.trace(SCHEMA, len(TABLES))

    def hide(node):
        return replace(node, op=Op.STATE) if protected and node.attributes.get("name") == "lookahead" else node

    return Circuit(tuple(map(hide, circuit.nodes)), circuit.outputs), step.state["lookahead"].size


def coefficients(size, seed):
    rng = np.random.default_rng(seed)
    return integers([round(value / float(LATTICE)) for value in rng.normal(0, 3, size)])


def gradient_bound(circuit, place):
    """Rows times the largest column times the error of one function value."""
    factor = circuit.nodes[circuit.nodes[place].args[0]]
    rows = sum(map(len, TABLES.values()))
    return rows * max(abs(factor.bounds.low), factor.bounds.high) * int(ERROR / LATTICE)


def outcome(query, protected, seed=1):
    """(computed gradient, exact gradient, allowed difference, rounds)."""
    circuit, size = step_of(query, protected)
    probe = coefficients(size, seed)
    state = next(place for place, node in enumerate(circuit.nodes) if node.attributes.get("name") == "lookahead")
    dealt = [{state: shares} for shares in share(probe, FIELD, os.urandom)]
    uploads = uploaded(SCHEMA, TABLES, COMPLETE, bits=128)
    values, run = totals_of(circuit, uploads, *((None, dealt) if protected else ({"lookahead": probe}, None)))
    (place,) = values
    expected = evaluate(circuit, (place,), rows=Pooled(SCHEMA, TABLES), inputs={"lookahead": probe}, known={})[place]
    return values[place], expected, gradient_bound(circuit, place), run.rounds


@pytest.mark.parametrize("protected", [False, True])
def test_linear_gradients_are_exact(protected):
    values, expected, _, rounds = outcome(LINEAR, protected)
    assert values.tolist() == expected.tolist()
    assert rounds <= 7


@pytest.mark.parametrize("protected", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_logistic_gradients_keep_the_stated_error(protected, seed):
    values, expected, allowed, rounds = outcome(LOGISTIC, protected, seed)
    difference = np.abs(values - expected)
    assert 0 < difference.max() <= allowed
    assert allowed < np.abs(expected).max() / 1000
    assert rounds <= 38


def test_likelihood_and_information_keep_the_stated_error():
    step = next(step for step in LOGISTIC.steps(SCHEMA) if step.label == "fit")
    circuit = step.trace(SCHEMA, len(TABLES))
    public = {"coefficients": coefficients(step.public["coefficients"].size, 4)}
    values, _ = totals_of(circuit, uploaded(SCHEMA, TABLES, COMPLETE, bits=128), public)
    expected = evaluate(circuit, tuple(values), rows=Pooled(SCHEMA, TABLES), inputs=public, known={})
    for place, value in values.items():
        scale, exact = circuit.nodes[place].scale, expected[place]
        sizes = [max(1, node.bounds.high * node.scale) for node in (circuit.nodes[arg] for arg in circuit.nodes[place].args) if node.shape]
        allowed = sum(map(len, TABLES.values())) * 2 * ERROR * max(sizes, default=1) ** 2
        assert np.max(np.abs(value - exact)) * scale <= allowed
        assert allowed < np.max(np.abs(exact)) * scale / 100


def test_one_function_value_serves_all_its_uses():
    rows = Trace(SCHEMA, 2)
    x = rows.column("age") * Fraction(1, 2**7)
    fine = x.apply("logistic", LATTICE, Fraction(0), Fraction(1))
    coarse = x.apply("logistic", Fraction(1, 2**30), Fraction(0), Fraction(1))
    spread = (coarse * (1 - coarse) * rows.present("age")).total()
    circuit = rows.finish({"a": Output((fine * rows.present("age")).total().index), "b": Output(spread.index)})
    values, run = totals_of(circuit, uploaded(SCHEMA, TABLES, COMPLETE, bits=128))
    expected = evaluate(circuit, tuple(values), rows=Pooled(SCHEMA, TABLES), inputs={}, known={})
    count = sum(map(len, TABLES.values()))
    for place, value in values.items():
        assert abs(int(value) - int(expected[place])) * circuit.nodes[place].scale <= count * 2 * ERROR
    assert run.rounds <= 40


def test_functions_need_the_wide_ring():
    circuit, uploads = step_of(LOGISTIC, False)[0], uploaded(SCHEMA, TABLES, COMPLETE, bits=64)
    with pytest.raises(vs.CapabilityError) as error:
        totals_of(circuit, uploads, {"lookahead": coefficients(5, 1)})
    assert error.value.code == "narrow_ring"
