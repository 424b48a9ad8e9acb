"""How close private answers are: to statsmodels on the quantised rows, to the raw rows, and to NIST's certified values.

    OMP_NUM_THREADS=1 python -m benchmarks.accuracy

Deviations are the largest relative ones over coefficients and standard errors. What separates the quantised rows from
the raw ones is the schema's lattice, the same for every architecture; what separates our answer from statsmodels' on
the quantised rows is float64 least squares, since ours is exact until it is rounded once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf

import veilstat as vs
from benchmarks.measuring import heading, row
from tests.datasets import ALL, longley
from tests.test_regression import NIST_LONGLEY

FORMULAS = {
    "diabetes": "target ~ age + bmi + bp + C(sex)",
    "randhie": "mdvis ~ lncoins + idp + lpi + fmde + physlm + disea + hlthg + hlthf + hlthp",
    "wine": "proline ~ alcohol + C(kind) + ash",
    "fair": "children ~ age + yrs_married + C(religious)",
}


def deviation(ours: Any, theirs: Any) -> float:
    """The largest relative deviation of coefficients and standard errors."""
    pairs = [(ours.params, theirs.params), (ours.bse, theirs.bse)]
    return max(float(np.max(np.abs(a.to_numpy() / b.to_numpy() - 1))) for a, b in pairs)


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Categories as text, for statsmodels."""
    return frame.assign(**{name: frame[name].astype(str) for name in frame.select_dtypes("category").columns.astype(str)})


def digits(ours: float, certified: float) -> float:
    """Correct significant digits."""
    return 16.0 if ours == certified else -math.log10(abs(ours - certified) / abs(certified))


def main() -> None:
    """Print the two tables."""
    print(heading("data", "rows", "formula", "from statsmodels on the quantised rows", "from statsmodels on the raw rows"))
    for name, formula in FORMULAS.items():
        frame, schema, tables = ALL[name]()
        ours = vs.simulate(tables, schema).linear_regression(formula)
        quantised = smf.ols(formula, plain(schema.quantise(frame))).fit()
        raw = smf.ols(formula, frame).fit()
        print(row(name, f"{len(frame):,}", f"`{formula}`", *(f"{deviation(ours, theirs):.0e}" for theirs in (quantised, raw))))
    frame, schema, tables = longley()
    formula = "TOTEMP ~ GNPDEFL + GNP + UNEMP + ARMED + POP + YEAR"
    results = {"veilstat": vs.simulate(tables, schema).linear_regression(formula), "statsmodels": smf.ols(formula, frame).fit()}
    print("\n" + heading("Longley (NIST)", "digits of the worst coefficient", "digits of the worst standard error"))
    for label, result in results.items():
        coefficients = min(digits(result.params[term], value) for term, (value, _) in NIST_LONGLEY.items())
        errors = min(digits(result.bse[term], value) for term, (_, value) in NIST_LONGLEY.items())
        print(row(label, f"{coefficients:.1f}", f"{errors:.1f}"))


if __name__ == "__main__":
    main()
