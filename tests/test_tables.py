"""Histograms, crosstabs and means by category against numpy and pandas."""

import numpy as np
import pandas as pd
import pytest

import veilstat as vs
from tests.datasets import ALL, numeric, pooled
from veilstat.testing.tables import small_schema, small_tables


@pytest.mark.parametrize("name", sorted(ALL))
@pytest.mark.parametrize("bins", [7, "edges"])
def test_histograms_equal_numpys(name, bins):
    _, schema, tables = ALL[name]()
    column = numeric(schema)[-1]
    rows = pooled(name)[column].to_numpy(dtype=float)
    chosen = [float(edge) for edge in np.quantile(rows, [0.1, 0.5, 0.9])] if bins == "edges" else bins
    if bins == "edges" and len(set(chosen)) < 3:
        chosen = [0.0, 0.5, 1.0]
    result = vs.simulate(tables, schema).histogram(column, bins=chosen)
    top = float(schema[column].origin + schema[column].lattice_step * schema[column].top)
    counts, edges = np.histogram(rows, bins=chosen, range=(float(schema[column].origin), top) if isinstance(chosen, int) else None)
    assert result.estimate.tolist() == counts.tolist()
    assert result.edges.tolist() == edges.tolist()
    assert result.below == (rows < edges[0]).sum()
    assert result.above == (rows > edges[-1]).sum()


def test_edges_beyond_the_bounds_are_empty_bins():
    schema = vs.Schema(vs.Integer("a", lower=0, upper=9), max_rows=10)
    study = vs.simulate({"x": pd.DataFrame({"a": [0, 9, 9]}), "y": pd.DataFrame({"a": [4]})}, schema)
    assert study.histogram("a", bins=[-5, 0, 9, 20]).estimate.tolist() == [0, 2, 2]
    assert study.histogram("a", bins=[-5, -1]).above == 4
    assert study.histogram("a", bins=[20, 30]).below == 4


def test_a_level_stays_on_its_line_of_a_result():
    levels = ["north", "south\nrow  9"]
    schema = vs.Schema(vs.Categorical("region", levels=levels), vs.Integer("y", lower=0, upper=9), max_rows=10)
    study = vs.simulate({owner: pd.DataFrame({"region": levels * 2, "y": [1, 2, 3, 4]}) for owner in "abc"}, schema)
    for query in (vs.MeanBy("y", "region"), vs.Crosstab("region", "y"), vs.LinearRegression("y ~ region")):
        lines = str(study.run(query)).splitlines()
        assert not any(line.startswith("row  9") for line in lines)
        assert any(r"south\nrow  9" in line for line in lines)


def test_crosstabs_equal_pandas_and_keep_empty_levels():
    schema, tables = small_schema(), small_tables()
    study = vs.simulate(tables, schema)
    rows = schema.quantise(pd.concat(tables.values(), ignore_index=True))
    result = study.crosstab("region", "female")
    expected = pd.crosstab(rows["region"].astype(str), rows["female"])
    assert result.estimate.to_numpy().tolist() == expected.to_numpy().tolist()
    assert result.n_missing == rows["female"].isna().sum()
    assert study.crosstab("smoker", "region").estimate.index.tolist() == [0, 1]


def test_means_by_category_equal_pandas():
    schema, tables = small_schema(), small_tables()
    rows = schema.quantise(pd.concat(tables.values(), ignore_index=True))
    result = vs.simulate(tables, schema).groupby("region").mean("bmi")
    grouped = rows.groupby(rows["region"].astype(str))["bmi"]
    assert np.allclose(result.estimate, grouped.mean(), rtol=1e-12)
    assert np.allclose(result.std_error, grouped.sem(), rtol=1e-9)
    assert result.n.tolist() == grouped.count().tolist()
    assert result.n_missing == rows["bmi"].isna().sum()


def test_a_level_without_rows_has_no_mean():
    schema = vs.Schema(vs.Integer("a", lower=0, upper=9), vs.Categorical("g", levels=["p", "q", "r"]), max_rows=10)
    study = vs.simulate({"x": pd.DataFrame({"a": [1, 3], "g": ["p", "p"]}), "y": pd.DataFrame({"a": [4], "g": ["q"]})}, schema)
    result = study.groupby("g").mean("a")
    assert result.estimate["p"] == 2
    assert np.isnan(result.estimate["r"])
    assert np.isnan(result.std_error["q"])
    assert result.to_frame().loc["r", "n"] == 0


@pytest.mark.parametrize("bins", [0, -3, [1], [2, 1], [1, 1], [1, float("nan")], "ab", True, [0, float("inf")], 10**9])
def test_bad_bins_are_refused(bins):
    with pytest.raises(vs.SchemaError) as error:
        vs.Histogram("a", bins=bins)
    assert error.value.code == "bad_bins"
