"""Counts, sums and means from totals with noise: the same queries, with errors and intervals that account for it.

Columns are centred at the middle of their bounds before they are summed, which halves what a row can change.
Where the noise is too large for an honest interval there is none, and the result says why.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pandas as pd

from veilstat.language.schema import Schema
from veilstat.language.step import Opened, Request, Step
from veilstat.language.trace import Trace, Value, stack

from .columns import as_names, counts, flags, in_units, number_or_series
from .results import EstimateWithError

LEAST_RATIO = 10
"""Rows by which a mean is divided are at least this many times their noise; the error's own error at most one part in as many."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class NoisyEstimate(EstimateWithError):
    """Estimates under differential privacy: ``std_error`` includes the noise; ``reason`` says why an interval is absent, or None.

    Counts and sums describe the rows that are there, so noise is their only error; means describe a population.
    """

    reason: str | None = None

    def notes(self) -> tuple[str, ...]:
        privacy = self.privacy
        promise = (
            ()
            if privacy is None
            else (f"(epsilon {privacy.epsilon:g}, delta {privacy.delta:g})-differentially private, per {privacy.unit}",)
        )
        return (*super().notes(), *promise, *(() if self.reason is None else (self.reason,)))


@dataclass(frozen=True)
class PrivateCount:
    """``Count`` with noise: an integer that may be negative."""

    column: str | tuple[str, ...] | None
    missing: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, in order."""
        return () if self.column is None else as_names(self.column)

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        def contribution(rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
            present = flags(rows, self.names, self.missing) or [rows.ones]
            return {"rows": rows.ones.total(), "n": stack(*(flag.total() for flag in present))}

        return (Step("count", contribution, lambda totals, public: totals),)

    def run(self, schema: Schema) -> Generator[Request, Opened, NoisyEstimate]:
        opened = yield Request("count")
        scalar = not isinstance(self.column, tuple)
        n, n_missing = counts(opened, self.names, scalar)
        errors = [math.sqrt(variance) for variance in opened.noise["n"]]
        title = f"count of {', '.join(self.names)}" if self.names else "count of rows"
        error = number_or_series(errors, self.names, scalar)
        return NoisyEstimate(title=title, estimate=n, n=n, n_missing=n_missing, std_error=error, freedom=_freedom(error))

    def inferences(self, schema: Schema) -> tuple[str, ...]:
        return ("nothing about one row beyond the promise",)


@dataclass(frozen=True)
class _PrivateMoments:
    column: str | tuple[str, ...]
    missing: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, in order."""
        return as_names(self.column)

    def inferences(self, schema: Schema) -> tuple[str, ...]:
        return ("nothing about one row beyond the promise",)

    @property
    def _scalar(self) -> bool:
        return isinstance(self.column, str)

    def _centred(self, rows: Trace, schema: Schema) -> tuple[list[Value], list[Value]]:
        present = flags(rows, self.names, self.missing)
        return present, [(rows.column(name) - _middle(schema, name)) * flag for name, flag in zip(self.names, present, strict=True)]


@dataclass(frozen=True)
class PrivateSum(_PrivateMoments):
    """``Sum`` with noise."""

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        def contribution(rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
            present, values = self._centred(rows, schema)
            return {
                "rows": rows.ones.total(),
                "n": stack(*(flag.total() for flag in present)),
                "sum": stack(*(value.total() for value in values)),
            }

        return (Step("sums", contribution, lambda totals, public: totals),)

    def run(self, schema: Schema) -> Generator[Request, Opened, NoisyEstimate]:
        opened = yield Request("sums")
        n, n_missing = counts(opened, self.names, self._scalar)
        sums, errors = [], []
        for place, name in enumerate(self.names):
            centre, step = in_units(schema, name, _middle(schema, name)), schema[name].lattice_step
            sums.append(centre * opened["n"][place] + step * opened["sum"][place])
            errors.append(math.sqrt(centre**2 * opened.noise["n"][place] + step**2 * opened.noise["sum"][place]))
        error = number_or_series(errors, self.names, self._scalar)
        return NoisyEstimate(
            title=f"sum of {', '.join(self.names)}",
            estimate=number_or_series(sums, self.names, self._scalar),
            n=n,
            n_missing=n_missing,
            std_error=error,
            freedom=_freedom(error),
        )


@dataclass(frozen=True)
class PrivateMean(_PrivateMoments):
    """``Mean`` with noise: its intervals hold the rows' own variation and the noise, where both can be told."""

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        def contribution(rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
            present, values = self._centred(rows, schema)
            return {
                "rows": rows.ones.total(),
                "n": stack(*(flag.total() for flag in present)),
                "sum": stack(*(value.total() for value in values)),
                "squares": stack(*(value.inner(value) for value in values)),
            }

        return (Step("moments", contribution, lambda totals, public: totals),)

    def run(self, schema: Schema) -> Generator[Request, Opened, NoisyEstimate]:
        opened = yield Request("moments")
        n, n_missing = counts(opened, self.names, self._scalar)
        means, errors, reasons = [], [], []
        for place, name in enumerate(self.names):
            totals = [int(opened[key][place]) for key in ("n", "sum", "squares")]
            mean, error, reason = noisy_mean(totals, [opened.noise[key][place] for key in ("n", "sum", "squares")])
            means.append(float("nan") if mean is None else in_units(schema, name, _middle(schema, name) + mean))
            errors.append(float(schema[name].lattice_step) * error)
            reasons += [] if reason is None else [f"{name}: no interval, since {reason}"]
        error = number_or_series(errors, self.names, self._scalar)
        return NoisyEstimate(
            title=f"mean of {', '.join(self.names)}",
            estimate=number_or_series(means, self.names, self._scalar),
            n=n,
            n_missing=n_missing,
            std_error=None if self._scalar and math.isnan(error) else error,
            freedom=n - 1,
            reason="; ".join(reasons) or None,
        )


def noisy_mean(totals: list[int], noise: list[Fraction]) -> tuple[Fraction | None, float, str | None]:
    """A mean from noisy n, sum and sum of squares, with its standard error by linearisation.

    Args:
        totals: n, sum, sum of squares. noise: the variance of the noise in each.

    Returns:
        The mean, None where no rows are left; its standard error, nan where it cannot be told; the reason for that.
    """
    (n, total, squares), (in_n, in_total, in_squares) = totals, noise
    if n < 2 or n * n < LEAST_RATIO**2 * in_n:
        return Fraction(total, n) if n > 0 else None, float("nan"), f"the number of rows is less than {LEAST_RATIO} times its noise"
    mean = Fraction(total, n)
    variance = (squares - total * mean) / (n - 1)
    from_noise = (in_total + mean**2 * in_n) / n**2
    whole = max(variance, Fraction(0)) / n + from_noise
    in_variance = (in_squares + 4 * mean**2 * in_total + (mean**2 - variance) ** 2 * in_n) / n**2
    if in_variance * LEAST_RATIO**2 > (whole * n) ** 2:
        return mean, float("nan"), "noise hides how much the values vary"
    return mean, math.sqrt(whole), None


def _middle(schema: Schema, name: str) -> int:
    return schema[name].top // 2


def _freedom(error: Any) -> Any:
    """Noise of known variance: the normal distribution's quantiles."""
    return pd.Series(math.inf, index=error.index) if isinstance(error, pd.Series) else math.inf
