"""The sampler against the definition of its distribution, and the integers that decide."""

import math
import random
import secrets
import sys
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from veilstat.dp import decay
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
    "variance",
    [
        Fraction(1, 10),
        Fraction(1),
        Fraction(7, 3),
        Fraction(4),
        Fraction(81, 4),
        Fraction(12345, 67),
        Fraction(255),
        Fraction(256),
        Fraction(1025),
        Fraction(10**6),
    ],
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


def test_no_float_is_ever_held(monkeypatch):
    """Every local variable of every function of the sampler is looked at, with tables that are made anew, in all widths."""
    seen, files = set(), {module.__file__, decay.__file__}
    module._steps.cache_clear()
    module._decay_tables.cache_clear()
    monkeypatch.setattr(module, "_TABLE_SIZE", 4)  # coarse, so that some draws are decided closely

    def watch(frame, event, argument):
        if frame.f_code.co_filename not in files:
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
        module._decay_tables.cache_clear()
    assert {"words", "coin", "doubtful", "ratio", "prefix", "unit"} <= seen


@pytest.mark.parametrize("variance", [Fraction(1000), Fraction(10**9), Fraction(10**30)])
@pytest.mark.parametrize("fine_bits", [16, 3])
def test_tables_only_save_time(monkeypatch, variance, fine_bits):
    """With bounds that say nothing every proposal is decided by the exact exponent: the same draws come from the same bits."""
    monkeypatch.setattr(module, "_FINE_BITS", fine_bits)
    by_tables = discrete_gaussian(variance, 3000, random.Random(8).randbytes).tolist()
    nothing, all_of_it = np.zeros(2, dtype=np.int64), np.full(2, 1 << 32, dtype=np.int64)
    monkeypatch.setattr(module, "_decay_tables", lambda: (nothing, all_of_it))
    assert discrete_gaussian(variance, 3000, random.Random(8).randbytes).tolist() == by_tables


def oracle_edges(variance, width_bits, bits):
    """2^bits P[step <= k] to 60 digits, from the definition."""
    with localcontext() as context:
        context.prec = 100
        width = 2**width_bits
        weights = [(Decimal(-((step * width) ** 2) * variance.denominator) / Decimal(2 * variance.numerator)).exp() for step in range(700)]
        if width == 1:
            weights[0] /= 2
        total, running, edges = sum(weights), Decimal(0), []
        for weight in weights:
            running += weight
            edges.append(running / total * 2**bits)
    return edges


@pytest.mark.parametrize("variance", [Fraction(1, 50), Fraction(1, 2), Fraction(4), Fraction(255), Fraction(256), Fraction(10**8 + 1, 3)])
@pytest.mark.parametrize("bits", [63, 127])
def test_edges_of_steps_are_those_of_the_definition(variance, bits):
    steps = module._Steps(variance, module._steps(variance).width_bits)
    due = [min(int(edge), 2**bits - 1) for edge in oracle_edges(variance, steps.width_bits, bits)]
    found = steps.edges_at(bits)
    assert found == due[: len(found)]
    assert found[-1] == 2**bits - 1


def test_a_word_that_equals_an_edge_is_decided_by_further_bits():
    variance = Fraction(4)
    steps = module._steps(variance)
    for step in (0, 3):
        edge = oracle_edges(variance, 0, 63)[step]
        source = random.Random(step)
        words = np.array([int(edge)] * 3000, dtype=np.uint64)
        chosen = module._chosen(steps, words, source.randbytes)
        assert set(chosen.tolist()) == {step, step + 1}
        assert abs((chosen == step).mean() - float(edge - int(edge))) < 0.04


@pytest.mark.parametrize("variance", [Fraction(1), Fraction(256), Fraction(10**16)])
def test_what_keystreams_decide_is_uniform(variance):
    """Low bits, signs and steps: none is tied to another."""
    draws = [draw for draw in discrete_gaussian(variance * 9, 60_000, random.Random(9).randbytes) if draw]
    signs, parity = np.array([draw > 0 for draw in draws]), np.array([draw % 2 == 0 for draw in draws])
    away = np.array([abs(draw) > math.isqrt(int(variance * 9)) for draw in draws])
    for one, other in ((signs, parity), (signs, away)):
        assert stats.chi2_contingency(np.histogram2d(one, other, bins=2)[0]).pvalue > 1e-4


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
