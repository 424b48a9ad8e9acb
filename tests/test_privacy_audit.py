"""A statistical audit: from many draws on neighbouring tables, a lower bound on epsilon that must not exceed the promise.

The same audit is turned on mechanisms that are broken on purpose, which it must catch.
"""

import math
import random
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import veilstat as vs
from veilstat.dp.discrete_gaussian import discrete_gaussian
from veilstat.language.evaluate import evaluate
from veilstat.platform.table import Table

SCHEMA = vs.Schema(vs.Integer("age", lower=0, upper=120), vs.Categorical("sex", levels=["female", "male"]), max_rows=64)
TABLE = pd.DataFrame({"age": [20.0, 40.0, 120.0], "sex": ["female", "male", "male"]})
STUDY = vs.simulate(dict.fromkeys(("east", "north", "south", "west"), TABLE), SCHEMA)
PROMISE = vs.Gaussian(epsilon=0.5, delta=1e-2)  # a delta so large that half a million draws tell small differences
DRAWS = 1_000_000
ERROR = 1e-9


def totals(cut, frame):
    rows = Table("one", frame, SCHEMA).rows(cut.columns())
    return cut.flatten(evaluate(cut.circuit, tuple(o.node for o in cut.openings), rows=rows, inputs={}, known={})).astype(float)


def neighbours(query):
    """The noise of a plan, and how far the last row moves what it opens."""
    step = STUDY.plan(query, privacy=PROMISE).steps[0]
    return step.noise, totals(step.cut, TABLE) - totals(step.cut, TABLE[:2])


def noise_of(size, share, source):
    return discrete_gaussian(share, size * DRAWS, source.randbytes).astype(float).reshape(DRAWS, size)


def audited_epsilon(noise, shift, honest, seed):
    """A lower bound that all but surely holds: the threshold is chosen on one half of the draws and judged on the other."""
    source, start = random.Random(seed), 0
    absent, moved = np.zeros(DRAWS), 0.0
    for block, share in zip(noise.blocks, noise.shares, strict=True):
        part = shift[start : start + block.size]
        direction = part / float(share)
        for _ in range(honest):
            absent += noise_of(block.size, share, source) @ direction
        moved += part @ direction
        start += block.size
    present, half = absent + moved, DRAWS // 2
    bound = 0.0
    for seen, other in ((present, absent), (-absent, -present)):
        choices = np.quantile(seen[:half], 1 - np.linspace(0.015, 0.9, 60))
        threshold = max(choices, key=lambda limit: lower(np.sum(seen[:half] > limit), np.sum(other[:half] > limit), half))
        bound = max(bound, lower(np.sum(seen[half:] > threshold), np.sum(other[half:] > threshold), half))
    return bound


def lower(hits, false_hits, count):
    """Clopper and Pearson on both rates: epsilon is at least log((p - delta) / q)."""
    p = stats.beta.ppf(ERROR / 2, hits, count - hits + 1) if hits else 0.0
    q = stats.beta.ppf(1 - ERROR / 2, false_hits + 1, count - false_hits)
    return math.log((p - PROMISE.delta) / q) if p > PROMISE.delta else 0.0


QUERIES = [
    vs.Count(),
    vs.Sum("age"),
    vs.Mean("age"),
    vs.Variance("age"),
    vs.MeanBy("age", "sex"),
    vs.LinearRegression("age ~ C(sex)"),
    vs.Histogram("age", bins=4),
]


@pytest.mark.long
@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_no_attack_exceeds_the_promise(query):
    noise, shift = neighbours(query)
    found = audited_epsilon(noise, shift, noise.honest, 1)
    assert 0.2 < found <= PROMISE.epsilon


def half_of_the_noise(noise, shift):
    return replace(noise, shares=tuple(share / 4 for share in noise.shares)), shift, noise.honest


def doubled_sensitivity(noise, shift):
    return noise, 2 * shift, noise.honest


def a_share_that_a_colluder_knows(noise, shift):
    return noise, shift, noise.honest - 1


@pytest.mark.long
@pytest.mark.parametrize("break_it", [half_of_the_noise, doubled_sensitivity, a_share_that_a_colluder_knows])
@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_broken_mechanisms_are_caught(query, break_it):
    noise, shift, honest = break_it(*neighbours(query))
    assert audited_epsilon(noise, shift, honest, 2) > PROMISE.epsilon
