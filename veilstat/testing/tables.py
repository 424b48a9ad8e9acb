"""A small study with everything in it that statistics stumble over: missing values, rare levels, uneven owners."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from veilstat.schema.columns import Binary, Categorical, Continuous, Integer
from veilstat.schema.schema import Schema

MAX_ROWS = 64


@dataclass(frozen=True, slots=True)
class Sample:
    """What a check is run on: a schema, and one table for each owner."""

    schema: Schema
    tables: Mapping[str, pd.DataFrame]


def small_schema() -> Schema:
    """Six columns of all plain kinds; at most 64 rows per owner."""
    return Schema(
        Integer("age", lower=18, upper=95, unit="years"),
        Continuous("bmi", lower=10, upper=70, step=0.1, unit="kg/m^2"),
        Continuous("bp", lower=40, upper=260, step=0.5, unit="mmHg"),
        Categorical("region", levels=("coast", "hills", "plain")),
        Binary("smoker"),
        Binary("female", missing=(9,)),
        max_rows=MAX_ROWS,
    )


def small_tables(owners: int = 5, seed: int = 1) -> Mapping[str, pd.DataFrame]:
    """One table per owner, of different lengths, the last without the level "plain"."""
    random = np.random.default_rng(seed)
    tables = {}
    for place in range(owners):
        count = MAX_ROWS - 7 * place
        age = random.integers(18, 96, count)
        bmi = random.normal(27, 5, count).clip(12, 60).round(2)
        bp = (90 + 0.4 * age + bmi / 2 + random.normal(0, 12, count)).clip(45, 250)
        region = random.choice(["coast", "hills"] if place == owners - 1 else ["coast", "hills", "plain"], count)
        smoker = (random.random(count) < 1 / (1 + np.exp(-(age - 55) / 25))).astype(int)
        female = random.choice([0, 1, 9], count, p=[0.45, 0.45, 0.1])
        bmi[random.random(count) < 0.1] = np.nan
        columns = {"age": age, "bmi": bmi, "bp": bp, "region": region, "smoker": smoker, "female": female}
        tables[f"owner{place + 1}"] = pd.DataFrame(columns)
    return tables


def small_sample() -> Sample:
    """The small study's schema and tables."""
    return Sample(small_schema(), small_tables())
