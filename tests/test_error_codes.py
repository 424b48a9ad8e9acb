"""The same trouble has the same code on every architecture, wherever its exit wall stands."""

import pandas as pd
import pytest

import veilstat as vs
from veilstat.testing.toy import ToyArithmetic

SCHEMA = vs.Schema(
    vs.Integer("x", lower=0, upper=9),
    vs.Integer("y", lower=0, upper=9),
    vs.Binary("b"),
    vs.Categorical("c", levels=["one", "two"]),
    max_rows=8,
)
ARCHITECTURES = {
    "clear": "clear",
    "masking": "masking",
    "totals": vs.Sharing(),
    "totals_sealed": vs.Sharing(open="estimate"),
    "rows": vs.Sharing(entry="rows"),
    "rows_sealed": vs.Sharing(entry="rows", open="estimate"),
    "toy": ToyArithmetic(8),
}


def tables(x, y, b=(1, 0), c="one"):
    frame = pd.DataFrame({"x": x, "y": y, "b": [b[place % 2] for place in range(len(x))], "c": c}, dtype=object)
    return {"ann": frame.iloc[:2], "ben": frame.iloc[2:4], "cid": frame.iloc[4:]}


NONE = float("nan")
VARIED = tables([1, 2, 3, 4, 5, 7], [2, 1, 4, 3, 6, 5])
NEVER_BOTH = tables([1, 2, 3, NONE, NONE, NONE], [NONE, NONE, NONE, 3, 2, 1])
EMPTY = tables([], [])
CONSTANT = tables([4] * 6, [1, 2, 3, 4, 5, 6])
TROUBLE = {
    "regression without complete rows": (NEVER_BOTH, vs.LinearRegression("y ~ x"), "no_rows"),
    "regression without complete rows or intercept": (NEVER_BOTH, vs.LinearRegression("y ~ 0 + x"), "no_rows"),
    "regression without rows": (EMPTY, vs.LinearRegression("y ~ x"), "no_rows"),
    "constant column": (CONSTANT, vs.LinearRegression("y ~ x"), "singular_design"),
    "collinear columns": (VARIED, vs.LinearRegression("y ~ x + I(x**2) + I(x**3) + I(x**4) + I(x**5) + I(x**6)"), "singular_design"),
    "empty level": (VARIED, vs.LinearRegression("y ~ C(c)"), "singular_design"),
    "mean without rows": (EMPTY, vs.Mean("x"), "no_rows"),
    "covariance without complete rows": (NEVER_BOTH, vs.Covariance(["x", "y"]), "no_rows"),
    "quantile without rows": (EMPTY, vs.Quantile("x", 0.5), "no_rows"),
    "descent without complete rows": (NEVER_BOTH, vs.LinearRegression("y ~ x", method="gradient_descent"), "no_rows"),
    "descent on a constant column": (CONSTANT, vs.LinearRegression("y ~ x", method="gradient_descent"), "singular_design"),
    "descent that diverges": (
        VARIED,
        vs.LinearRegression("y ~ x", method="gradient_descent", rate=1e5, acceleration=None, max_iterations=6),
        "diverged",
    ),
    "descent that is cut short": (VARIED, vs.LinearRegression("y ~ x", method="gradient_descent", max_iterations=1), "not_converged"),
    "unknown column": (VARIED, vs.Mean("z"), "unknown_column"),
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("trouble", TROUBLE)
def test_the_same_trouble_has_the_same_code(trouble, architecture):
    rows, query, code = TROUBLE[trouble]
    with pytest.raises(vs.VeilstatError) as error:
        vs.simulate(rows, SCHEMA, ARCHITECTURES[architecture]).run(query)
    assert (error.value.code, bool(error.value.message)) == (code, True)
