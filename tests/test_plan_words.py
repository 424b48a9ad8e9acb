"""Formulas and sentences of a plan can be read: factors have their brackets, and nothing is said twice."""

import math
from dataclasses import replace

import pandas as pd
import pytest

import veilstat as vs
from veilstat.language.circuit import Output
from veilstat.language.trace import Trace, stack
from veilstat.language.wording import express
from veilstat.platform import private_plan
from veilstat.platform.definition import Definition
from veilstat.platform.plan_text import sections
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
        (lambda rows, a, b: a.less(30).total(), "number of rows with age < 30"),
        (lambda rows, a, b: (a * b.less(9)).inner(a.less(30)), "Σ age·(bp < 9)·(age < 30)"),
        (lambda rows, a, b: (a - b).inner(a - b), "Σ (age - bp)²"),
        (lambda rows, a, b: (a + a - 77).total(), "Σ (2·age - 77)"),
        (lambda rows, a, b: (a * 5 + 100).total(), "Σ (5·age + 100)"),
        (lambda rows, a, b: stack(a).total(), "Σ age"),
        (lambda rows, a, b: stack(a, b).inner(stack(a, b)), "cross-products of (age, bp)"),
        (lambda rows, a, b: (stack(a, b) * [3, 4] - [5, 6]).total(), "Σ (age, bp), rescaled"),
        (lambda rows, a, b: stack(1, a, b).inner(stack(1, a, b))[1:, 0], "Σ (age, bp)"),
        (lambda rows, a, b: stack(rows.ones, a, a * a, b, a * b).total(), "Σ (1, age, … age·bp)"),
        (lambda rows, a, b: stack(1 - rows.present("age"), rows.present("age")).total(), "number of rows with age, and where missing"),
        (
            lambda rows, a, b: (stack(a.less([9, 30]), 1) - stack(0, a.less([9, 30]))).total(),
            "number of rows with (age < 9, 9 ≤ age < 30, age ≥ 30)",
        ),
        (lambda rows, a, b: rows.column("region").equal([0, 1, 2]).inner(stack(1, a)), "Σ (1, age) for each level of region"),
        (
            lambda rows, a, b: rows.column("region").equal([0, 1, 2]).inner(stack(rows.ones, a))[:, 0],
            "number of rows with each level of region",
        ),
        (lambda rows, a, b: a.clip(2, 9).total(), "Σ clipped(age)"),
        (lambda rows, a, b: (a.total() - b.total()) * a.total(), "(Σ age - Σ bp)·(Σ age)"),
        (lambda rows, a, b: stack(a, b).total() @ [1, 2], "(Σ (age, bp))·(2 constants)"),
        (lambda rows, a, b: rows.column("region").equal(1).total(), "number of rows with region=hills"),
    ],
)
def test_a_formula_is_read_as_it_is_computed(write, text):
    assert formula(write) == text


@pytest.mark.parametrize("name", ["1", "number of rows", "missing", "each level of age", "clipped(age)", "Σ age", "y < 3", "x) ("])
def test_a_column_cannot_be_taken_for_something_else(name):
    trace = Trace(vs.Schema(vs.Integer(name, lower=0, upper=9)), 3)
    circuit = trace.finish({"x": Output(trace.column(name).total().index)})
    text = express(circuit, circuit.outputs["x"].node, {})
    assert text.startswith("Σ ")
    assert name.isidentifier() or repr(name) in text


@pytest.mark.parametrize("name", ["rows", "number", "with", "bp·age", "with age"])
def test_a_condition_is_said_whatever_the_column_is_called(name):
    trace = Trace(vs.Schema(vs.Integer(name, lower=0, upper=9), vs.Integer("age", lower=0, upper=9)), 3)
    circuit = trace.finish({"x": Output(trace.present(name).total().index), "y": Output((1 - trace.column(name)).total().index)})
    words = [express(circuit, output.node, {}) for output in circuit.outputs.values()]
    assert words == [f"number of rows with {name!r}", f"Σ (1 - {name!r})"]


@pytest.mark.parametrize(
    ("level", "text"),
    [
        ("18-29", "region=18-29"),
        ("age", "region=age"),
        ("in age", "region='in age'"),
        ("a, and where missing", "region='a, and where missing'"),
        ("a\n  number of rows  count", r"region='a\n  number of rows  count'"),
    ],
)
def test_a_level_cannot_be_taken_for_words_nor_for_a_condition(level, text):
    trace = Trace(vs.Schema(vs.Categorical("region", levels=[level, "other"]), vs.Integer("age", lower=0, upper=9)), 3)
    circuit = trace.finish({"x": Output((trace.column("region").equal(0) * trace.present("age")).total().index)})
    assert express(circuit, circuit.outputs["x"].node, trace.schema.level_names()) == f"number of rows with {text}, rows with age"


def test_a_sentence_of_a_plan_quotes_a_column_that_could_be_one():
    name = "age in steps of 1 from 0; nothing else"
    schema = vs.Schema(vs.Continuous(name, lower=1, upper=9, step=0.5), max_rows=9)
    study = vs.simulate({owner: pd.DataFrame({name: [1.0, 2.0]}) for owner in "abc"}, schema)
    lines = [line for lines in dict(sections(study.plan(vs.Sum(name)))).values() for line in lines if name in line]
    assert len(lines) == 3
    assert all(repr(name) in line for line in lines)


def test_a_term_is_quoted_where_its_level_could_be_read_as_words():
    levels = ["north", "south", "all] and\n  no more"]
    schema = vs.Schema(vs.Categorical("region", levels=levels), vs.Integer("y", lower=0, upper=9), max_rows=9)
    study = vs.simulate({owner: pd.DataFrame({"region": levels, "y": [1, 2, 3]}) for owner in "abc"}, schema)
    terms = r"region[T.south], 'region[T.all] and\n  no more]'"
    among, within = study.plan(vs.LinearRegression("y ~ region")).inferences
    assert f"among y, Intercept, {terms} over all owners" in among
    assert within.endswith(f"sums within it: {terms}")


def test_openings_with_the_same_words_have_the_wider_margin():
    wide, narrow = "n" * 80 + "1", "n" * 80 + "2"
    schema = vs.Schema(vs.Integer(wide, lower=0, upper=1000), vs.Integer(narrow, lower=0, upper=2), max_rows=9)
    study = vs.simulate({owner: pd.DataFrame({wide: [5], narrow: [1]}) for owner in "abc"}, schema)
    plan = study.plan(vs.Sum((wide, narrow)), privacy=vs.Gaussian(1.0, 1e-6))
    shares = [share for step in plan.steps for share in step.noise.shares]
    assert len(plan.privacy.margins) < len(shares)
    [step] = plan.steps
    assert max(plan.privacy.margins.values()) == pytest.approx(1.959964 * math.sqrt(step.source.count * max(shares)))


def test_margins_of_columns_with_ambiguous_names_are_told_apart():
    names = ("a", "b and c", "a and b", "c")
    schema = vs.Schema(*(vs.Integer(name, lower=0, upper=2**place) for place, name in enumerate(names)), max_rows=9)
    study = vs.simulate({owner: pd.DataFrame([[1] * 4], columns=list(names)) for owner in "abc"}, schema)
    assert len(study.plan(vs.Covariance(names), privacy=vs.Gaussian(1.0, 1e-6)).privacy.expected) == 10


def test_a_digest_has_the_promise_and_no_words(monkeypatch):
    study, promise = vs.simulate(small_tables(), SCHEMA), vs.Gaussian(0.5, 1e-6)
    others = [
        {"neighbours": "replace_one"},
        {"privacy_unit": "owner"},
        {"calibration": "textbook"},
        {"placement": "local"},
        {"delta": 1e-7},
    ]
    digests = [study.plan(vs.Sum("age"), privacy=replace(promise, **other)).digest for other in ({}, *others)]
    assert len(set(digests)) == len(digests)
    monkeypatch.setattr(private_plan, "describe", lambda cut, opening, levels: f"a number, {opening.node}")
    plan = study.plan(vs.Sum("age"), privacy=promise)
    assert "a number" in str(plan)
    assert plan.digest == digests[0]


def test_a_bound_is_said_before_the_number_that_it_bounds():
    text = str(vs.simulate(small_tables(), SCHEMA).plan(vs.Quantile("bp")))
    assert "the analyst learns at most 11 numbers, totals over the owners who contribute, and nothing else:" in text
    assert "at most 41 rounds; at most 38.7 kB sent and received by each owner" in text


@pytest.mark.parametrize(("query", "what"), [(vs.Mean("age"), "the mean of age"), (vs.Crosstab("region", "smoker"), "each cell")])
def test_what_noise_moves_has_its_article(query, what):
    text = str(vs.simulate(small_tables(), SCHEMA).plan(query, privacy=vs.Gaussian(1.0, 1e-6)))
    assert f"so noise moves {what} by at most" in text


def test_what_cannot_be_computed_of_rows_is_named_as_it_was_asked():
    study = vs.simulate(small_tables(3), SCHEMA, vs.Homomorphic(entry="rows"))
    with pytest.raises(vs.CapabilityError, match="cannot compute 'number of rows with age < point0' on protected rows"):
        study.plan(vs.Quantile("age"))


def test_what_several_steps_have_in_common_is_said_once():
    study = vs.simulate(small_tables(), SCHEMA, vs.Sharing(entry="rows"))
    text = " ".join(str(study.plan(vs.LogisticRegression("smoker ~ age", method="gradient_descent"))).split())
    assert text.count("servers know each owner's policy") == 1
    assert "steps scaling, descend, fit: servers know" in text


def test_an_answer_that_is_too_long_to_be_read_goes_by_its_name():
    plan = vs.simulate(small_tables(), SCHEMA).plan(vs.LogisticRegression("smoker ~ age + bp", method="gradient_descent"))
    assert [entry.formula.partition(":")[0] for entry in plan.disclosures if entry.step == "fit"] == ["loss", "information matrix"]


@pytest.mark.parametrize(
    ("query", "answers"),
    [
        (vs.Mean("bp"), ["number of rows", "number of rows with bp", "mean", "variance"]),
        (vs.Std("bp"), ["number of rows", "number of rows with bp", "square root of variance"]),
        (vs.Correlation(["age", "bp"]), ["number of rows", "number of rows with age and bp", "correlations, with their signs"]),
        (vs.Covariance(["age", "bp"]), ["number of rows", "number of rows with age and bp", "covariance"]),
        (vs.Quantile("age", 0.5), ["number of rows", "number of rows with age", "quantiles"]),
    ],
)
def test_what_is_computed_behind_the_wall_goes_by_its_name_and_says_from_which_totals(query, answers):
    plan = vs.simulate(small_tables(), SCHEMA, vs.Sharing(servers=3, open="estimate")).plan(query)
    assert [entry.formula for entry in plan.disclosures] == answers
    [line] = [line for line in str(plan).splitlines() if "opened to nobody" in line]
    assert all(answer not in line.split(": ")[1].split("; ") for answer in answers)


@pytest.mark.parametrize(
    ("query", "said", "unsaid"),
    [
        (vs.Crosstab("region", "smoker", min_cell=3), "which cells are hidden; other queries may narrow down what they hold", None),
        (vs.MeanBy("age", "region", min_cell=3), "which levels are hidden; other queries may narrow down what they hold", None),
        (vs.Quantile("age", 0.5), "each quantile is the value of some row", None),
        (vs.Covariance(["age", "bp"]), "what follows from these numbers", "every regression"),
        (
            vs.LogisticRegression("smoker ~ age", method="gradient_descent"),
            "two iterations, one after the other, give away the totals between them",
            None,
        ),
        (
            vs.LogisticRegression("smoker ~ age", method="gradient_descent"),
            "each iteration opens the gradient at a known point; many of them describe the joint distribution of the design in ever more detail",
            None,
        ),
    ],
)
def test_a_sealed_plan_still_says_what_hidden_cells_quantiles_and_iterations_tell(query, said, unsaid):
    plan = vs.simulate(small_tables(), SCHEMA, vs.Sharing(servers=3, open="estimate")).plan(query)
    words = dict(sections(plan))["What can be inferred besides"]
    assert said in words
    assert unsaid is None or unsaid not in " ".join(words)


def test_what_is_counted_from_comparisons_behind_the_wall_is_no_total():
    plan = vs.simulate(small_tables(), SCHEMA, vs.Sharing(servers=3, open="estimate")).plan(vs.Quantile("age", 0.5))
    assert "the analyst learns 3 numbers, computed over the owners who contribute, and nothing else:" in str(plan)
    assert "totals over the owners" in str(vs.simulate(small_tables(), SCHEMA).plan(vs.Quantile("age", 0.5)))


def test_a_plan_says_what_its_columns_are_counted_in():
    text = str(vs.simulate(small_tables(), SCHEMA).plan(vs.Covariance(["age", "bp", "smoker"])))
    assert "columns are summed as whole numbers: age in steps of 1 from 18, bp in steps of 0.5 from 40\n" in text


@pytest.mark.parametrize(
    "configured",
    [
        lambda colluding: vs.Masking(colluding=colluding),
        lambda colluding: vs.Sharing(servers=3, colluding=colluding),
        lambda colluding: vs.Homomorphic(colluding=colluding),
        lambda colluding: vs.Homomorphic(colluding=colluding, threshold=3),
        lambda colluding: vs.Homomorphic(colluding=colluding, entry="rows"),
    ],
    ids=("masking", "sharing", "all decrypt", "some decrypt", "rows"),
)
def test_where_no_owner_colludes_the_plan_counts_none(configured):
    owners = tuple(small_tables())
    alone, some = (" ".join(Definition(SCHEMA, owners, configured(colluding)).architecture.trust(owners).words) for colluding in (0, 1))
    assert "no data owner may pool what it sees with them" in alone
    assert "up to 0" not in alone.split("threshold")[0]
    assert f"up to 1 of the {len(owners)} data owners may pool" in some
