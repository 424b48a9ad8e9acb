"""Calibrations against closed forms and against dp-accounting, and what a promise costs when owners share the noise."""

import math
import random
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from dp_accounting.pld import privacy_loss_distribution
from scipy import special

import veilstat as vs
from veilstat.dp.calibration import (
    analytic_delta,
    analytic_epsilon,
    sum_distance,
    tail_delta,
    textbook_sigma,
    zcdp_delta,
    zcdp_rho,
)
from veilstat.dp.mechanism import TAIL, Gaussian, calibrate
from veilstat.dp.sensitivity import Block

COUNT = Block(1, 1)


def test_the_numbers_of_sensitivity_one_epsilon_one():
    assert analytic_epsilon(4.225, 1e-6) == pytest.approx(1, abs=1e-3)
    assert math.sqrt(1 / (2 * zcdp_rho(1, 1e-6))) == pytest.approx(4.53, abs=5e-3)
    assert textbook_sigma(1, 1e-6) == pytest.approx(5.299, abs=1e-3)


@pytest.mark.parametrize("epsilon", [0.01, 0.3, 1, 4, 20])
@pytest.mark.parametrize("delta", [1e-3, 1e-6, 1e-10])
def test_the_analytic_calibration_meets_delta_exactly(epsilon, delta):
    sigma = math.sqrt(2 * math.log(1.25 / delta)) / epsilon
    epsilon = analytic_epsilon(sigma, delta)
    upper, lower = special.ndtr(0.5 / sigma - epsilon * sigma), special.ndtr(-0.5 / sigma - epsilon * sigma)
    assert upper - math.exp(epsilon) * lower == pytest.approx(delta, rel=1e-5)
    assert analytic_delta(sigma, epsilon) == pytest.approx(delta, rel=1e-5)


@pytest.mark.parametrize("epsilon", [0.1, 1, 5])
@pytest.mark.parametrize("delta", [1e-4, 1e-8])
def test_zcdp_keeps_the_promise_by_an_accountant_that_we_did_not_write(epsilon, delta):
    sigma = math.sqrt(1 / (2 * zcdp_rho(epsilon, delta)))
    oracle = privacy_loss_distribution.from_gaussian_mechanism(sigma, value_discretization_interval=1e-3, pessimistic_estimate=False)
    assert 0 < oracle.get_delta_for_epsilon(epsilon) <= delta
    larger = privacy_loss_distribution.from_gaussian_mechanism(0.85 * sigma, value_discretization_interval=1e-3)
    assert larger.get_delta_for_epsilon(epsilon) > delta


def test_every_order_bounds_and_none_is_better():
    """Corollary 13 at many orders: the minimum is what is returned."""
    rho, epsilon = 0.02, 0.9
    orders = np.linspace(1.01, 200, 20_000)
    bounds = np.exp((orders - 1) * (orders * rho - epsilon)) / (orders - 1) * (1 - 1 / orders) ** orders
    assert zcdp_delta(rho, epsilon) == pytest.approx(bounds.min(), rel=1e-4)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 4.23, 10.0])
@pytest.mark.parametrize("epsilon", [0.2, 1.0])
def test_the_exact_tail_is_that_of_the_accountant(sigma, epsilon):
    oracle = privacy_loss_distribution.from_discrete_gaussian_mechanism(sigma, value_discretization_interval=1e-4)
    exact = tail_delta(Fraction(sigma) ** 2, epsilon)
    assert exact == pytest.approx(oracle.get_delta_for_epsilon(epsilon), rel=5e-3)
    assert exact == pytest.approx(analytic_delta(sigma, epsilon), rel=0.6)


def test_a_tail_that_is_too_long_is_not_summed():
    with pytest.raises(ValueError, match="zCDP"):
        tail_delta(Fraction(10**12), 1.0)


def test_a_sum_of_discrete_gaussians_is_one_to_within_the_bound():
    """The distance of the sum of two, computed by convolution in exact enough arithmetic, never exceeds the theorem's."""
    for sigma in (0.7, 0.8, 1.0):
        x = np.arange(-60, 61)
        single = np.exp(-(x**2) / (2 * sigma**2))
        double = np.exp(-(np.arange(-120, 121) ** 2) / (4 * sigma**2))
        total = np.convolve(single / single.sum(), single / single.sum())[110:131]
        double = (double / double.sum())[110:131]
        distance = np.abs(np.log(total / double)).max()
        assert 0.01 * sum_distance(Fraction(sigma) ** 2, 2) < distance <= sum_distance(Fraction(sigma) ** 2, 2)
    assert sum_distance(Fraction(4), 2) == pytest.approx(7e-17, rel=0.05)
    assert sum_distance(Fraction(1), 3) == pytest.approx(6e-4, rel=0.15)


@pytest.mark.parametrize("honest", [2, 3, 7, 50])
def test_the_honest_owners_noise_alone_keeps_the_promise(honest):
    """One count, by the accountant: the sum of the honest shares is enough, and nine tenths of it are not."""
    noise = calibrate(Gaussian(1.0, 1e-6), [COUNT], honest)
    sigma = math.sqrt(noise.shares[0] * honest)
    assert tail_delta(noise.shares[0] * honest, 1.0) <= 1e-6
    if noise.shares[0] > 4:
        oracle = privacy_loss_distribution.from_discrete_gaussian_mechanism(0.95 * sigma, value_discretization_interval=1e-4)
        assert oracle.get_delta_for_epsilon(1.0) > 1e-6
        assert sigma == pytest.approx(4.23, abs=0.02)


@pytest.mark.parametrize("seed", range(20))
def test_blocks_together_cost_no_more_than_the_promise(seed):
    source = random.Random(seed)
    honest = source.randrange(2, 9)
    blocks = [Block(source.randrange(1, 200), source.randrange(1, 10**12)) for _ in range(source.randrange(2, 6))]
    promise = Gaussian(source.choice([0.05, 0.5, 2.0]), source.choice([1e-4, 1e-9]))
    noise = calibrate(promise, blocks, honest)
    continuous = sum(block.squared_sensitivity / (2 * honest * share) for block, share in zip(blocks, noise.shares, strict=True))
    assert continuous <= noise.rho <= zcdp_rho(promise.epsilon, promise.delta) * (1 + Fraction(1, 10**6))
    assert continuous > Fraction(99, 100) * zcdp_rho(promise.epsilon, promise.delta) or min(noise.shares) == 4
    assert zcdp_delta(float(noise.rho), promise.epsilon) <= promise.delta
    assert all(share >= 4 for share in noise.shares)


def test_noise_is_drawn_for_every_number_and_stays_within_its_tails():
    noise = calibrate(Gaussian(0.5, 1e-6), [Block(3, 1), Block(500, 10**10)], 2)
    drawn = noise.draw(random.Random(1).randbytes)
    assert len(drawn) == len(noise.tails) == len(noise.variances) == 503
    assert all(abs(value) <= tail for value, tail in zip(drawn, noise.tails, strict=True))
    assert all(tail**2 >= TAIL**2 * variance for tail, variance in zip(noise.tails, noise.variances, strict=True))
    wide = drawn[3:].astype(float) / math.sqrt(noise.shares[1])
    assert 0.85 < wide.std() < 1.15


def test_the_textbook_formula_only_where_it_is_proven():
    with pytest.raises(vs.CapabilityError) as error:
        vs.Gaussian(epsilon=1.0, delta=1e-6, calibration="textbook")
    assert error.value.code == "textbook_epsilon"
    noise = calibrate(vs.Gaussian(0.5, 1e-6, calibration="textbook"), [COUNT], 2)
    assert math.sqrt(2 * noise.shares[0]) == pytest.approx(textbook_sigma(0.5, 1e-6), rel=2e-3)


@pytest.mark.parametrize(
    ("epsilon", "delta", "options"),
    [
        (0, 1e-6, {}),
        (-1, 1e-6, {}),
        (51, 1e-6, {}),
        (float("nan"), 1e-6, {}),
        (1, 0, {}),
        (1, 1, {}),
        (1, 2, {}),
        ("1", 1e-6, {}),
        (True, 1e-6, {}),
        (1, 1e-6, {"privacy_unit": "person"}),
        (1, 1e-6, {"calibration": "best"}),
    ],
)
def test_a_bad_promise_is_refused(epsilon, delta, options):
    with pytest.raises(vs.SchemaError) as error:
        vs.Gaussian(epsilon, delta, **options)
    assert error.value.code == "bad_privacy"


def planned(query, **options):
    schema = vs.Schema(vs.Integer("age", lower=0, upper=120), vs.Continuous("bmi", lower=10, upper=70, step=0.1), max_rows=4096)
    frame = pd.DataFrame({"age": [1.0], "bmi": [20.0]})
    return vs.simulate(dict.fromkeys("abcd", frame), schema).plan(query, **options)


@pytest.mark.parametrize(
    ("query", "margin", "rows"),
    [(vs.Count(), 20, None), (vs.Sum(["age", "bmi"]), 1500, None), (vs.Mean("age"), 0.5, 5000)],
    ids=["count", "sum", "mean"],
)
@pytest.mark.parametrize("options", [{}, {"neighbours": "replace_one"}], ids=["added", "replaced"])
def test_for_error_finds_the_least_epsilon(query, margin, rows, options):
    plan = planned(query)
    promise = vs.Gaussian.for_error(plan, margin, 1e-6, rows=rows, **options)
    reached = plan.with_privacy(promise).privacy.margin(rows)
    assert 0.99 * margin <= reached <= margin or (options and query.name == "count")
    if reached > 0.99 * margin:
        assert plan.with_privacy(vs.Gaussian(promise.epsilon * 0.98, 1e-6, **options)).privacy.margin(rows) > margin
    again = vs.Gaussian.for_error(planned(query, privacy=vs.Gaussian(1.0, 1e-6)), margin, 1e-6, rows=rows, **options)
    assert again == promise


def test_the_expected_margin_is_that_of_the_noise():
    """A count of sensitivity 1 whose noise is calibrated for two of four owners: sqrt(2) times the accountant's sigma."""
    privacy = planned(vs.Count(), privacy=vs.Gaussian(1.0, 1e-6)).privacy
    assert privacy.margin() == pytest.approx(1.959964 * 4.2316 * math.sqrt(2), rel=2e-3)


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        (lambda: vs.Gaussian.for_error(vs.Count(), 10, 1e-6), "bad_query"),
        (lambda: vs.Gaussian.for_error(planned(vs.Count()), 0, 1e-6), "bad_privacy"),
        (lambda: vs.Gaussian.for_error(planned(vs.Count()), math.nan, 1e-6), "bad_privacy"),
        (lambda: vs.Gaussian.for_error(planned(vs.Count()), 10, 2.0), "bad_privacy"),
        (lambda: vs.Gaussian.for_error(planned(vs.Mean("age")), 1, 1e-6), "needs_rows"),
        (lambda: vs.Gaussian.for_error(planned(vs.Mean("age")), 1, 1e-6, rows=0), "bad_privacy"),
        (lambda: vs.Gaussian.for_error(planned(vs.Count()), 0.1, 1e-6), "margin_too_small"),
        (lambda: vs.Gaussian.for_error(planned(vs.LinearRegression("age ~ bmi")), 1, 1e-6), "no_margin"),
    ],
)
def test_margins_that_cannot_be_planned_are_refused(ask, code):
    with pytest.raises(vs.VeilstatError) as error:
        ask()
    assert error.value.code == code
