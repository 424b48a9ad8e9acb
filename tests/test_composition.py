"""Privacy losses of several numbers together: against their definition, the accountant, and continuous noise where that is the limit."""

import math
from fractions import Fraction

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution

from veilstat.dp.calibration import analytic_delta, tail_delta, zcdp_delta, zcdp_rho
from veilstat.dp.composition import Moved, composed_delta
from veilstat.dp.ledger import Ledger
from veilstat.dp.mechanism import Gaussian, calibrate, calibrate_openings
from veilstat.dp.sensitivity import Block
from veilstat.errors import BudgetExhausted


def weights(variance):
    x = np.arange(-math.ceil(15 * math.sqrt(variance)), math.ceil(15 * math.sqrt(variance)) + 1, dtype=float)
    mass = np.exp(-x * x / (2 * variance))
    return x, mass / mass.sum()


def by_definition(first, second, epsilon):
    """The hockey stick between two numbers and the same two moved, summed over all pairs of values."""
    (x, p), (y, q) = weights(first.variance), weights(second.variance)
    losses = np.add.outer(
        (2 * x * first.distance + first.distance**2) / (2 * first.variance),
        (2 * y * second.distance + second.distance**2) / (2 * second.variance),
    )
    return float((np.multiply.outer(p, q) * -np.expm1(np.minimum(epsilon - losses, 0))).sum())


PAIRS = [
    (Moved(1, 20.0), Moved(1, 20.0), 1.0),
    (Moved(1, 9.5), Moved(3, 120.0), 0.7),
    (Moved(2, 4.0), Moved(1, 4.0), 5.0),
    (Moved(1, 400.0), Moved(7, 30000.0), 0.2),
    (Moved(1, 5.0), Moved(1, 90.0), 2.0),
]


@pytest.mark.parametrize(("first", "second", "epsilon"), PAIRS)
def test_the_bound_is_above_the_definition_and_close_to_it(first, second, epsilon):
    exact, nearly = by_definition(first, second, epsilon), by_definition(first, second, 0.998 * epsilon)
    assert exact <= composed_delta([first, second], epsilon) <= nearly * (1 + 1e-4)


@pytest.mark.parametrize("variance", [4, 20, 333, 10**4])
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 4.0])
def test_one_number_has_its_exact_tail(variance, epsilon):
    exact = tail_delta(Fraction(variance), epsilon)
    if exact > 1e-18:
        assert (
            exact * (1 - 1e-8)
            <= composed_delta([Moved(1, float(variance))], epsilon)
            <= tail_delta(Fraction(variance), 0.998 * epsilon) * 1.001
        )


def test_the_accountant_agrees():
    numbers = [Moved(1, 71.0), Moved(1, 80.0), Moved(60, 71 * 3600.0)]
    oracle = None
    for number in numbers:
        one = privacy_loss_distribution.from_discrete_gaussian_mechanism(
            math.sqrt(number.variance), sensitivity=number.distance, value_discretization_interval=1e-4
        )
        oracle = one if oracle is None else oracle.compose(one)
    assert composed_delta(numbers, 1.0) == pytest.approx(oracle.get_delta_for_epsilon(1.0), rel=0.02)


@pytest.mark.parametrize("distance", [10**3, 10**6, 10**12])
def test_wide_noise_is_all_but_continuous(distance):
    """Runs of integers in place of each one; thirty more bits of lattice change nothing."""
    numbers = [Moved(distance, 71.5 * distance**2), Moved(3 * distance, 71.5 * 9 * distance**2)]
    exact = analytic_delta(math.sqrt(71.5 / 2), 1.0)
    assert exact * (1 - 1e-5) < composed_delta(numbers, 1.0) < analytic_delta(math.sqrt(71.5 / 2), 0.998)


@pytest.mark.parametrize("delta", [1e-3, 1e-6, 1e-12, 1e-18])
def test_small_deltas_are_not_lost_in_rounding(delta):
    """Fourier transforms are exact to 1e-16 of the largest weight only; weights are tilted, so that this is enough."""
    rho = float(zcdp_rho(1.0, delta))
    numbers = [Moved(1000, 1e6 / rho)] * 2
    assert composed_delta(numbers, 1.0) == pytest.approx(analytic_delta(math.sqrt(1 / (2 * rho)), 1.0), rel=0.05)


def test_what_moves_further_gives_more_away():
    found = [composed_delta([Moved(distance, 200.0), Moved(1, 30.0)], 1.0) for distance in range(1, 6)]
    assert found == sorted(found)


def test_where_epsilon_is_far_below_the_losses_the_bound_stays_close():
    """Here delta is all but the total variation distance."""
    exact = by_definition(Moved(1, 20.0), Moved(1, 20.0), 1e-9)
    assert exact <= composed_delta([Moved(1, 20.0)] * 2, 1e-9) <= 1.002 * exact


@pytest.mark.parametrize("honest", [1, 2, 5])
@pytest.mark.parametrize(
    "blocks",
    [[Block(1, 1), Block(1, 1)], [Block(1, 1), Block(7, 1)], [Block(1, 1), Block(1, 1), Block(1, 3600), Block(1, 3600**2)]],
    ids=["counts", "histogram", "mean"],
)
def test_calibration_takes_what_losses_together_allow(blocks, honest):
    noise = calibrate(Gaussian(1.0, 1e-6), blocks, honest)
    moved = [
        Moved(math.isqrt(block.squared_sensitivity), float(honest * share)) for block, share in zip(noise.blocks, noise.shares, strict=True)
    ]
    assert composed_delta(moved, 1.0) <= 1e-6
    assert composed_delta([Moved(one.distance, 0.99 * one.variance) for one in moved], 1.0) > 1e-6
    assert zcdp_delta(float(noise.rho), 1.0) > 1e-6
    assert "privacy losses of all numbers" in noise.mechanism


def test_a_block_in_which_a_row_moves_several_numbers_is_calibrated_by_zcdp():
    """The loss of such a vector depends on the direction in which it is moved."""
    noise = calibrate(Gaussian(1.0, 1e-6), [Block(1, 1), Block(4, 2)], 2)
    assert "zCDP" in noise.mechanism
    assert zcdp_delta(float(noise.rho), 1.0) <= 1e-6


def test_the_first_release_may_take_a_whole_budget_and_nothing_more():
    noise = calibrate(Gaussian(1.0, 1e-6), [Block(1, 1), Block(1, 1)], 2)
    for promise in ((1.0, 1e-6), (1.5, 1e-5)):
        ledger = Ledger(promise)
        ledger.spend(noise.rho, noise.promise, b"first")
        assert ledger.budget.left == max(0, ledger._limit - noise.rho)
        assert ledger.budget.releases == 1
    whole = Ledger((1.0, 1e-6))
    whole.spend(noise.rho, noise.promise, b"first")
    with pytest.raises(BudgetExhausted):
        whole.spend(Fraction(1, 10**9), (1e-4, 1e-6), b"second")
    for promise in ((0.999, 1e-6), (1.0, 0.99e-6)):
        with pytest.raises(BudgetExhausted):
            Ledger(promise).spend(noise.rho, noise.promise, b"first")
    begun = Ledger((1.0, 1e-6))
    begun.spend(Fraction(1, 10**9), (1e-4, 1e-6), b"first")
    with pytest.raises(BudgetExhausted):
        begun.spend(noise.rho, noise.promise, b"second")


def test_repeated_and_unmoved_numbers_count_as_often_as_they_are():
    two = Moved(1, 40.0)
    assert composed_delta([two] * 5, 1.0) == pytest.approx(composed_delta([two] * 4 + [Moved(1, 40.0 + 1e-9)], 1.0), rel=1e-2)
    assert composed_delta([two, two, Moved(0, 4.0)], 1.0) == pytest.approx(composed_delta([two, two], 1.0), rel=1e-4)
    assert composed_delta([Moved(0, 4.0)], 1.0) == 0.0


def test_openings_that_may_depend_on_each_other_are_calibrated_by_zcdp():
    blocks = [Block(1, 1)] * 6
    together, apart = calibrate(Gaussian(1.0, 1e-6), blocks, 2), calibrate_openings(Gaussian(1.0, 1e-6), blocks, 2)
    assert zcdp_delta(float(apart.rho), 1.0) <= 1e-6
    assert max(together.shares) < min(apart.shares)
