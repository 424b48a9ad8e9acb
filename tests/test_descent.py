"""Gradient descent on real data: it converges to least squares and maximum likelihood, on every kind of exit wall."""

from itertools import pairwise

import numpy as np
import pytest
import statsmodels.formula.api as smf

import veilstat as vs
from tests.datasets import ALL, pooled
from veilstat.testing.tables import small_schema, small_tables
from veilstat.testing.toy import ToyArithmetic

ARCHITECTURES = pytest.mark.parametrize("architecture", ["clear", pytest.param("masking", marks=pytest.mark.long)])
"""That all open the same numbers in every iteration is shown below and by the conformance suite, on smaller data."""


def study_of(name, architecture="clear"):
    _, schema, tables = ALL[name]()
    return vs.simulate(tables, schema, architecture)


@pytest.mark.parametrize(
    ("name", "formula"),
    [("diabetes", "target ~ age + bmi + bp"), ("wine", "proline ~ alcohol + C(kind)"), ("fair", "age ~ yrs_married + children")],
)
@ARCHITECTURES
def test_linear_descent_converges_to_least_squares(name, formula, architecture):
    result = study_of(name, architecture).linear_regression(formula, method="gradient_descent")
    rows = pooled(name)
    theirs = smf.ols(formula, rows.assign(kind=rows["kind"].astype(str)) if "kind" in rows else rows).fit()
    assert result.converged
    assert np.allclose(result.params, theirs.params, rtol=1e-5)
    assert result.rsquared == pytest.approx(theirs.rsquared, rel=1e-8)
    assert result.llf == pytest.approx(theirs.llf, rel=1e-8)
    assert result.bse is None
    assert len(result.history) == result.iterations < 100
    assert result.history["max_gradient"].iloc[-1] <= 1e-8


def test_acceleration_saves_iterations():
    plain = study_of("diabetes").linear_regression("target ~ age + bmi + bp", method="gradient_descent", acceleration=None)
    fast = study_of("diabetes").linear_regression("target ~ age + bmi + bp", method="gradient_descent")
    assert np.allclose(plain.params, fast.params, rtol=1e-6)
    assert fast.iterations < plain.iterations / 2


@pytest.mark.long
def test_plain_descent_on_bounds_needs_thousands_of_iterations_and_converges():
    tables, schema = ALL["diabetes"]()[2], ALL["diabetes"]()[1]
    tight = vs.Schema(
        vs.Integer("age", lower=19, upper=79), vs.Continuous("bmi", lower=18, upper="42.2", step=0.1),
        vs.Continuous("bp", lower=62, upper=133, step=0.01), schema["target"], max_rows=1000,
    )  # fmt: skip
    options = {"method": "gradient_descent", "standardise": "bounds", "acceleration": None, "rate": 0.1, "max_iterations": 10_000}
    result = vs.simulate(tables, tight, "clear").linear_regression("target ~ age + bmi + bp", **options)
    assert 5000 < result.iterations < 9000
    assert np.allclose(result.params, smf.ols("target ~ age + bmi + bp", pooled("diabetes")).fit().params, rtol=1e-4)


@pytest.mark.parametrize(("name", "formula"), [("fair", "any ~ age + yrs_married + religious"), ("randhie", "idp ~ disea + physlm")])
@ARCHITECTURES
def test_logistic_descent_converges_to_maximum_likelihood(name, formula, architecture):
    result = study_of(name, architecture).logistic_regression(formula, method="gradient_descent")
    theirs = smf.logit(formula, pooled(name)).fit(disp=0)
    assert np.allclose(result.params, theirs.params, rtol=1e-5)
    assert np.allclose(result.bse, theirs.bse, rtol=1e-6)
    assert np.allclose(result.pvalues, theirs.pvalues, rtol=1e-4, atol=1e-12)
    for field in ("llf", "llnull", "prsquared", "llr", "aic", "bic", "df_resid", "df_model"):
        assert getattr(result, field) == pytest.approx(getattr(theirs, field), rel=1e-7), field
    assert result.llr_pvalue == pytest.approx(theirs.llr_pvalue, rel=1e-5)  # statsmodels finds llnull by optimisation


@pytest.mark.parametrize("standardise", ["moments", "bounds", None])
def test_held_and_opened_iterations_end_in_the_same_bits(standardise):
    schema, tables = small_schema(), small_tables()
    query = vs.LinearRegression("bp ~ age + smoker", method="gradient_descent", standardise=standardise, max_iterations=30)
    ended = []
    for architecture in ("masking", ToyArithmetic(64)):
        study = vs.simulate(tables, schema, architecture)
        try:
            ended.append(study.run(query))
        except vs.ConvergenceError as error:
            ended.append(error.result)
    opened, held = ended
    assert np.array_equal(opened.params, held.params)
    assert (opened.iterations, opened.converged) == (held.iterations, held.converged)
    assert held.history is None
    assert held.plan.openings < opened.plan.openings
    assert opened.contributors == held.contributors


@ARCHITECTURES
def test_the_answer_does_not_depend_on_how_rows_are_split(architecture):
    frame, schema, _ = ALL["fair"]()
    wide = vs.Schema(*schema.columns, max_rows=7000)
    query = vs.LogisticRegression("any ~ age + religious", method="gradient_descent")
    cuts = [[3000], [100, 101, 5000], [6000]]
    answers = []
    for cut in cuts:
        edges = [0, *cut, len(frame)]
        tables = {f"o{place}": frame.iloc[a:b] for place, (a, b) in enumerate(pairwise(edges))}
        answers.append(vs.simulate(tables, wide, architecture).run(query).params)
    assert all(np.array_equal(answers[0], answer) for answer in answers)


def test_no_convergence_is_an_error_that_carries_the_last_iterate():
    with pytest.raises(vs.ConvergenceError) as error:
        study_of("diabetes").linear_regression("target ~ bmi", method="gradient_descent", max_iterations=3)
    assert error.value.result.iterations == 3
    assert not error.value.result.converged
    assert error.value.result.plan is not None


def test_a_rate_that_is_too_large_is_an_error_and_not_a_number():
    with pytest.raises(vs.RangeError) as error:
        study_of("diabetes").linear_regression("target ~ bmi", method="gradient_descent", rate=500.0, acceleration=None)
    assert error.value.code == "diverged"


def test_separated_responses_do_not_converge():
    schema, tables = small_schema(), small_tables()
    separated = {name: table.assign(smoker=(table["age"] > 50).astype(int)) for name, table in tables.items()}
    with pytest.raises(vs.ConvergenceError, match="age grew to the end"):
        vs.simulate(separated, schema, "clear").logistic_regression("smoker ~ age", method="gradient_descent", max_iterations=60)


@pytest.mark.parametrize(
    "options",
    [{"standardise": "z"}, {"rate": -1.0}, {"acceleration": "adam"}, {"tolerance": 0.0}, {"max_iterations": 0}, {"method": "newton"}],
)
def test_bad_settings_are_refused(options):
    with pytest.raises(vs.SchemaError) as error:
        vs.LinearRegression("y ~ x", **{"method": "gradient_descent", **options})
    assert error.value.code == "bad_option"


def test_a_response_that_is_not_binary_is_refused():
    with pytest.raises(vs.SchemaError, match="must be Binary"):
        study_of("fair").logistic_regression("age ~ religious", method="gradient_descent")


def test_progress_is_reported_after_every_opening():
    seen = []
    study_of("diabetes").linear_regression("target ~ bmi", method="gradient_descent", progress=lambda *told: seen.append(told))
    assert seen[0] == ("scaling", 1, 1)
    assert [done for label, done, _ in seen if label == "descend"] == list(range(1, len(seen) - 1))
