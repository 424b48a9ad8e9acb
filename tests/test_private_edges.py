"""Private answers on tables that are empty, tiny or all missing: always a result, since an error that depends on rows would tell of them."""

import random

import numpy as np
import pandas as pd
import pytest

import veilstat as vs
from tests.patients import patients_schema
from veilstat.testing.releases import releases

SCHEMA = patients_schema(max_rows=64)
FULL = pd.DataFrame(
    {"age": [30.0, 40.0, 50.0, 60.0], "bmi": [20.0, 25.0, 20.0, 31.5], "sex": ["female", "male"] * 2, "smoker": [0, 1, 1, 0]}
)
FRAMES = {"empty": FULL[:0], "one row": FULL[:1], "equal rows": FULL.loc[[0] * 20], "all missing": FULL.assign(age=np.nan), "few": FULL}
PROMISES = [vs.Gaussian(1.0, 1e-6, privacy_unit="owner", neighbours="replace_one"), vs.Gaussian(1e-3, 1e-9), vs.Gaussian(50, 0.5)]
QUERIES = [
    vs.Count(),
    vs.Count(["age", "bmi"]),
    vs.Sum("age"),
    vs.Mean(["age", "bmi"]),
    vs.Variance("age"),
    vs.Std("age", clip=(20, 60)),
    vs.Std(["age", "bmi"]),
    vs.Covariance(["age"]),
    vs.Covariance(["age", "bmi"]),
    vs.Correlation(["age", "bmi"]),
    vs.Histogram("age", bins=2),
    vs.Crosstab("sex", "smoker"),
    vs.MeanBy("age", "sex"),
    vs.LinearRegression("bmi ~ 1"),
    vs.LinearRegression("bmi ~ age + C(sex)"),
    vs.LinearRegression("bmi ~ age", estimator="ssp"),
    vs.LinearRegression("bmi ~ age", method="gradient_descent", iterations=3),
]


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_every_table_gets_an_answer_that_prints(query):
    for frame in FRAMES.values():
        tables = dict.fromkeys(("east", "north", "west"), frame)
        study = vs.simulate(tables, SCHEMA)
        for promise in PROMISES:
            for result in releases(study.plan(query, privacy=promise), tables, random.Random(4).randbytes, 3):
                assert str(result)
                assert result.to_latex()
                assert result._repr_html_()
                result.to_frame()
                result.conf_int()


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_the_plan_does_not_depend_on_rows(query):
    """Noise, rings and digest follow from what is public."""
    plans = [
        vs.simulate(dict.fromkeys(("east", "north", "west"), frame), SCHEMA).plan(query, privacy=PROMISES[1])
        for frame in (FRAMES["empty"], FRAMES["few"])
    ]
    assert plans[0].digest == plans[1].digest
    assert plans[0].privacy == plans[1].privacy
