"""The sampler against the definition of its distribution, and the integers that decide."""

import math
import random
import secrets
import sys
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from veilstat.dp import discrete_gaussian as module
from veilstat.dp.discrete_gaussian import discrete_gaussian, rounded_variance


def probabilities(variance, reach):
    x = np.arange(-reach, reach + 1)
    weights = np.exp(-(x.astype(float) ** 2) / (2 * float(variance)))
    return x, weights / weights.sum()


def fit(draws, variance):
    """p-value of a chi-squared test, with cells of at least ten expected draws."""
    x, p = probabilities(variance, math.ceil(12 * math.sqrt(variance)) + 2)
    width = max(1, math.isqrt(math.ceil(variance)) // 4)
    cells = x // width
    expected, observed = {}, {}
    for cell, mass in zip(cells, p, strict=True):
        expected[cell] = expected.get(cell, 0) + mass * len(draws)
    for draw in draws:
        observed[draw // width] = observed.get(draw // width, 0) + 1
    kept = [cell for cell, count in expected.items() if count >= 10]
    rest = len(draws) - sum(observed.get(cell, 0) for cell in kept)
    seen = [*(observed.get(cell, 0) for cell in kept), rest]
    due = [*(expected[cell] for cell in kept), len(draws) - sum(expected[cell] for cell in kept)]
    if due[-1] < 1e-3:
        assert rest == 0
        seen, due = seen[:-1], due[:-1]
    return stats.chisquare(seen, np.array(due) * sum(seen) / sum(due)).pvalue


@pytest.mark.parametrize(
    "variance", [Fraction(1, 10), Fraction(1), Fraction(7, 3), Fraction(4), Fraction(81, 4), Fraction(12345, 67), Fraction(10**6)]
)
def test_draws_follow_the_definition(variance):
    draws = discrete_gaussian(variance, 100_000, random.Random(str(variance)).randbytes)
    assert fit(draws, variance) > 1e-4


@pytest.mark.parametrize("variance", [Fraction(4), Fraction(81, 4)])
def test_the_test_of_fit_sees_five_percent_of_variance(variance):
    draws = discrete_gaussian(variance * Fraction(105, 100), 100_000, random.Random(1).randbytes)
    assert fit(draws, variance) < 1e-4


@pytest.mark.parametrize("variance", [Fraction(10**13), rounded_variance(Fraction(10**13)), Fraction(10**40) / 7])
def test_wide_noise_is_normal_to_any_sample(variance):
    draws = discrete_gaussian(variance, 20_000, random.Random(2).randbytes)
    assert all(type(draw) is int for draw in draws)
    scaled = np.array([float(draw / math.isqrt(math.floor(variance))) for draw in draws])
    assert stats.kstest(scaled, "norm").pvalue > 1e-4
    assert len({draw % 8 for draw in draws}) == 8


def test_draws_do_not_depend_on_each_other():
    draws = discrete_gaussian(Fraction(100), 100_000, random.Random(3).randbytes).astype(float)
    for lag in (1, 2, 3):
        assert abs(np.corrcoef(draws[:-lag], draws[lag:])[0, 1]) < 4 / math.sqrt(len(draws))


def test_no_float_is_ever_held():
    """Every local variable of every function of the sampler is looked at, in all batches and both widths."""
    seen = set()

    def watch(frame, event, argument):
        if frame.f_code.co_filename != module.__file__:
            return None
        for name, value in frame.f_locals.items():
            seen.add(name)
            kind = value.dtype.kind if isinstance(value, np.ndarray) else None
            assert not isinstance(value, (float, np.floating)), name
            assert kind not in ("f", "c"), name
        return watch

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        for variance in (Fraction(7, 3), Fraction(10**6), Fraction(10**40)):
            discrete_gaussian(rounded_variance(variance), 50, random.Random(4).randbytes)
    finally:
        sys.settrace(before)
    assert {"distance", "rest", "drawn", "unit"} <= seen


@pytest.mark.parametrize("exponent", range(-8, 90, 7))
def test_rounded_variances_are_at_most_a_little_larger(exponent):
    source = random.Random(exponent)
    for _ in range(50):
        variance = Fraction(2) ** exponent * Fraction(source.randrange(1 << 20, 1 << 21), 1 << 20)
        assert variance <= rounded_variance(variance) <= variance * Fraction(1002, 1000)


def test_every_source_byte_counts():
    """Two sources give unrelated draws, the same one gives the same: randomness comes from where it is said to."""
    first, again, other = (discrete_gaussian(Fraction(10**6), 20, random.Random(seed).randbytes).tolist() for seed in (5, 5, 6))
    assert first == again != other
    assert discrete_gaussian(Fraction(10**6), 20, secrets.token_bytes).tolist() != first


@pytest.mark.parametrize("variance", [Fraction(0), Fraction(-1)])
def test_no_noise_is_no_mechanism(variance):
    with pytest.raises(ValueError, match="positive"):
        discrete_gaussian(variance, 1, secrets.token_bytes)


def test_nothing_is_drawn_where_nothing_is_opened():
    assert discrete_gaussian(Fraction(4), 0, secrets.token_bytes).tolist() == []
