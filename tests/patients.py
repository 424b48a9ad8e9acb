"""The columns of studies in which answers carry noise: a count of years, a number with a step, levels, and yes or no."""

import veilstat as vs


def patients_schema(max_rows):
    """At most so many rows for each owner."""
    return vs.Schema(
        vs.Integer("age", lower=0, upper=120),
        vs.Continuous("bmi", lower=10, upper=70, step=0.1),
        vs.Categorical("sex", levels=["female", "male"]),
        vs.Binary("smoker"),
        max_rows=max_rows,
    )
