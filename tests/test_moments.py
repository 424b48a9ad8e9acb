"""Counts, sums, means, variances, covariances: against numpy and scipy on the quantised rows, and integers exactly."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import veilstat as vs
from tests.datasets import ALL, numeric, pooled


@pytest.fixture(params=sorted(ALL))
def case(request):
    _, schema, tables = ALL[request.param]()
    return schema, vs.simulate(tables, schema), pooled(request.param)


def test_moments_equal_numpy_on_the_quantised_rows(case):
    schema, study, rows = case
    names = numeric(schema)
    data = rows[names].astype(float)
    pd.testing.assert_series_equal(study.sum(names).estimate, data.sum(), rtol=1e-12, check_names=False)
    pd.testing.assert_series_equal(study.mean(names).estimate, data.mean(), rtol=1e-12, check_names=False)
    pd.testing.assert_series_equal(study.variance(names).estimate, data.var(), rtol=1e-9, check_names=False)
    pd.testing.assert_series_equal(study.std(names).estimate, data.std(), rtol=1e-9, check_names=False)
    pd.testing.assert_frame_equal(study.covariance(names).estimate, data.cov(), rtol=1e-9, atol=1e-12)
    pd.testing.assert_frame_equal(study.correlation(names).estimate, data.corr(), rtol=1e-9, atol=1e-12)


def test_intervals_of_means_are_those_of_scipy(case):
    schema, study, rows = case
    name = numeric(schema)[0]
    result = study.mean(name)
    values = rows[name].to_numpy(dtype=float)
    assert result.std_error == pytest.approx(stats.sem(values), rel=1e-10)
    assert result.conf_int(0.1) == pytest.approx(stats.t.interval(0.9, len(values) - 1, values.mean(), stats.sem(values)), rel=1e-10)
    assert (result.n, result.n_missing) == (len(values), 0)


@pytest.mark.parametrize("architecture", ["masking", "homomorphic", "clear"])
def test_opened_integers_equal_python_integers_on_the_encoded_columns(case, architecture):
    schema, study, _ = case
    names = numeric(schema)[:3]
    study = vs.simulate(study._backend.agents and {n: a.table._frame for n, a in study._backend.agents.items()}, schema, architecture)
    study.covariance(names)
    [(_, released)] = study.observed["analyst"].opened
    frames = [agent.table._frame for agent in study._backend.agents.values()]
    codes = [[[int(c) for c in schema.encode(frame, name)[0]] for frame in frames] for name in names]
    columns = [[1] * sum(map(len, frames)), *([c for part in column for c in part] for column in codes)]
    expected = {sum(a * b for a, b in zip(columns[i], columns[j], strict=True)) for i in range(4) for j in range(i, 4)}
    assert set(released.values) == expected


def test_both_architectures_give_the_same_bits(case):
    schema, study, _ = case
    tables = {name: agent.table._frame for name, agent in study._backend.agents.items()}
    plain = vs.simulate(tables, schema, "clear")
    names = numeric(schema)
    for ask in ("sum", "mean", "variance", "std", "covariance", "correlation"):
        assert np.array_equal(getattr(study, ask)(names).estimate, getattr(plain, ask)(names).estimate)


def test_each_column_counts_its_own_rows_unless_listwise():
    schema = vs.Schema(vs.Integer("a", lower=0, upper=9), vs.Integer("b", lower=0, upper=9), max_rows=10)
    tables = {"x": pd.DataFrame({"a": [1, 2, None], "b": [4.0, None, 6]}), "y": pd.DataFrame({"a": [3.0], "b": [8]})}
    study = vs.simulate(tables, schema)
    result = study.mean(["a", "b"])
    assert result.estimate.to_dict() == {"a": 2.0, "b": 6.0}
    assert result.n.to_dict() == {"a": 3, "b": 3}
    assert result.n_missing.to_dict() == {"a": 1, "b": 1}
    listwise = study.mean(["a", "b"], missing="listwise")
    assert listwise.estimate.to_dict() == {"a": 2.0, "b": 6.0}
    assert listwise.n.to_dict() == {"a": 2, "b": 2}
    assert study.count().estimate == 4
    assert (study.count("a").estimate, study.count("a").n_missing) == (3, 1)
    assert study.covariance(["a", "b"]).n == 2


def test_what_does_not_exist_is_none_or_nan():
    schema = vs.Schema(vs.Integer("a", lower=0, upper=9), vs.Integer("b", lower=0, upper=9), max_rows=10)
    study = vs.simulate({"x": pd.DataFrame({"a": [5], "b": [1]}), "y": pd.DataFrame({"a": [], "b": []}, dtype=float)}, schema)
    one = study.mean("a")
    assert (one.estimate, one.std_error, one.conf_int()) == (5.0, None, None)
    assert np.isnan(study.variance("a").estimate)
    flat = vs.simulate({"x": pd.DataFrame({"a": [5, 5], "b": [1, 2]}), "y": pd.DataFrame({"a": [5], "b": [2]})}, schema)
    assert np.isnan(flat.correlation(["a", "b"]).estimate.loc["a", "b"])
    assert flat.std("a").estimate == 0


def test_the_resolution_costs_what_the_plan_says():
    frame, schema, tables = ALL["diabetes"]()
    coarse = vs.Schema(*[c for c in schema if c.name != "bmi"], vs.Continuous("bmi", lower=10, upper=70, step=2), max_rows=1000)
    study = vs.simulate(tables, coarse)
    assert study.variance("bmi").estimate == pytest.approx(frame["bmi"].var() + 4 / 12, rel=0.05)
    assert "step^2/12 = 0.33" in str(study.plan(vs.Variance("bmi")))
    assert abs(study.mean("bmi").estimate - frame["bmi"].mean()) < 2 / 12**0.5
