"""Private regressions: released moments, ridge and errors against simulations, and descent that owners clip in integers."""

import random

import numpy as np
import pandas as pd
import pytest

import veilstat as vs
from tests.patients import patients_schema
from veilstat.language.evaluate import evaluate
from veilstat.platform.table import Table
from veilstat.statistics.perturbed import PerturbedProducts
from veilstat.statistics.regression_results import LinearResult
from veilstat.testing.releases import releases

SCHEMA = patients_schema(max_rows=8192)
OWNERS = ("east", "north", "west")
NEXT_TO_EXACT = vs.Gaussian(epsilon=50, delta=0.9)
FORMULAS = ["bmi ~ age + smoker", "bmi ~ age + C(sex) + smoker", "bmi ~ age - 1", "bmi ~ C(sex) + age - 1", "bmi ~ age:smoker + I(age**2)"]


def draw(source, rows=3000):
    found = {}
    for name in OWNERS:
        age, smoker = source.integers(0, 121, rows // 3).astype(float), source.integers(0, 2, rows // 3)
        bmi = (25 + age / 6 + 4 * smoker + source.normal(0, 4, rows // 3)).clip(10, 70).round(1)
        found[name] = pd.DataFrame({"age": age, "bmi": bmi, "sex": source.choice(["female", "male"], rows // 3), "smoker": smoker})
    found["east"].loc[:49, "age"] = np.nan
    return found


@pytest.fixture(scope="module")
def tables():
    return draw(np.random.default_rng(1))


@pytest.fixture(scope="module")
def study(tables):
    return vs.simulate(tables, SCHEMA)


@pytest.mark.parametrize("estimator", ["adassp", "ssp"])
@pytest.mark.parametrize("formula", FORMULAS)
def test_almost_without_noise_it_is_the_exact_regression(study, tables, formula, estimator):
    """The same coefficients and errors in units, whatever the coding: what was scaled is scaled back."""
    exact = study.linear_regression(formula)
    plan = study.plan(vs.LinearRegression(formula, estimator=estimator), privacy=NEXT_TO_EXACT)
    (result,) = releases(plan, tables, random.Random(1).randbytes)
    assert isinstance(result, LinearResult)
    assert (abs(result.params - exact.params) < exact.bse).all()
    assert (0.98 * exact.bse < result.bse).all()
    assert (result.bse < 1.2 * exact.bse).all()
    assert list(result.params.index) == list(exact.params.index)
    assert abs(result.n - exact.n) < 20
    assert result.predict(tables["north"].head()).to_numpy() == pytest.approx(exact.predict(tables["north"].head()).to_numpy(), rel=0.02)


def test_what_does_not_exist_is_none_and_said(study):
    result = study.linear_regression("bmi ~ age + smoker", privacy=vs.Gaussian(4.0, 1e-6))
    assert result.n_missing is None
    for name in ("rss", "tss", "rsquared", "rsquared_adj", "fvalue", "f_pvalue", "llf", "aic", "bic", "scale"):
        assert getattr(result, name) is None
    assert "noise in them is not accounted for" in str(result.summary())
    assert "Rows left out" not in str(result.summary())
    assert result.wald_test("age").pvalue < 1e-3
    assert result.reason is None


def test_intervals_hold_noise_and_sampling(study):
    """Rows and noise are drawn anew: every coefficient is covered as often as it says, and not without the noise."""
    source, plan = np.random.default_rng(7), study.plan(vs.LinearRegression("bmi ~ age + smoker"), privacy=vs.Gaussian(4.0, 1e-6))
    truth = {"Intercept": 25, "age": 1 / 6, "smoker": 4}
    hits, exact_hits, count = dict.fromkeys(truth, 0), 0, 250
    for seed in range(count):
        tables = draw(source)
        (result,) = releases(plan, tables, random.Random(seed).randbytes)
        interval = result.conf_int()
        for name, value in truth.items():
            hits[name] += interval.loc[name, 0] <= value <= interval.loc[name, 1]
        exact = 4 / np.sqrt(3000 * 0.25)
        exact_hits += abs(result.params["smoker"] - 4) < 1.96 * exact
    assert all(0.91 <= share / count <= 0.985 for share in hits.values())
    assert exact_hits / count < 0.9


@pytest.mark.parametrize(("epsilon", "words"), [(0.1, "eigenvalue"), (0.0005, "rows")])
def test_adassp_shrinks_where_ssp_breaks_and_neither_gives_an_interval(study, tables, epsilon, words):
    for estimator in ("adassp", "ssp"):
        plan = study.plan(vs.LinearRegression("bmi ~ age + smoker", estimator=estimator), privacy=vs.Gaussian(epsilon, 1e-6))
        for result in releases(plan, tables, random.Random(8).randbytes, 10):
            assert result.bse is None
            assert result.conf_int() is None
            assert result.cov_params() is None
            assert "no standard errors" in str(result)
            assert words in result.reason
            if estimator == "adassp":
                assert result.ridge > 0
                assert np.isfinite(result.params).all()
                assert "ridge" in str(result)


def test_the_ridge_is_algorithm_two_with_the_eigenvalue_that_was_released():
    """lambda = max(0, t sqrt(d log(2 d^2 / 0.05)) - smallest), smallest being a bound from below."""
    noise, size = 3.0, 4
    norm = noise * np.sqrt(size * np.log(2 * size**2 / 0.05))
    for smallest, ridge in ((100.0, 0.0), (2 * norm, 0.0), (1.5 * norm, 0.5 * norm), (norm, norm), (-5.0, norm)):
        xx = np.diag([smallest, 200.0, 300.0, 400.0])
        fit = PerturbedProducts(xx, np.arange(4.0), 900.0, 1000.0, noise).fit("adassp")
        assert fit.ridge == pytest.approx(ridge, abs=1e-9)
        assert fit.coefficients == pytest.approx(np.linalg.solve(xx + ridge * np.eye(4), np.arange(4.0)))


def test_the_noise_keeps_within_the_bound_that_the_ridge_assumes():
    """Operator norms of symmetric noise exceed t sqrt(d log(2 d^2 / 0.05)) in about one case of twenty, or fewer."""
    source = np.random.default_rng(3)
    for size in (1, 2, 3, 8):
        drawn = np.triu(source.normal(size=(4000, size, size)))
        symmetric = drawn + np.triu(drawn, 1).transpose(0, 2, 1)
        norms = np.abs(np.linalg.eigvalsh(symmetric)).max(axis=1)
        assert np.mean(norms > np.sqrt(size * np.log(2 * size**2 / 0.05))) < 0.06


def test_the_covariance_of_what_noise_does_is_exact():
    """Of e - E b for symmetric E with independent numbers: simulated."""
    source, b = np.random.default_rng(6), np.array([0.7, -1.2, 0.4])
    drawn = np.triu(source.normal(size=(200_000, 4, 4))) * 2.0
    symmetric = drawn + np.triu(drawn, 1).transpose(0, 2, 1)
    moved = symmetric[:, :3, 3] - symmetric[:, :3, :3] @ b
    products = PerturbedProducts(np.eye(3) * 1e6, b * 1e6, 1e7, 1e4, 2.0)
    stated = products.equations_noise(b)
    assert np.cov(moved.T) == pytest.approx(stated, abs=0.15)


@pytest.mark.parametrize("formula", ["bmi ~ age + C(sex) + smoker", "bmi ~ age - 1", "bmi ~ C(sex) + smoker - 1"])
def test_descent_reaches_least_squares_where_noise_is_small(study, tables, formula):
    exact = study.linear_regression(formula)
    query = vs.LinearRegression(formula, method="gradient_descent", clip_norm=4.0, iterations=120)
    (result,) = releases(study.plan(query, privacy=NEXT_TO_EXACT), tables, random.Random(2).randbytes)
    assert (abs(result.params - exact.params) < 3 * exact.bse).all()
    assert result.bse is None
    assert result.conf_int() is None
    assert "not accounted for" in result.reason
    assert len(result.history) == result.iterations == 120
    assert "Converged" not in str(result)


def test_descent_clips_outliers_where_least_squares_follows_them(study, tables):
    """Residuals beyond the clip pull no more than the clip: a coefficient near the median's side, not the mean's."""
    spoilt = {name: frame.assign(bmi=frame["bmi"].where(np.arange(len(frame)) % 10 > 0, 70.0)) for name, frame in tables.items()}
    query = vs.LinearRegression("bmi ~ smoker", method="gradient_descent", clip_norm=0.1, iterations=200, rate=2.0)
    (result,) = releases(study.plan(query, privacy=NEXT_TO_EXACT), spoilt, random.Random(2).randbytes)
    clean, pulled = (vs.simulate(rows, SCHEMA).linear_regression("bmi ~ smoker").params["Intercept"] for rows in (tables, spoilt))
    assert abs(result.params["Intercept"] - clean) < 0.5 * abs(pulled - clean)


def gradient_parts(plan, frame, coefficients):
    """What each row of a table adds to a gradient, in integers."""
    step = next(step for step in plan.steps if step.label == "gradient")
    wanted = tuple(opening.node for opening in step.cut.openings)
    public = {"coefficients": np.array(coefficients, dtype=object)}
    parts = []
    for place in range(len(frame)):
        rows = Table("one", frame.iloc[place : place + 1], SCHEMA).rows(step.cut.columns())
        parts.append(step.cut.flatten(evaluate(step.cut.circuit, wanted, rows=rows, inputs=public, known={})).astype(float))
    return np.array(parts)


@pytest.mark.parametrize("neighbours", ["add_remove", "replace_one"])
@pytest.mark.parametrize("clip_norm", [0.05, 1.0])
def test_no_row_moves_a_gradient_by_more_than_the_clip(study, clip_norm, neighbours):
    """At coefficients as bad as a server may choose, over rows at every corner: never exceeded, and reached."""
    query = vs.LinearRegression("bmi ~ age + smoker", method="gradient_descent", clip_norm=clip_norm, iterations=3)
    plan = study.plan(query, privacy=vs.Gaussian(1.0, 1e-6, neighbours=neighbours))
    corners = pd.DataFrame(
        [(age, bmi, smoker) for age in (0.0, 60.0, 120.0, np.nan) for bmi in (10.0, 40.0, 70.0) for smoker in (0, 1)],
        columns=["age", "bmi", "smoker"],
    )
    (block,) = next(step for step in plan.steps if step.label == "gradient").noise.blocks
    largest = 0.0
    for coefficients in ([0, 0, 0], [1 << 19, -(1 << 19), 1 << 19], [-(1 << 19), 1 << 19, 5], [30_000, -20_000, 7]):
        parts = gradient_parts(plan, corners, coefficients)
        others = parts if neighbours == "replace_one" else np.zeros((1, 3))
        largest = max(largest, *(((parts - other) ** 2).sum(axis=1).max() for other in others))
    assert largest <= block.squared_sensitivity
    assert largest >= 0.81 * block.squared_sensitivity


def test_every_step_of_a_descent_is_paid_for_and_all_keep_one_promise(tables):
    promise = (1.0, 1e-6)
    budget = {name: vs.Policy(budget=promise) for name in OWNERS}
    study = vs.simulate(tables, SCHEMA, policies=budget)
    query = vs.LinearRegression("bmi ~ age", method="gradient_descent", iterations=5)
    plan = study.plan(query, privacy=vs.Gaussian(*promise))
    steps = {step.label: step for step in plan.steps}
    assert steps["gradient"].at_most == 5
    assert sum(step.at_most * step.noise.rho for step in plan.steps) == plan.privacy.rho
    assert "6 openings together" in str(plan)
    study.run(query, privacy=vs.Gaussian(*promise))
    spent = study.budget()["east"]
    assert spent.releases == 6
    assert spent.spent == plan.privacy.rho
    with pytest.raises(vs.BudgetExhausted, match="would fit"):
        study.run(query, privacy=vs.Gaussian(*promise))
    assert study.budget()["east"].releases == 6


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"estimator": "best"}, "bad_option"),
        ({"iterations": 0, "method": "gradient_descent"}, "bad_option"),
        ({"iterations": 2.5, "method": "gradient_descent"}, "bad_option"),
        ({"clip_norm": -1.0, "method": "gradient_descent"}, "bad_option"),
        ({"iterations": 3}, "option_without_effect"),
        ({"clip_norm": 1.0}, "option_without_effect"),
        ({"estimator": "ssp", "method": "gradient_descent"}, "option_without_effect"),
        ({"tolerance": 1e-3, "method": "gradient_descent"}, "option_without_effect"),
    ],
)
def test_options_without_effect_are_refused(study, options, code):
    with pytest.raises(vs.VeilstatError) as error:
        study.linear_regression("bmi ~ age", privacy=vs.Gaussian(1.0, 1e-6), **options)
    assert error.value.code == code


@pytest.mark.parametrize("options", [{"estimator": "ssp"}, {"iterations": 4}, {"clip_norm": 0.5}])
def test_options_of_private_answers_are_refused_without_privacy(study, options):
    with pytest.raises(vs.CapabilityError) as error:
        study.linear_regression("bmi ~ age", **options)
    assert error.value.code == "option_without_effect"
