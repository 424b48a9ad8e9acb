"""Formulas and sentences of a plan can be read: factors have their brackets, and nothing is said twice."""

import pytest

import veilstat as vs
from veilstat.language.circuit import Output
from veilstat.language.trace import Trace, stack
from veilstat.language.wording import express
from veilstat.testing.tables import small_schema, small_tables

SCHEMA = small_schema()


def formula(write):
    trace = Trace(SCHEMA, 3)
    value = write(trace, trace.column("age"), trace.column("bp"))
    circuit = trace.finish({"x": Output(value.index)})
    return express(circuit, circuit.outputs["x"].node, SCHEMA.level_names())


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (lambda rows, a, b: rows.ones.total(), "number of rows"),
        (lambda rows, a, b: rows.present("age").total(), "number of rows with age"),
        (lambda rows, a, b: a.less(30).total(), "Σ (age < 30)"),
        (lambda rows, a, b: (a * b.less(9)).inner(a.less(30)), "Σ age·(bp < 9)·(age < 30)"),
        (lambda rows, a, b: (a - b).inner(a - b), "Σ (age - bp)²"),
        (lambda rows, a, b: stack(a).total(), "Σ age"),
        (lambda rows, a, b: stack(a, b).inner(stack(a, b)), "cross-products of (age, bp)"),
        (lambda rows, a, b: (a.total() - b.total()) * a.total(), "(Σ age - Σ bp)·(Σ age)"),
        (lambda rows, a, b: stack(a, b).total() @ [1, 2], "(Σ (age, bp))·(2 constants)"),
        (lambda rows, a, b: rows.column("region").equal(1).total(), "Σ region=hills"),
    ],
)
def test_a_formula_is_read_as_it_is_computed(write, text):
    assert formula(write) == text


def test_what_several_steps_have_in_common_is_said_once():
    study = vs.simulate(small_tables(), SCHEMA, vs.Sharing(entry="rows"))
    text = " ".join(str(study.plan(vs.LogisticRegression("smoker ~ age", method="gradient_descent"))).split())
    assert text.count("servers know each owner's policy") == 1
    assert "steps scaling, descend, fit: servers know" in text


def test_an_answer_that_is_too_long_to_be_read_goes_by_its_name():
    plan = vs.simulate(small_tables(), SCHEMA).plan(vs.Histogram("bp", bins=[40, 100, 260]))
    assert [entry.formula.partition(":")[0] for entry in plan.disclosures] == ["number of rows", "counts"]
