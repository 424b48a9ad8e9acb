"""Small cells are hidden before anything is opened, and do not follow from totals; quantiles against numpy."""

import itertools

import numpy as np
import pandas as pd
import pytest

import veilstat as vs
from tests.datasets import ALL, numeric, pooled
from veilstat.testing.tables import MAX_ROWS, small_schema, small_tables
from veilstat.testing.toy import ToyArithmetic


def table_study(counts, max_rows=2000):
    """A study of two owners whose crosstab is ``counts``."""
    rows, columns = counts.shape
    schema = vs.Schema(
        vs.Categorical("r", levels=[f"r{i}" for i in range(rows)]),
        vs.Categorical("c", levels=[f"c{i}" for i in range(columns)]),
        vs.Integer("x", lower=0, upper=50),
        max_rows=max_rows,
    )
    pairs = [(i, j) for i in range(rows) for j in range(columns) for _ in range(int(counts[i, j]))]
    frame = pd.DataFrame({"r": [f"r{i}" for i, _ in pairs], "c": [f"c{j}" for _, j in pairs], "x": np.arange(len(pairs)) % 51})
    return vs.simulate({"a": frame.iloc[::2], "b": frame.iloc[1::2]}, schema, ToyArithmetic(max_rows))


def lines(hidden):
    yield from hidden
    yield from hidden.T


@pytest.mark.parametrize("seed", range(12))
def test_hidden_cells_do_not_follow_from_the_totals_of_their_lines(seed):
    random = np.random.default_rng(seed)
    shape = [(2, 2), (2, 3), (3, 3), (4, 3), (5, 2), (4, 5)][seed % 6]
    counts = random.integers(0, 25, shape)
    shown = table_study(counts).crosstab("r", "c", min_cell=5)
    hidden = shown.estimate.isna().to_numpy()
    assert hidden[(counts > 0) & (counts < 5)].all()
    assert (shown.estimate.to_numpy()[~hidden] == counts[~hidden]).all()
    assert shown.n == counts.sum()
    if not hidden.all():
        for line, values in zip(lines(hidden), lines(counts), strict=True):
            assert line.sum() != 1
            assert not line.any() or line.all() or values[line].sum() >= 5


def test_nothing_is_hidden_where_no_cell_is_small():
    counts = np.array([[5, 9], [0, 7]])
    assert table_study(counts).crosstab("r", "c", min_cell=5).estimate.to_numpy().tolist() == counts.tolist()


def test_one_small_cell_of_four_hides_all_four():
    assert table_study(np.array([[1, 9], [8, 7]])).crosstab("r", "c", min_cell=5).estimate.isna().to_numpy().all()


@pytest.mark.parametrize("counts", [[3, 9, 20], [3, 2, 20], [1, 1, 20], [0, 6, 20], [4, 0, 9], [1, 2, 1]])
def test_hidden_levels_of_a_mean(counts):
    study = table_study(np.array([counts, [0] * len(counts)]).T)
    open_means, shown = study.mean_by("x", by="r"), study.mean_by("x", by="r", min_cell=5)
    hidden = shown.n.isna().to_numpy()
    assert hidden[[0 < count < 5 for count in counts]].all()
    assert hidden.sum() != 1
    assert hidden.all() or not hidden.any() or np.array(counts)[hidden].sum() >= 5
    assert shown.estimate.isna().to_numpy()[hidden].all()
    assert shown.std_error.isna().to_numpy()[hidden].all()
    assert shown.estimate[~hidden].equals(open_means.estimate[~hidden])


@pytest.mark.parametrize("architecture", ["masking", "clear", "sharing"])
def test_architectures_that_only_add_refuse_to_hide(architecture):
    study = vs.simulate(small_tables(), small_schema(), architecture)
    for query in (vs.Crosstab("region", "smoker", min_cell=5), vs.MeanBy("bp", by="region", min_cell=5)):
        with pytest.raises(vs.CapabilityError) as error:
            study.plan(query)
        assert error.value.code == "needs_comparison"


@pytest.mark.parametrize("fewest", [1, 0, -2, True, 2.5, "5"])
def test_a_bad_smallest_cell_is_refused(fewest):
    with pytest.raises(vs.SchemaError):
        vs.Crosstab("region", "smoker", min_cell=fewest)


@pytest.mark.parametrize("name", sorted(ALL))
@pytest.mark.parametrize("form", ["search", "selection", "bisection"])
def test_quantiles_equal_numpys(name, form):
    _, schema, tables = ALL[name]()
    shares = [0, 0.1, 0.25, 0.5, 0.9, 1]
    for column in [column for column in numeric(schema) if form != "selection" or schema[column].top <= 4096][:2]:
        architecture = "masking" if form == "bisection" else ToyArithmetic(schema.max_rows)
        result = vs.simulate(tables, schema, architecture).quantile(column, shares, form=form)
        rows = pooled(name)[column].dropna().to_numpy(dtype=float)
        assert result.estimate.tolist() == np.quantile(rows, shares, method="inverted_cdf").tolist()
        assert result.n == len(rows)


def test_selection_opens_the_quantiles_alone():
    plan = vs.simulate(small_tables(), small_schema(), ToyArithmetic(MAX_ROWS)).plan(vs.Quantile("bp", [0.25, 0.5], form="selection"))
    assert plan.openings == 4
    assert vs.simulate(small_tables(), small_schema()).plan(vs.Quantile("bp", 0.5)).openings == 2 + 9


def test_a_search_compares_each_row_with_few_points_and_opens_the_quantiles_alone():
    """A hundred thousand possible values: 17 comparisons of each row for a median, where selection would take 100,000."""
    schema = vs.Schema(vs.Continuous("x", lower=-500, upper=500, step=0.01), vs.Integer("z", lower=0, upper=3), max_rows=512)
    random, shares = np.random.default_rng(3), [0, 0.1, 0.5, 1]
    tables = {name: pd.DataFrame({"x": np.round(random.normal(0, 90, n), 2), "z": 1}) for name, n in (("a", 150), ("b", 1), ("c", 60))}
    tables["a"].loc[3:9, "x"] = np.nan
    study = vs.simulate(tables, schema, vs.Sharing(entry="rows", open="estimate"))
    result = study.quantile("x", shares)
    rows = pd.concat(tables.values())["x"].dropna().to_numpy()
    assert result.plan.statistic.form == "search"
    assert result.estimate.tolist() == np.quantile(rows, shares, method="inverted_cdf").tolist()
    assert result.n_missing == 7
    assert result.plan.openings == 2 + 4 + 2
    assert not any("Σ" in entry.formula for entry in result.plan.disclosures)
    assert study.plan(vs.Quantile("z", 0.5)).statistic.form == "selection"
    with pytest.raises(vs.CapabilityError):
        vs.simulate(tables, schema).plan(vs.Quantile("x", 0.5, form="search"))


def test_selection_refuses_a_column_of_too_many_points():
    schema = vs.Schema(vs.Integer("a", lower=0, upper=10**6), max_rows=10)
    study = vs.simulate({"x": pd.DataFrame({"a": [1, 2]}), "y": pd.DataFrame({"a": [7]})}, schema)
    with pytest.raises(vs.CapabilityError, match="bisection"):
        study.quantile("a", form="selection")
    assert study.quantile("a").estimate == 2


@pytest.mark.parametrize("q", [-0.1, 1.1, float("nan"), "x", None, [], [0.5, 2], {}])
def test_bad_shares_are_refused(q):
    with pytest.raises(vs.SchemaError):
        vs.Quantile("bp", q)


def test_quantiles_of_every_small_column_match_numpy():
    schema = vs.Schema(vs.Integer("a", lower=0, upper=3), max_rows=5)
    for values in itertools.product(range(4), repeat=3):
        frame = pd.DataFrame({"a": values})
        study = vs.simulate({"x": frame[:1], "y": frame[1:]}, schema, ToyArithmetic(5))
        assert study.quantile("a", [0.34, 0.5]).estimate.tolist() == np.quantile(values, [0.34, 0.5], method="inverted_cdf").tolist()
