"""Formulas: names, order and coding as patsy's, which statsmodels uses."""

import numpy as np
import pandas as pd
import patsy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import veilstat as vs
from veilstat.statistics.design import make_design

SCHEMA = vs.Schema(
    vs.Integer("y", lower=0, upper=9), vs.Integer("a", lower=-3, upper=9), vs.Continuous("b", lower=1, upper=5, step=0.5), vs.Binary("z"),
    vs.Categorical("g", levels=["p", "q", "r"]), vs.Categorical("h", levels=["u", "v"]), vs.Integer("my col", lower=0, upper=5),
)  # fmt: skip
RANDOM = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "y": RANDOM.integers(0, 10, 60), "a": RANDOM.integers(-3, 10, 60), "b": RANDOM.integers(2, 11, 60) / 2, "z": RANDOM.integers(0, 2, 60),
        "g": RANDOM.choice(["p", "q", "r"], 60), "h": RANDOM.choice(["u", "v"], 60), "my col": RANDOM.integers(0, 6, 60),
    }
)  # fmt: skip

FORMULAS = [
    "y ~ a", "y ~ 1", "y ~ a - 1", "y ~ 0 + a", "y ~ -1 + a", "y ~ a + b + a", "y ~ g", "y ~ g - 1", "y ~ g + h", "y ~ g:h", "y ~ g:h - 1", "y ~ g*h",
    "y ~ a*g", "y ~ a:g", "y ~ a + a:g", "y ~ b + g:a + h", "y ~ g:h:a", "y ~ 0 + g + h", "y ~ 0 + a:g + h", "y ~ C(z)", "y ~ C(z)*a + b",
    "y ~ I(a**2) + a", "y ~ I(b ** 3):g", "y ~ (a + b)*h", "y ~ (a + b + h) - b", "y ~ C(g, Treatment('q'))", "y ~ C(g, Treatment(reference='r')) + a",
    "y ~ Q('my col') + a", "y ~ a*b*g", "y ~ g + a:h + h:b", "y ~ z:g + h:g",
]  # fmt: skip


def ours(formula):
    return make_design(formula, SCHEMA)


@pytest.mark.parametrize("formula", FORMULAS)
def test_design_matrices_equal_patsys(formula):
    design = ours(formula)
    expected = patsy.dmatrix(formula.split("~")[1], FRAME, return_type="dataframe")
    assert list(design.names) == list(expected.columns)
    assert np.allclose(design.matrix(FRAME), expected)


terms = st.lists(
    st.lists(st.sampled_from(["a", "b", "g", "h", "z"]), min_size=1, max_size=3, unique=True).map(":".join), min_size=1, max_size=5
)


@settings(max_examples=60, deadline=None)
@given(terms, st.booleans())
def test_any_sum_of_interactions_is_coded_as_patsy_codes_it(chosen, intercept):
    formula = "y ~ " + ("" if intercept else "0 + ") + " + ".join(chosen)
    design = ours(formula)
    expected = patsy.dmatrix(formula.split("~")[1], FRAME, return_type="dataframe")
    assert list(design.names) == list(expected.columns)
    assert np.allclose(design.matrix(FRAME), expected)


@pytest.mark.parametrize("formula", [f for f in FORMULAS if f not in ("y ~ 0 + a:g + h",)])
def test_integers_and_units_give_the_design_back(formula):
    """offset + unit * integer is the value in every row."""
    from veilstat.language.evaluate import evaluate
    from veilstat.language.trace import Trace
    from veilstat.platform.table import Table

    design = ours(formula)
    trace = Trace(SCHEMA, 1)
    x, _ = design.trace(trace)
    gram = x.inner(trace.ones)
    from veilstat.language.circuit import Output

    circuit = trace.finish({"sum": Output(gram.index)})
    rows = Table("o", FRAME, SCHEMA).rows(tuple(c.name for c in SCHEMA))
    place = circuit.outputs["sum"].node
    sums = evaluate(circuit, (place,), rows=rows, inputs={}, known={})[place]
    values = [float(column.offset * len(FRAME) + column.unit * int(total)) for column, total in zip(design.columns, sums, strict=True)]
    assert np.allclose(values, design.matrix(FRAME).sum(axis=0))


def test_centres_are_public_constants():
    design = ours("y ~ center(a, 2.5) + center(b, -1)")
    assert design.names == ("Intercept", "center(a, 2.5)", "center(b, -1)")
    assert np.allclose(design.matrix(FRAME)[:, 1], FRAME["a"] - 2.5)
    assert np.allclose(design.matrix(FRAME)[:, 2], FRAME["b"] + 1)


@pytest.mark.parametrize(
    "formula",
    ["", "y", "~", "y ~", "~ a", "y ~ a ~ b", "y ~ a +", "y ~ a b", "y ~ 'a'", "y ~ a + 3", "y ~ a.b", "y ~ a[0]", "y ~ lambda: a", "y ~ C()", "y ~ C(a + b)",
     "y ~ C(g, Sum)", "y ~ center(a)", "y ~ center(a, b)", "y ~ center(a, True)", "g ~ a", "y + a ~ b", "y ~ I(a + b)", "y ~ I(a**b)", "y ~ a if b else a",
     "y ~ " + "a + " * 5000 + "a", "y ~ " + "(" * 300 + "a" + ")" * 300, 3],
)  # fmt: skip
def test_what_is_no_formula_is_refused(formula):
    with pytest.raises(vs.VeilstatError) as error:
        ours(formula)
    assert error.value.code in ("bad_formula", "unknown_function")


def test_too_many_columns_are_refused():
    schema = vs.Schema(vs.Integer("y", lower=0, upper=1), vs.Integer("a", lower=0, upper=900))
    with pytest.raises(vs.SchemaError) as error:
        make_design("y ~ C(a)", schema)
    assert error.value.code == "too_many_terms"


@pytest.mark.parametrize(
    "formula",
    ["y ~ " + "+".join(["a"] * 2000), "y ~ " + ":".join(["a"] * 2000), "y ~ " + "*".join(f"I(a**{power})" for power in range(1, 9)) + "*b*z*g*h", "y ~ center(a, 1e300)"],
)  # fmt: skip
def test_formulas_that_would_never_end_are_refused(formula):
    with pytest.raises(vs.SchemaError) as error:
        ours(formula)
    assert error.value.code in ("bad_formula", "too_many_terms")
