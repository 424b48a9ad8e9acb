"""Sealed statistics: what three servers open equals the exact rational answer, rounded, on real data and in corners."""

import numpy as np
import pandas as pd
import pytest

import veilstat as vs
from tests.datasets import ALL
from veilstat.testing.tables import MAX_ROWS, small_schema, small_tables
from veilstat.testing.toy import ToyArithmetic

SEALED = vs.Sharing(servers=3, open="estimate")
FORMULAS = {
    "diabetes": "target ~ age + bmi + bp + C(sex)",
    "randhie": "mdvis ~ lncoins + idp + lpi + fmde + physlm + disea + hlthg + hlthf + hlthp",
    "wine": "proline ~ alcohol + C(kind) + ash",
    "fair": "children ~ age + yrs_married + C(religious)",
}


def opened(tables, schema, architecture, query):
    """The integers that became clear, step by step, and the result or the error."""
    study = vs.simulate(tables, schema, architecture)
    try:
        result = study.run(query)
    except vs.VeilstatError as error:
        result = error
    values = [[str(value) for value in released.values] for _, released in study.observed["analyst"].opened]
    return values, result


def assert_same(tables, schema, query):
    """The openly insecure backend computes with exact fractions and rounds what it opens: the oracle."""
    ours, result = opened(tables, schema, SEALED, query)
    theirs, reference = opened(tables, schema, ToyArithmetic(schema.max_rows), query)
    assert ours == theirs
    assert type(result) is type(reference)
    return result, reference


@pytest.mark.parametrize("name", sorted(ALL))
def test_sealed_regressions_equal_the_exact_answer_on_the_declared_resolution(name):
    _, schema, tables = ALL[name]()
    result, _ = assert_same(tables, schema, vs.LinearRegression(FORMULAS[name]))
    exact = vs.simulate(tables, schema, "clear").linear_regression(FORMULAS[name])
    for field in ("params", "bse"):
        assert np.allclose(getattr(result, field), getattr(exact, field), rtol=1e-7, atol=1e-9)
    assert np.isclose(result.rsquared, exact.rsquared, rtol=1e-9)
    assert np.isclose(result.llf, exact.llf, rtol=1e-9)


@pytest.mark.parametrize(
    "query",
    [
        vs.Mean(["age", "bmi", "bp"]),
        vs.Variance("bp"),
        vs.Covariance(["age", "bmi", "bp"]),
        vs.Correlation(["age", "bmi", "bp"]),
        vs.MeanBy("bp", by="region"),
        vs.MeanBy("bp", by="region", min_cell=70),
        vs.Crosstab("region", "female", min_cell=40),
        vs.Quantile("bp", (0, 0.1, 0.5, 0.9, 1), form="selection"),
        vs.LinearRegression("bp ~ age * C(region) + I(bmi**2)"),
        vs.LinearRegression("bp ~ 0 + age + bmi"),
    ],
    ids=lambda query: query.name,
)
def test_other_sealed_statistics_open_the_exact_answer(query):
    assert_same(small_tables(), small_schema(), query)


@pytest.mark.parametrize("name", ["diabetes", pytest.param("wine", marks=pytest.mark.long)])
def test_sealed_gradient_descent_equals_the_public_one_bit_for_bit(name):
    formula = {"diabetes": "target ~ age + bmi", "wine": "proline ~ alcohol + ash"}[name]
    _, schema, tables = ALL[name]()
    query = vs.LinearRegression(formula, method="gradient_descent", tolerance=1e-5)
    sealed, public = vs.simulate(tables, schema, SEALED).run(query), vs.simulate(tables, schema, "masking").run(query)
    assert sealed.params.tolist() == public.params.tolist()
    assert sealed.iterations == public.iterations
    assert sealed.plan.openings < 25
    assert sealed.history is None


def test_a_descent_that_is_not_linear_in_its_state_opens_the_state_alone():
    query = vs.LogisticRegression("smoker ~ age", method="gradient_descent", tolerance=1e-3)
    study = vs.simulate(small_tables(), small_schema(), SEALED)
    result, reference = study.run(query), vs.simulate(small_tables(), small_schema(), "clear").run(query)
    assert result.params.tolist() == reference.params.tolist()


@pytest.mark.long
def test_sealed_logistic_regression_on_rows_stays_within_its_bound():
    _, schema, tables = ALL["fair"]()
    query = vs.LogisticRegression("any ~ age + yrs_married + rate_marriage", method="gradient_descent", max_iterations=300)
    sealed = vs.simulate(tables, schema, vs.Sharing(entry="rows", open="estimate")).run(query)
    public = vs.simulate(tables, schema, "masking").run(query)
    assert np.abs(sealed.params - public.params).max() < 2**-20
    assert np.abs(sealed.bse - public.bse).max() < 2**-20
    assert any("2^-24" in words for step in sealed.plan.steps for words in step.cost.passage())


def tiny(values, other=(1, 2, 3), schema=None):
    schema = schema or vs.Schema(vs.Integer("x", lower=0, upper=9), vs.Integer("y", lower=0, upper=9), max_rows=8)
    frame = pd.DataFrame({"x": values, "y": [7 * v % 10 for v in values]}, dtype=float)
    rest = pd.DataFrame({"x": other, "y": [3 * v % 10 for v in other]}, dtype=float)
    return {"a": frame, "b": rest}, schema


@pytest.mark.parametrize("values", [[1], [5, 5], [0, 0, 0]])
def test_corners_of_moments(values):
    for query in (vs.Mean("x"), vs.Variance("x"), vs.Correlation(["x", "y"]), vs.LinearRegression("y ~ x")):
        assert_same(*tiny(values, other=values[:1]), query)


def test_an_undefined_answer_stays_undefined():
    tables, schema = tiny([4], other=[])
    result, _ = assert_same(tables, schema, vs.Variance("x"))
    assert np.isnan(result.estimate)


def test_a_singular_design_is_refused_and_opens_counts_alone():
    tables, schema = tiny([2, 2, 2], other=(2, 2))
    values, error = opened(tables, schema, SEALED, vs.LinearRegression("y ~ x"))
    assert isinstance(error, vs.SchemaError)
    assert error.code == "singular_design"
    assert values == [["5", "5", *["0"] * (len(values[0]) - 2)]]


def test_the_plan_of_a_sealed_regression_lists_answers_and_no_moments():
    plan = vs.simulate(small_tables(), small_schema(), SEALED).plan(vs.LinearRegression("bp ~ age + bmi"))
    assert not any("Σ" in entry.formula or "cross-products" in entry.formula for entry in plan.disclosures if entry.resolution is None)
    assert [entry.recipients for entry in plan.disclosures if entry.control] == [("analyst", "servers")]
    assert "rank" in str(plan)


def test_servers_find_small_cells_without_seeing_counts():
    plan = vs.simulate(small_tables(), small_schema(), SEALED).plan(vs.Crosstab("region", "smoker", min_cell=5))
    assert plan.openings == 2 + 6
    assert small_schema().max_rows == MAX_ROWS


@pytest.mark.parametrize("layer", [3, 9])
def test_what_no_server_can_have_computed_is_no_answer(layer):
    """A server sends noise in place of a layer: servers are trusted to follow the protocol, yet no mean has 2^128 units.

    Now and then the noise says that there is no row to take a mean of.
    """
    noise = vs.testing.Lie("compute2", f"compute/{layer}", lambda payload: bytes(len(payload)))
    answer = outcome(lambda: vs.simulate(small_tables(), small_schema(), SEALED, faults=[noise]).mean("bp").estimate)
    assert answer == "impossible_answer" or np.isnan(answer)


def outcome(act):
    """An answer, or the code of the error in its place."""
    try:
        return act()
    except vs.VeilstatError as error:
        return error.code
