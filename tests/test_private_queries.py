"""Queries with noise, end to end under masking: what is opened, what is promised, and errors that cover."""

import json
import math
import random
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import veilstat as vs
from tests.patients import patients_schema
from veilstat.dp.calibration import analytic_delta
from veilstat.platform import simulation
from veilstat.platform.query import decode_query, encode_query
from veilstat.statistics.private_moments import NoisyMoments
from veilstat.statistics.registry import registry

SCHEMA = patients_schema(max_rows=4096)
PROMISE = vs.Gaussian(epsilon=1.0, delta=1e-6)


def tables(count=4, rows=1500, seed=1):
    source = np.random.default_rng(seed)
    found = {}
    for place in range(count):
        frame = pd.DataFrame(
            {
                "age": source.integers(18, 95, rows).astype(float),
                "bmi": source.normal(27, 4, rows).clip(15, 50).round(1),
                "sex": source.choice(["female", "male"], rows),
                "smoker": source.integers(0, 2, rows),
            }
        )
        frame.loc[: rows // 10 - 1, "age"] = np.nan
        found[f"owner{place}"] = frame
    return found


@pytest.fixture(scope="module")
def data():
    return tables()


@pytest.fixture
def study(data, monkeypatch):
    monkeypatch.setattr(simulation.secrets, "token_bytes", random.Random(7).randbytes)
    return vs.simulate(data, SCHEMA)


def covers(interval, truth):
    low, high = interval
    return low <= truth <= high


@pytest.mark.parametrize(("count", "within"), [(75, 0.25), pytest.param(150, 0.18, marks=pytest.mark.long)])
def test_a_count_carries_noise_of_the_stated_size(study, count, within):
    errors = np.array([study.count(privacy=PROMISE).estimate - 6000 for _ in range(count)])
    spread = study.count(privacy=PROMISE).std_error
    assert spread == pytest.approx(4.2316 * math.sqrt(2), rel=2e-3)  # four survive where two honest ones must be enough
    assert abs(errors.std() / spread - 1) < within
    assert abs(errors.mean()) < 4 * spread / math.sqrt(len(errors))


@pytest.mark.parametrize(("count", "fewest"), [(50, 43), pytest.param(100, 88, marks=pytest.mark.long)])
def test_intervals_cover_as_often_as_they_say(study, data, count, fewest):
    pooled = pd.concat(data.values())
    hits = {"count": 0, "sum": 0}
    for _ in range(count):
        hits["count"] += covers(study.count("age", privacy=PROMISE).conf_int(), pooled["age"].notna().sum())
        hits["sum"] += covers(study.sum("bmi", privacy=PROMISE).conf_int(), pooled["bmi"].sum())
    assert min(hits.values()) >= fewest


def test_a_mean_and_its_interval_hold_noise_and_sampling(study, data):
    pooled = pd.concat(data.values())
    result = study.mean(["age", "bmi"], privacy=PROMISE)
    exact = study.mean(["age", "bmi"])
    for name in ("age", "bmi"):
        assert abs(result.estimate[name] - pooled[name].mean()) < 6 * result.std_error[name]
        assert result.std_error[name] > exact.std_error[name]
    assert result.reason is None
    assert result.conf_int().loc["age", "lower"] < result.estimate["age"] < result.conf_int().loc["age", "upper"]
    assert result.n["age"] != exact.n["age"] or result.n["bmi"] != exact.n["bmi"]


def test_where_noise_hides_the_error_there_is_no_interval(study):
    result = study.mean("age", privacy=vs.Gaussian(0.003, 1e-6))
    assert result.std_error is None
    assert result.conf_int() is None
    assert "noise" in result.reason
    assert "no interval" in str(result)


def test_tables_have_noise_in_every_cell(study, data):
    pooled = pd.concat(data.values())
    histogram = study.histogram("age", bins=[0, 30, 60, 120], privacy=PROMISE)
    truth = np.histogram(pooled["age"].dropna(), bins=[0, 30, 60, 120])[0]
    assert (abs(histogram.estimate.to_numpy() - truth) < 6 * histogram.std_error.to_numpy()).all()
    assert (histogram.estimate.to_numpy() != truth).any()
    crosstab = study.crosstab("sex", "smoker", privacy=PROMISE)
    low, high = crosstab.conf_int()
    exact = pd.crosstab(pooled["sex"], pooled["smoker"]).to_numpy()
    assert (low.to_numpy() - 20 < exact).all()
    assert (exact < high.to_numpy() + 20).all()
    assert "differentially private" in str(crosstab)


def test_the_plan_says_what_is_promised_before_anything_is_opened(study):
    plan = study.plan(vs.Mean("age"), privacy=PROMISE)
    privacy = plan.privacy
    assert (privacy.epsilon, privacy.delta, privacy.unit) == (1.0, 1e-6, "row")
    assert privacy.sigma == pytest.approx(4.23, abs=0.01)
    text = str(plan)
    assert "differential privacy" in text
    assert "no differential privacy" not in text
    assert "noise within" in text
    assert "2 honest ones" in text
    assert plan.digest != study.plan(vs.Mean("age")).digest
    assert plan.digest != study.plan(vs.Mean("age"), privacy=vs.Gaussian(1.0, 1e-7)).digest
    assert study.run(vs.Mean("age"), privacy=PROMISE).privacy == privacy


def test_a_promise_travels_exactly():
    for promise in (
        None,
        PROMISE,
        vs.Gaussian(0.1 + 0.2, 1e-300, privacy_unit="owner"),
        vs.Gaussian(0.5, 1e-5, calibration="textbook", neighbours="replace_one"),
    ):
        assert decode_query(encode_query(vs.Mean("age"), promise), registry()) == (vs.Mean("age"), promise)
    exact = json.loads(encode_query(vs.Mean("age")))
    for privacy in (1, {"epsilon": 1}, {"epsilon": 1, "delta": 0.1, "x": 1}):
        with pytest.raises(vs.SchemaError):
            decode_query(json.dumps(exact | {"privacy": privacy}).encode(), registry())


@pytest.mark.parametrize("owners", [3, 4, 6])
@pytest.mark.parametrize("colluding", [0, 1, 2])
@pytest.mark.parametrize("min_owners", [None, 5])
def test_what_is_left_without_the_colluders_noise_is_enough(owners, colluding, min_owners):
    """For every (n, c, m): the fewest survivors, less the colluders, hold at least the target's variance."""
    if max(colluding + 2, min_owners or 0) > owners:
        pytest.skip("this configuration cannot hold")
    architecture = vs.Masking(colluding=colluding, min_owners=min_owners)
    plan = vs.simulate(tables(owners, 10), SCHEMA, architecture).plan(vs.Mean(["age", "bmi"]), privacy=PROMISE)
    noise, fewest = plan.steps[0].noise, max(colluding + 2, min_owners or 0)
    moved = sum(block.squared_sensitivity / (share * (fewest - colluding)) for block, share in zip(noise.blocks, noise.shares, strict=True))
    assert analytic_delta(1 / math.sqrt(moved), 1.0) <= 1e-6
    assert analytic_delta(1 / math.sqrt(moved), 0.99) > 1e-6


def test_noise_fits_into_the_ring(study):
    """The bounds that rings and decoding follow from are wider by all owners' tails."""
    exact, private = study.plan(vs.Count()), study.plan(vs.Count(), privacy=PROMISE)
    (tail,) = private.steps[0].noise.tails
    assert private.steps[0].cut.lower == (exact.steps[0].cut.lower[0] - 4 * tail,)
    assert private.steps[0].cut.upper == (exact.steps[0].cut.upper[0] + 4 * tail,)
    few = vs.simulate(tables(4, 1), SCHEMA)
    assert min(few.count(privacy=vs.Gaussian(0.05, 1e-6)).estimate for _ in range(12)) < 0


def test_nobody_sees_the_exact_total(study):
    """Neither what the analyst opened nor what an owner sent equals the total that the plan would open without noise."""
    repeated = [study.count(privacy=PROMISE).estimate for _ in range(8)]
    assert len(set(repeated)) > 2
    opened = [released.values[0] for _, released in study.observed["analyst"].opened]
    assert opened[-8:] == repeated


def test_the_noise_survives_a_dropout(data, monkeypatch):
    monkeypatch.setattr(simulation.secrets, "token_bytes", random.Random(9).randbytes)
    study = vs.simulate(data, SCHEMA, faults=[vs.testing.Dropout("owner1", round="masked_input")])
    result = study.count(privacy=PROMISE)
    assert len(result.contributors) == 3
    assert result.std_error == pytest.approx(4.2316 * math.sqrt(1.5), rel=2e-3)
    assert abs(result.estimate - 4500) < 6 * result.std_error


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        (
            lambda data: vs.simulate(data, SCHEMA, vs.Sharing(entry="rows")).count(privacy=replace(PROMISE, placement="local")),
            "no_local_noise",
        ),
        (lambda data: vs.simulate(data, SCHEMA, "clear").count(privacy=PROMISE), "no_noise_site"),
        (lambda data: vs.simulate(data, SCHEMA).quantile("age", 0.5, privacy=PROMISE), "no_private_form"),
        (lambda data: vs.simulate(data, SCHEMA).crosstab("sex", "smoker", min_cell=5, privacy=PROMISE), "no_private_form"),
        (lambda data: vs.simulate(data, SCHEMA).groupby("sex").mean("age", min_cell=5, privacy=PROMISE), "no_private_form"),
    ],
)
def test_what_is_not_honest_yet_is_refused(data, ask, code):
    with pytest.raises(vs.CapabilityError) as error:
        ask(data)
    assert error.value.code == code


@pytest.mark.parametrize(("centre", "in_n"), [(0.0, 25.0), (40.0, 900.0), (-25.0, 2500.0)])
def test_a_means_error_is_that_of_many_releases(centre, in_n):
    """Many samples, each with noise of its own: the stated error is the spread, and its parts matter."""
    source = np.random.default_rng(3)
    noise, estimates, stated = (in_n, 1e6, 1e8), [], []
    for _ in range(2000):
        values = np.rint(source.normal(centre, 20, 1000))
        totals = [len(values), values.sum(), (values**2 - 500).sum()]
        noisy = tuple(int(total + round(source.normal(0, math.sqrt(v)))) for total, v in zip(totals, noise, strict=True))
        moments = NoisyMoments(noisy, noise, offset=500)
        error, reason = moments.mean_error()
        assert reason is None
        estimates.append(float(moments.mean))
        stated.append(error)
    assert np.mean(estimates) == pytest.approx(centre, abs=0.2)
    assert 0.95 < np.std(estimates) / np.sqrt(np.mean(np.square(stated))) < 1.05
