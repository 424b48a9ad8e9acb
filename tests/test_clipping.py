"""Clipping: rows are clipped as integers before they count, the bounds are part of the query, and no interval pretends otherwise."""

import random

import numpy as np
import pandas as pd
import pytest

import veilstat as vs
from veilstat.language.evaluate import evaluate
from veilstat.platform.query import decode_query, encode_query
from veilstat.platform.table import Table
from veilstat.statistics.registry import registry
from veilstat.testing.releases import releases

SCHEMA = vs.Schema(
    vs.Integer("age", lower=0, upper=120),
    vs.Continuous("bmi", lower=10, upper=70, step=0.1),
    vs.Categorical("sex", levels=["female", "male"]),
    max_rows=4096,
)
PROMISE = vs.Gaussian(epsilon=2.0, delta=1e-6)


@pytest.fixture(scope="module")
def tables():
    source = np.random.default_rng(5)
    return {
        name: pd.DataFrame(
            {
                "age": np.where(source.random(700) < 0.05, np.nan, source.integers(0, 121, 700)),
                "bmi": source.normal(27, 9, 700).clip(10, 70).round(1),
                "sex": source.choice(["female", "male"], 700),
            }
        )
        for name in ("east", "north", "west")
    }


@pytest.fixture(scope="module")
def study(tables):
    return vs.simulate(tables, SCHEMA)


def totals(plan, frame):
    chosen = plan.steps[0].cut
    rows = Table("one", frame, SCHEMA).rows(chosen.columns())
    return chosen.flatten(evaluate(chosen.circuit, tuple(o.node for o in chosen.openings), rows=rows, inputs={}, known={}))


def test_rows_are_clipped_one_by_one_as_integers(study, tables):
    """Against Python's own integers: (missing, n), the centred sum and the centred squares of clipped codes."""
    low, high = 18, 90
    found = totals(study.plan(vs.Mean("age", clip=(low, high)), privacy=PROMISE), tables["east"])
    present = [int(value) for value in tables["east"]["age"].dropna()]
    centred = [2 * min(max(value, low), high) - (low + high) for value in present]
    middle = (high - low) ** 2 // 2
    assert list(found) == [700 - len(present), len(present), sum(centred), sum(value**2 - middle for value in centred)]


@pytest.mark.parametrize(
    "query",
    [
        vs.Sum("bmi", clip=(20, 30.5)),
        vs.Variance(["age", "bmi"], clip={"bmi": (20, 30.5)}),
        vs.Covariance(["age", "bmi"], clip={"bmi": (20, 30.5)}),
        vs.MeanBy("bmi", "sex", clip=(20, 30.5)),
        vs.LinearRegression("age ~ bmi + C(sex)", clip={"bmi": (20, 30.5)}),
    ],
    ids=lambda query: query.name,
)
def test_beyond_the_bounds_all_values_are_one(study, tables, query):
    """An outlier adds what the bound adds, to the last bit; within the bounds a step is seen."""
    plan, frame = study.plan(query, privacy=PROMISE), tables["east"].head(5).copy()
    seen = []
    for value in (70.0, 30.6, 30.5, 30.4):
        frame.loc[0, "bmi"] = value
        seen.append(list(totals(plan, frame)))
    assert seen[0] == seen[1] == seen[2] != seen[3]


def test_a_narrower_clip_needs_less_noise_and_is_part_of_plan_and_digest(study):
    plans = [study.plan(vs.Sum("age", clip=clip), privacy=PROMISE) for clip in (None, (0, 120), (18, 90), (18, 91))]
    sums = [sorted(plan.privacy.margins.values())[-1] for plan in plans]
    assert sums[2] < sums[3] < sums[0] == sums[1]
    assert sums[2] == pytest.approx(sums[0] * 72 / 120, rel=2e-3)
    assert len({plan.digest for plan in plans}) == 4
    assert "18, 90" in str(plans[2])


def test_where_rows_may_have_been_clipped_there_is_no_interval(study, tables):
    for query in (
        vs.Sum("age", clip=(18, 90)),
        vs.Mean("age", clip=(18, 90)),
        vs.Variance("age", clip=(18, 90)),
        vs.Covariance(["age", "bmi"], clip={"age": (18, 90)}),
        vs.LinearRegression("bmi ~ age", clip={"age": (18, 90)}),
        vs.LinearRegression("bmi ~ age", clip={"age": (18, 90)}, method="gradient_descent", iterations=2),
    ):
        (result,) = releases(study.plan(query, privacy=PROMISE), tables, random.Random(1).randbytes)
        assert result.conf_int() is None
        assert "clipped" in result.reason
    (unclipped,) = releases(study.plan(vs.Sum("age", clip=(0, 120)), privacy=PROMISE), tables, random.Random(1).randbytes)
    assert unclipped.conf_int() is not None
    assert unclipped.reason is None


def test_a_clipped_answer_is_that_of_clipped_rows(study, tables):
    pooled = pd.concat(tables.values())
    promise = vs.Gaussian(50, 0.5)
    (result,) = releases(study.plan(vs.Mean("age", clip=(30, 50)), privacy=promise), tables, random.Random(1).randbytes)
    assert result.estimate == pytest.approx(pooled["age"].clip(30, 50).mean(), abs=0.05)


@pytest.mark.parametrize(
    "query", [vs.Mean("age", clip=(18, 90)), vs.LinearRegression("bmi ~ age", clip={"bmi": (15, 40.5), "age": (1, 2)})]
)
def test_bounds_travel_with_the_query(query):
    assert decode_query(encode_query(query), registry()) == (query, None)


@pytest.mark.parametrize(
    ("clip", "code"),
    [
        ((18.5, 90), "bad_clip"),
        ((90, 18), "bad_clip"),
        ((18, 18), "bad_clip"),
        ((-1, 90), "bad_clip"),
        ((0, 121), "bad_clip"),
        ((18, float("nan")), "not_a_number"),
        ((18, float("inf")), "not_a_number"),
        ((18, True), "bad_clip"),
        ((18,), "bad_clip"),
        (18, "bad_clip"),
        ("18-90", "bad_clip"),
        ({}, "bad_clip"),
        ({"age": 18}, "bad_clip"),
        ({"bmi": (20, 30)}, "bad_clip"),
        ({"weight": (20, 30)}, "bad_clip"),
        ({1: (20, 30)}, "bad_clip"),
    ],
)
def test_bad_bounds_are_refused(study, clip, code):
    with pytest.raises(vs.SchemaError) as error:
        study.mean("age", clip=clip, privacy=PROMISE)
    assert error.value.code == code


def test_levels_are_not_clipped_and_exact_answers_neither(study):
    with pytest.raises(vs.SchemaError, match="categorical"):
        study.linear_regression("bmi ~ C(sex)", clip={"sex": (0, 1)}, privacy=PROMISE)
    for ask in (
        lambda: study.mean("age", clip=(18, 90)),
        lambda: study.covariance(["age", "bmi"], clip={"age": (18, 90)}),
        lambda: study.groupby("sex").mean("age", clip=(18, 90)),
        lambda: study.linear_regression("bmi ~ age", clip={"age": (18, 90)}),
    ):
        with pytest.raises(vs.CapabilityError) as error:
            ask()
        assert error.value.code == "clip_without_privacy"
