"""Whole steps of real statistics on uploaded tables, up to the opened integers."""

from fractions import Fraction

import numpy as np
import pytest

import veilstat as vs
from tests.rows import Pooled, uploaded
from tests.sharing import opened, parties, run_three
from tests.test_sharing_execute import clear
from veilstat.architectures.sharing.circuit.analysis import ranges, supports
from veilstat.architectures.sharing.rows.execute import execute_rows, supports_rows
from veilstat.language.bounds import objects
from veilstat.language.cut import Entry, cut
from veilstat.language.evaluate import evaluate
from veilstat.language.step import Opened
from veilstat.statistics.standardisation import LATTICE
from veilstat.testing.tables import small_schema, small_tables

SCHEMA = small_schema()
TABLES = small_tables(2)
COMPLETE = ("age", "bp", "region", "smoker")


def cut_of(circuit, bits):
    return cut(circuit, Entry.ROWS, lambda facts: supports_rows(facts, bits) or supports(facts))


def computed(chosen, bits, public):
    known = ranges(chosen)
    uploads = uploaded(SCHEMA, TABLES, COMPLETE, bits=bits)
    ended = run_three(execute_rows(known, uploads[party.index], public, party) for party in parties())
    assert all(result.solvable for result in ended.results)
    return opened(known.field, [result.values for result in ended.results]), ended.rounds


@pytest.mark.parametrize(
    ("query", "most"),
    [
        (vs.Mean(("age", "bmi")), 55),
        (vs.Covariance(("age", "bmi", "bp")), 65),
        (vs.MeanBy("bmi", "region"), 70),
        (vs.Crosstab("region", "smoker"), 15),
        (vs.Histogram("age", bins=4), 20),
        (vs.LinearRegression("bp ~ age + bmi + C(region) + age:C(region)"), 165),
    ],
    ids=lambda part: type(part).__name__,
)
def test_answers_equal_those_in_the_clear_and_totals_stay_shared(query, most):
    (step,) = query.steps(SCHEMA)
    chosen = cut_of(step.trace(SCHEMA, len(TABLES)), 64)
    wanted = tuple(opening.node for opening in chosen.openings)
    values, rounds = computed(chosen, 64, {})
    inner = tuple(place for place in sorted(chosen.circuit.needed(wanted)) if chosen.circuit.nodes[place].op == "inner")
    leaves = evaluate(chosen.circuit, inner, rows=Pooled(SCHEMA, TABLES), inputs={}, known={})
    assert values.tolist() == clear(chosen, leaves, {})
    assert rounds <= most


def descent(query):
    """The held iteration of a gradient descent and public values to start it with, scaled by the schema's bounds."""
    run = query.run(SCHEMA)
    steps = {step.label: step for step in query.steps(SCHEMA)}
    request = next(run)
    while steps[request.label].state == {}:
        totals = steps[request.label].trace(SCHEMA, len(TABLES))
        places = tuple(output.node for output in totals.outputs.values())
        values = evaluate(totals, places, rows=Pooled(SCHEMA, TABLES), inputs={}, known={})
        named = {name: objects(values[output.node]) for name, output in totals.outputs.items()}
        request = run.send(Opened(named, tuple(TABLES)))
    step = steps[request.label]
    types = {**step.public, **step.state}
    return step, {name: types[name].integers(name, value) for name, value in {**request.public, **request.state}.items()}


def held(query, bits):
    step, public = descent(query)
    circuit = step.trace_held(SCHEMA, len(TABLES))
    chosen = cut_of(circuit, bits)
    values, rounds = computed(chosen, bits, public)
    exact = evaluate(circuit, tuple(o.node for o in chosen.openings), rows=Pooled(SCHEMA, TABLES), inputs=public, known={})
    expected = [Fraction(exact[o.node].reshape(-1)[element]) / (o.resolution or 1) for o in chosen.openings for element in o.elements]
    return values, np.array(expected, dtype=object), rounds, len(chosen.openings)


def test_a_sealed_logistic_descent_opens_its_last_iterate_alone():
    """Coefficients of standardised columns: a function's error of 2^-24 moves no gradient, and no iterate, by more in each step."""
    query = vs.LogisticRegression("smoker ~ age + bmi + C(region)", method="gradient_descent", max_iterations=4)
    values, expected, rounds, openings = held(query, 128)
    assert openings == 1
    assert 0 < max(abs(values - expected)[:-2] * LATTICE) < Fraction(1, 2**18)
    assert (values[-2:] * LATTICE).tolist() == [0, 4]
    assert rounds < 4 * 260


def test_a_sealed_linear_descent_is_exact():
    query = vs.LinearRegression("bp ~ age + bmi", method="gradient_descent", max_iterations=3)
    values, expected, _, _ = held(query, 128)
    assert values.tolist() == expected.tolist()
