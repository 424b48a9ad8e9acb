"""Tables at the ends of what a schema allows, on shared totals and on shared rows, against Python's fractions."""

import itertools
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import veilstat as vs
from tests.rows import totals_of, uploaded
from veilstat.language.circuit import Op
from veilstat.language.step import Step

NAN = float("nan")
TOP = 10**6
SCHEMA = vs.Schema(vs.Integer("x", lower=-TOP, upper=TOP), vs.Integer("y", lower=0, upper=TOP), max_rows=4)
SEALED = {"totals": vs.Sharing(open="estimate"), "rows": vs.Sharing(entry="rows", open="estimate")}
CORNERS = {
    "one row in all": ([1], [5], [], [], [], []),
    "two rows": ([TOP], [TOP], [-TOP], [0], [], []),
    "as many rows as terms": ([3], [7], [-2], [1], [], []),
    "one owner empty, all others full": ([1, 2, 3, 4], [0, 9, 1, 7], [], [], [-5, 6, -7, 8], [3, 3, 3, 4]),
    "everything at its upper bound but one": ([TOP] * 4, [TOP] * 4, [TOP] * 4, [TOP] * 4, [TOP - 1], [TOP - 1]),
    "everything at its lower bound but one": ([-TOP] * 4, [0] * 4, [-TOP] * 4, [0] * 4, [-TOP + 1], [1]),
    "both bounds alternate": ([TOP, -TOP] * 2, [0, TOP] * 2, [-TOP, TOP] * 2, [TOP, 0] * 2, [TOP, -TOP] * 2, [TOP, 0] * 2),
    "x hardly varies": ([TOP] * 4, [0, TOP, 3, 4], [TOP] * 4, [9, 9, 9, 9], [TOP, TOP, TOP, TOP - 1], [0, 0, 0, TOP]),
    "y does not vary": ([1, 2], [6, 6], [3], [6], [-TOP], [6]),
    "an exact fit": ([-TOP, 0], [0, TOP // 2], [TOP], [TOP], [2, -2], [TOP // 2 + 1, TOP // 2 - 1]),
    "rows without y": ([1, 2, 3], [NAN, 4, NAN], [9], [NAN], [5, -6], [7, 1]),
    "x missing at one owner": ([NAN, NAN], [1, 2], [3, 4, 9], [5, 7, 1], [], []),
}


def tables(corner):
    columns = [pd.Series(values, dtype=float) for values in corner]
    return {name: pd.DataFrame({"x": columns[2 * place], "y": columns[2 * place + 1]}) for place, name in enumerate(("a", "b", "c"))}


def pairs(frames):
    rows = pd.concat(frames.values()).dropna()
    return [Fraction(int(x)) for x in rows["x"]], [Fraction(int(y)) for y in rows["y"]]


def moments(x, y):
    """(mean of x, of y, sums of squares and products about them)."""
    a, b = sum(x) / len(x), sum(y) / len(y)
    return a, b, *(sum((u - c) * (v - d) for u, v in zip(p, q, strict=True)) for p, q, c, d in ((x, x, a, a), (x, y, a, b), (y, y, b, b)))


def close(found, exact):
    return np.isclose(float(found), float(exact), rtol=1e-9, atol=1e-6)


ON_ROWS = ("one owner empty, all others full", "both bounds alternate", "x hardly varies", "rows without y", "x missing at one owner")
"""Where shared rows could give other totals than owners do; behind the totals both compute alike."""
CASES = [
    pytest.param(corner, entry, marks=[pytest.mark.long] if entry == "rows" and corner not in ON_ROWS else [])
    for corner in CORNERS
    for entry in SEALED
]


@pytest.mark.parametrize(("corner", "entry"), CASES)
def test_corners_of_sealed_statistics(corner, entry):
    frames = tables(CORNERS[corner])
    x, y = pairs(frames)
    n = len(x)
    mean_x, mean_y, xx, xy, yy = moments(x, y)
    study = vs.simulate(frames, SCHEMA, SEALED[entry])
    found = study.covariance(["x", "y"])
    assert (found.n, found.n_missing) == (n, sum(map(len, frames.values())) - n)
    for (row, column), exact in {("x", "x"): xx, ("x", "y"): xy, ("y", "y"): yy}.items():
        value = found.estimate.loc[row, column]
        assert np.isnan(value) if n == 1 else close(value, exact / (n - 1))
    correlation = study.correlation(["x", "y"]).estimate.loc["x", "y"]
    if xx * yy == 0:
        assert np.isnan(correlation)
    else:
        assert np.isclose(correlation, float(xy) / np.sqrt(float(xx)) / np.sqrt(float(yy)), rtol=1e-9, atol=2**-40)
    if xx == 0:
        with pytest.raises(vs.SchemaError) as error:
            study.linear_regression("y ~ x")
        assert error.value.code == "singular_design"
        return
    slope = xy / xx
    fit = study.linear_regression("y ~ x")
    assert np.isclose(fit.params["x"], float(slope), rtol=1e-9, atol=1e-12)
    assert close(fit.params["Intercept"], mean_y - slope * mean_x)
    assert close(fit.rss, yy - slope * xy)
    if n > 2:
        assert np.isclose(fit.bse["x"], np.sqrt(float((yy - slope * xy) / (n - 2) / xx)), rtol=1e-7, atol=1e-11)


def test_collinear_columns_and_powers_beyond_the_rows_are_singular_wherever_they_stand():
    schema = vs.Schema(vs.Integer("x", lower=-99, upper=99), vs.Integer("y", lower=0, upper=99), max_rows=4)
    for corner, formula in (("as many rows as terms", "y ~ x + I(x**2)"), ("an exact fit", "y ~ x + center(x, 3)")):
        frames = {name: frame.clip(-99, 99).clip(lower={"x": -99, "y": 0}) for name, frame in tables(CORNERS[corner]).items()}
        for architecture in SEALED.values():
            with pytest.raises(vs.SchemaError) as error:
                vs.simulate(frames, schema, architecture).linear_regression(formula)
            assert error.value.code == "singular_design"


WIDTHS = st.sampled_from([1, 2, 255, 2**20 - 1, 2**31 - 1])


@settings(max_examples=25, deadline=None)
@given(
    tops=st.tuples(WIDTHS, WIDTHS),
    rows=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.booleans(), st.booleans()), max_size=12),
    edges=st.booleans(),
    bits=st.sampled_from([64, 128]),
)
def test_totals_of_any_rows_are_those_of_pythons_integers(tops, rows, edges, bits):
    """Products, comparisons between columns and with constants, and counts; values at the ends of their ranges half of the time."""
    schema = vs.Schema(*(vs.Integer(name, lower=0, upper=top) for name, top in zip("uv", tops, strict=True)), max_rows=16)

    def code(share, top):
        return round(share) * top if edges else int(share * top)

    plain = [(code(a, tops[0]) if here else None, code(b, tops[1]) if there else None) for a, b, here, there in rows]

    def contribution(trace, public):
        u, v = trace.column("u"), trace.column("v")
        both = trace.present("u") * trace.present("v")
        values = (u * v, u.less(v) * both, u.equal(v) * both, v.less(tops[1]) * trace.present("v"), u * u, trace.ones, both)
        return {str(place): value.total() for place, value in enumerate(values)}

    circuit = Step("s", contribution, lambda totals, public: totals).trace(schema, 2)
    frame = pd.DataFrame(plain, columns=["u", "v"], dtype=float)
    halves = {"a": frame.iloc[: len(frame) // 2], "b": frame.iloc[len(frame) // 2 :]}
    if bits == 64 and 32 * max(tops[0] * tops[1], tops[0] ** 2) >= 2**62:
        bits = 128
    found, _ = totals_of(circuit, uploaded(schema, halves, bits=bits))
    whole = [(u, v) for u, v in plain if u is not None and v is not None]
    expected = (
        sum(u * v for u, v in whole),
        sum(u < v for u, v in whole),
        sum(u == v for u, v in whole),
        sum(v < tops[1] for _, v in plain if v is not None),
        sum(u * u for u, _ in plain if u is not None),
        len(plain),
        len(whole),
    )
    places = {name: output.node for name, output in circuit.outputs.items()}
    assert {circuit.nodes[place].op for place in places.values()} == {Op.INNER}
    assert tuple(int(found[places[str(place)]]) for place in range(len(expected))) == expected


@pytest.mark.parametrize("levels", [2, 3, 40])
def test_tables_of_first_last_and_absent_levels(levels):
    """A column whose owners know its first or its last level only, and one of whom knows nothing."""
    names = [f"l{place}" for place in range(levels)]
    schema = vs.Schema(vs.Categorical("c", levels=names), vs.Categorical("d", levels=["p", "q"]), max_rows=8)
    frames = {
        "a": pd.DataFrame({"c": [names[0]] * 8, "d": ["p", "q"] * 4}),
        "b": pd.DataFrame({"c": [names[-1]] * 3, "d": ["q", "q", None]}),
        "c": pd.DataFrame({"c": [None] * 2, "d": ["p", "p"]}),
    }
    for architecture in SEALED.values():
        found = vs.simulate(frames, schema, architecture).crosstab("c", "d")
        assert found.n == 10
        counts = found.estimate.to_numpy()
        assert counts[0].tolist() == [4, 4]
        assert counts[-1].tolist() == [0, 2]
        assert counts[1:-1].sum() == 0


def test_every_small_table_has_its_exact_variance():
    schema = vs.Schema(vs.Integer("x", lower=0, upper=3), max_rows=1)
    for values in itertools.islice(itertools.product([0, 1, 3, None], repeat=3), 0, None, 3):
        kept = [Fraction(value) for value in values if value is not None]
        frames = {name: pd.DataFrame({"x": [value]}, dtype=float) for name, value in zip("abc", values, strict=True)}
        study = vs.simulate(frames, schema, SEALED["totals"])
        if not kept:
            with pytest.raises(vs.SchemaError):
                study.variance("x")
            continue
        exact = sum((value - sum(kept) / len(kept)) ** 2 for value in kept) / (len(kept) - 1) if len(kept) > 1 else None
        found = study.variance("x").estimate
        assert np.isnan(found) if exact is None else found == pytest.approx(float(exact), abs=2**-40)
