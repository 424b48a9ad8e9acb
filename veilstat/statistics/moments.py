"""Counts, sums, means, variances and standard deviations, from sums of integers.

Population quantities are estimated with ddof = 1. Sums are exact, so the textbook formula
(n S2 - S1^2) / (n (n - 1)) loses nothing here, unlike in floating point.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from veilstat.language.step import Answer, Opened, Request, Step
from veilstat.language.trace import Trace, Value, stack
from veilstat.language.wording import written
from veilstat.schema.schema import Schema

from .clipping import Clip, as_clip, refuse_clip
from .columns import LISTWISE, SEALED, OfColumns, as_names, as_they_are, check_missing, flags, in_units, require_rows, root
from .interface import Form
from .private_moments import PrivateCount, PrivateMean, PrivateStd, PrivateSum, PrivateVariance
from .results import EstimateWithError, Result


@dataclass(frozen=True)
class Count(OfColumns):
    """How many rows there are, or how many have a value in each of some columns.

    Args:
        column: one column, several, or None to count rows.
        missing: None counts each column by itself, "listwise" the rows where all are present.
    """

    name: ClassVar[str] = "count"
    column: str | tuple[str, ...] | None = None
    missing: str | None = None

    def __post_init__(self) -> None:
        if self.column is not None and not isinstance(self.column, str):
            object.__setattr__(self, "column", as_names(self.column))
        check_missing(self.missing)

    def columns(self, schema: Schema) -> tuple[str, ...]:
        return tuple(schema[name].name for name in self.names)

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        return (Step("count", self._contribution, as_they_are),)

    def run(self, schema: Schema) -> Generator[Request, Opened, Result]:
        opened = yield Request("count")
        n, n_missing = self.counted(opened["n"], opened.number("rows") - opened["n"])
        return Result(title=self.titled("count"), estimate=n, n=n, n_missing=n_missing)

    def inferences(self, schema: Schema) -> tuple[str, ...]:
        return ("how many rows all owners have together",)

    def private(self, schema: Schema) -> Form[Any]:
        return PrivateCount(self.column, self.missing)

    def _contribution(self, rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        present = flags(rows, self.names, self.missing) or [rows.ones]
        return {"rows": rows.ones.total(), "n": stack(*(flag.total() for flag in present))}


@dataclass(frozen=True)
class _Moments(OfColumns):
    """Statistics of one or several numeric columns, each over its own rows unless ``missing='listwise'``.

    ``clip``, with privacy only: {column: (lower, upper)} to which values are moved; (lower, upper) for one column.
    """

    column: str | tuple[str, ...]
    missing: str | None = None
    clip: Clip | None = None

    _powers: ClassVar[int] = 2

    def __post_init__(self) -> None:
        names = as_names(self.column)
        object.__setattr__(self, "column", self.column if isinstance(self.column, str) else names)
        object.__setattr__(self, "clip", as_clip(self.clip, names))
        check_missing(self.missing)

    def columns(self, schema: Schema) -> tuple[str, ...]:
        return tuple(schema.numeric(name).name for name in self.names)

    def inferences(self, schema: Schema) -> tuple[str, ...]:
        known = "counts, sums and sums of squares" if self._powers > 1 else "counts and sums"
        return (f"whatever follows from {known} of {', '.join(map(written, self.names))} over all owners together",)

    def _contribution(self, rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        refuse_clip(self.clip)
        present = flags(rows, self.names, self.missing)
        values = [
            rows.column(name) * flag if self.missing == LISTWISE else rows.column(name)
            for name, flag in zip(self.names, present, strict=True)
        ]
        totals = {
            "rows": rows.ones.total(),
            "n": stack(*(flag.total() for flag in present)),
            "sum": stack(*(value.total() for value in values)),
            "squares": stack(*(value.inner(value) for value in values)),
        }
        return totals if self._powers > 1 else {key: total for key, total in totals.items() if key != "squares"}

    def _require_rows(self, opened: Opened, word: str) -> None:
        for name, count in zip(self.names, opened["n"], strict=True):
            require_rows(count, f"{word} of {name!r}")


@dataclass(frozen=True)
class Sum(_Moments):
    """The total of a numeric column, or of several."""

    name: ClassVar[str] = "sum"
    _powers: ClassVar[int] = 1

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        return (Step("sums", self._contribution, as_they_are),)

    def run(self, schema: Schema) -> Generator[Request, Opened, Result]:
        opened = yield Request("sums")
        n, n_missing = self.counted(opened["n"], opened.number("rows") - opened["n"])
        sums = [
            schema[name].origin * count + schema[name].lattice_step * codes
            for name, count, codes in zip(self.names, opened["n"], opened["sum"], strict=True)
        ]
        return Result(title=self.titled("sum"), estimate=self.by_column(sums), n=n, n_missing=n_missing)

    def private(self, schema: Schema) -> Form[Any]:
        return PrivateSum(self.column, self.missing, self.clip)


def _moments(totals: Mapping[str, Value], public: Mapping[str, Value]) -> dict[str, Value | Answer]:
    mean = totals["sum"] / totals["n"]
    return {"rows": totals["rows"], "n": totals["n"], "mean": Answer(mean, SEALED), "variance": Answer(_variance(totals), SEALED)}


def _spread(totals: Mapping[str, Value], public: Mapping[str, Value]) -> dict[str, Value | Answer]:
    """The variance, whose root is opened where it is not the totals."""
    return {"rows": totals["rows"], "n": totals["n"], "variance": Answer(_variance(totals), SEALED, rooted=True)}


def _variance(totals: Mapping[str, Value]) -> Value:
    n, total = totals["n"], totals["sum"]
    return (n * totals["squares"] - total * total) / (n * (n - 1))


@dataclass(frozen=True)
class Mean(_Moments):
    """The mean of a numeric column, or of several, with standard errors and Student's t intervals."""

    name: ClassVar[str] = "mean"

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        return (Step("moments", self._contribution, _moments),)

    def run(self, schema: Schema) -> Generator[Request, Opened, EstimateWithError]:
        opened = yield Request("moments")
        self._require_rows(opened, "mean")
        n, n_missing = self.counted(opened["n"], opened.number("rows") - opened["n"])
        means = [in_units(schema, name, code) for name, code in zip(self.names, opened["mean"], strict=True)]
        errors = [
            float(schema[name].lattice_step) * root(variance / count)
            for name, variance, count in zip(self.names, opened["variance"], opened["n"], strict=True)
        ]
        error = self.by_column(errors)
        return EstimateWithError(
            title=self.titled("mean"),
            estimate=self.by_column(means),
            n=n,
            n_missing=n_missing,
            std_error=None if self.is_scalar and np.isnan(error) else error,
            freedom=n - 1,
        )

    def private(self, schema: Schema) -> Form[Any]:
        return PrivateMean(self.column, self.missing, self.clip)


@dataclass(frozen=True)
class Variance(_Moments):
    """The variance of a numeric column, or of several (ddof = 1)."""

    name: ClassVar[str] = "variance"
    word: ClassVar[str] = "variance"

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        return (Step("moments", self._contribution, _moments),)

    def run(self, schema: Schema) -> Generator[Request, Opened, Result]:
        opened = yield Request("moments")
        self._require_rows(opened, self.word)
        n, n_missing = self.counted(opened["n"], opened.number("rows") - opened["n"])
        variances = zip(self.names, opened["variance"], strict=True)
        values = [self._of_variance(variance * schema[name].lattice_step ** 2) for name, variance in variances]
        return Result(title=self.titled(self.word), estimate=self.by_column(values), n=n, n_missing=n_missing)

    def private(self, schema: Schema) -> Form[Any]:
        return PrivateVariance(self.column, self.missing, self.clip)

    def _of_variance(self, variance: Any) -> float:
        """What is asked, from a variance in units."""
        return float(variance)


@dataclass(frozen=True)
class Std(Variance):
    """The standard deviation of a numeric column, or of several (ddof = 1)."""

    name: ClassVar[str] = "std"
    word: ClassVar[str] = "standard deviation"

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        return (Step("moments", self._contribution, _spread),)

    def private(self, schema: Schema) -> Form[Any]:
        return PrivateStd(self.column, self.missing, self.clip)

    def _of_variance(self, variance: Any) -> float:
        return root(variance)
