"""Real data sets that come with scikit-learn and statsmodels, each with a schema, split over owners."""

from functools import cache
from itertools import pairwise

import numpy as np
import pandas as pd

import veilstat as vs


def split(frame, sizes):
    edges = np.cumsum([0, *sizes])
    return {f"owner{place + 1}": frame.iloc[a:b].reset_index(drop=True) for place, (a, b) in enumerate(pairwise(edges))}


@cache
def diabetes():
    from sklearn.datasets import load_diabetes

    raw = load_diabetes(as_frame=True, scaled=False)
    frame = raw.data[["age", "sex", "bmi", "bp", "s5"]].assign(target=raw.target)
    frame["sex"] = np.where(frame["sex"] == 1, "f", "m")
    schema = vs.Schema(
        vs.Integer("age", lower=0, upper=120),
        vs.Categorical("sex", levels=("f", "m")),
        vs.Continuous("bmi", lower=10, upper=70, step=0.1),
        vs.Continuous("bp", lower=40, upper=180, step=0.01),
        vs.Continuous("s5", lower=2, upper=8, step=0.0001),
        vs.Integer("target", lower=0, upper=400),
        max_rows=1000,
    )
    return frame, schema, split(frame, [200, 150, 92])


@cache
def randhie():
    import statsmodels.api as sm

    frame = sm.datasets.randhie.load_pandas().data
    schema = vs.Schema(
        vs.Integer("mdvis", lower=0, upper=100),
        vs.Continuous("lncoins", lower=0, upper=5, step="0.00001"),
        vs.Binary("idp"),
        vs.Continuous("lpi", lower=0, upper=8, step="0.000001"),
        vs.Continuous("fmde", lower=0, upper=9, step="0.000001"),
        vs.Continuous("physlm", lower=0, upper=1, step="0.0000001"),
        vs.Continuous("disea", lower=0, upper=60, step="0.00001"),
        vs.Binary("hlthg"),
        vs.Binary("hlthf"),
        vs.Binary("hlthp"),
        max_rows=20_000,
    )
    return frame, schema, split(frame, [9000, 5500, 3309, 1597, 784])


@cache
def wine():
    from sklearn.datasets import load_wine

    raw = load_wine(as_frame=True)
    frame = raw.data[["alcohol", "malic_acid", "ash", "magnesium", "proline"]].assign(kind=raw.target.map({0: "a", 1: "b", 2: "c"}))
    schema = vs.Schema(
        vs.Continuous("alcohol", lower=10, upper=16, step=0.01),
        vs.Continuous("malic_acid", lower=0, upper=7, step=0.01),
        vs.Continuous("ash", lower=1, upper=4, step=0.01),
        vs.Integer("magnesium", lower=50, upper=200),
        vs.Integer("proline", lower=200, upper=2000),
        vs.Categorical("kind", levels=("a", "b", "c")),
        max_rows=200,
    )
    return frame, schema, split(frame, [100, 60, 18])


@cache
def fair():
    import statsmodels.api as sm

    frame = sm.datasets.fair.load_pandas().data.assign(any=lambda f: (f["affairs"] > 0).astype(int))
    schema = vs.Schema(
        vs.Integer("rate_marriage", lower=1, upper=5),
        vs.Continuous("age", lower=15, upper=50, step=0.5),
        vs.Continuous("yrs_married", lower=0, upper=30, step=0.5),
        vs.Continuous("children", lower=0, upper=8, step=0.5),
        vs.Integer("religious", lower=1, upper=4),
        vs.Binary("any"),
        max_rows=5000,
    )
    return frame, schema, split(frame, [3000, 2000, 1000, 366])


@cache
def longley():
    import statsmodels.api as sm

    frame = sm.datasets.longley.load_pandas().data
    schema = vs.Schema(
        vs.Integer("TOTEMP", lower=50_000, upper=80_000),
        vs.Continuous("GNPDEFL", lower=50, upper=150, step=0.1),
        vs.Integer("GNP", lower=200_000, upper=600_000),
        vs.Integer("UNEMP", lower=1_000, upper=6_000),
        vs.Integer("ARMED", lower=1_000, upper=5_000),
        vs.Integer("POP", lower=100_000, upper=140_000),
        vs.Integer("YEAR", lower=1940, upper=1970),
        max_rows=20,
    )
    return frame, schema, split(frame, [6, 5, 5])


ALL = {"diabetes": diabetes, "randhie": randhie, "wine": wine, "fair": fair}


def numeric(schema: vs.Schema) -> list[str]:
    return [column.name for column in schema if column.is_numeric]


def pooled(name: str) -> pd.DataFrame:
    frame, schema, _ = ALL[name]()
    return schema.quantise(frame)
