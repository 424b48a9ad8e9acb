"""Counts, sums, means, variances and standard deviations from totals with noise.

Counts, sums and sums of squares are one block of noise each, with equal parts of the promise: which of them matters most
depends on where the data lie within their bounds, which is not known beforehand. Errors are by linearisation (the delta
method), good where the number of rows is at least ten times its noise.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

from veilstat.language.step import NoiseError, Noises, Opened, Request, Step
from veilstat.language.trace import Trace, Value, stack
from veilstat.language.wording import written
from veilstat.schema.schema import Schema

from .clipping import Clip, Clipped, clip_codes, clipped_reason
from .columns import OfColumns, as_they_are, flags, number_or_series
from .private import (
    LEAST_RATIO,
    LEAST_SPREAD,
    Centred,
    NoisyEstimate,
    PrivateForm,
    no_interval,
    noise_freedom,
    noisy_counts,
    presence_totals,
)  # fmt: skip

TOO_FEW_ROWS = f"the number of rows is less than {LEAST_RATIO} times its noise"


@dataclass(frozen=True, slots=True)
class NoisyMoments:
    """A column's n, sum, and sum of squares less ``offset`` each, with the variances of the noise in them."""

    totals: tuple[int, int, int]
    noise: tuple[Fraction, Fraction, Fraction]
    offset: int

    @property
    def has_rows(self) -> bool:
        """Whether there are enough rows, beside their noise, to divide by."""
        n = self.totals[0]
        return n >= 2 and n * n >= LEAST_RATIO**2 * self.noise[0]

    @property
    def mean(self) -> Fraction | None:
        """None where no rows are left."""
        n, total, _ = self.totals
        return Fraction(total, n) if n > 0 else None

    @property
    def variance(self) -> Fraction:
        """With ddof = 1, for at least two rows; noise may make it negative."""
        n, total, squares = self.totals
        return (squares + self.offset * n - Fraction(total**2, n)) / (n - 1)

    @property
    def noise_in_mean(self) -> Fraction:
        """Its variance, by linearisation."""
        n, total, _ = self.totals
        in_n, in_total, _ = self.noise
        return (in_total + Fraction(total, n) ** 2 * in_n) / n**2

    @property
    def noise_in_variance(self) -> Fraction:
        """The variance that noise gives to the variance, by linearisation."""
        n, total, _ = self.totals
        in_n, in_total, in_squares = self.noise
        square = Fraction(total, n) ** 2
        return (in_squares + 4 * square * in_total + (square - self.variance + self.offset) ** 2 * in_n) / n**2

    def mean_error(self) -> tuple[float, str | None]:
        """The mean's standard error, of noise and sampling; or nan, and why."""
        if not self.has_rows:
            return math.nan, TOO_FEW_ROWS
        n = self.totals[0]
        whole = max(self.variance, Fraction(0)) / n + self.noise_in_mean
        if self.noise_in_variance * LEAST_SPREAD**2 > (whole * n) ** 2:
            return math.nan, "noise hides how much the values vary"
        return math.sqrt(whole), None


@dataclass(frozen=True)
class PrivateCount(OfColumns, PrivateForm):
    """``Count`` with noise: an integer that may be negative."""

    column: str | tuple[str, ...] | None
    missing: str | None

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        return (Step("count", self._contribution, as_they_are),)

    def run(self, schema: Schema) -> Generator[Request, Opened, NoisyEstimate]:
        opened = yield Request("count")
        n, n_missing = noisy_counts(opened, self.names, self.is_scalar) if self.names else (int(opened.number("n")), 0)
        errors = [math.sqrt(variance) for variance in opened.noise["n"].reshape(-1)]
        title = f"count of {', '.join(self.names)}" if self.names else "count of rows"
        error = number_or_series(errors, self.names, self.is_scalar)
        return NoisyEstimate(title=title, estimate=n, n=n, n_missing=n_missing, std_error=error, freedom=noise_freedom(error))

    def expected(self, schema: Schema, noise: Noises) -> dict[str, NoiseError]:
        variances = noise["n"].reshape(-1)
        names = [f"count of {written(name)}" for name in self.names] or ["count of rows"]
        return {name: NoiseError(math.sqrt(variance)) for name, variance in zip(names, variances, strict=True)}

    def _contribution(self, rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        return presence_totals(flags(rows, self.names, self.missing)) if self.names else {"n": rows.ones.total()}


@dataclass(frozen=True)
class _PrivateMoments(OfColumns, PrivateForm):
    column: str | tuple[str, ...]
    missing: str | None
    clip: Clip | None

    _squares: ClassVar[bool] = True

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        return (Step("moments", self._contribution, as_they_are),)

    def _codes(self, schema: Schema) -> dict[str, tuple[int, int]]:
        return clip_codes(self.clip, schema, self.names)

    def _centred(self, schema: Schema) -> list[Centred]:
        return [Centred.of(schema, name, self._codes(schema)) for name in self.names]

    def _contribution(self, trace: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        rows, present = Clipped(trace, self._codes(trace.schema)), flags(trace, self.names, self.missing)
        columns = list(zip(self._centred(trace.schema), present, strict=True))
        totals = {**presence_totals(present), "sum": stack(*((column.value(rows) * flag).total() for column, flag in columns))}
        if self._squares:
            totals["squares"] = stack(*((column.square(rows) * flag).total() for column, flag in columns))
        return totals

    def _moments(self, schema: Schema, opened: Opened) -> list[tuple[Centred, NoisyMoments]]:
        found = []
        for place, column in enumerate(self._centred(schema)):
            n, total, squares = (int(opened[key][place]) for key in ("n", "sum", "squares"))
            in_n, in_total, in_squares = (opened.noise[key][place] for key in ("n", "sum", "squares"))
            found.append((column, NoisyMoments((n, total, squares), (in_n, in_total, in_squares), column.middle_square)))
        return found

    def _result(
        self, schema: Schema, opened: Opened, word: str, values: list[float], errors: list[float], reasons: list[str | None], freedom: Any
    ) -> NoisyEstimate:
        n, n_missing = noisy_counts(opened, self.names, self.is_scalar)
        codes = self._codes(schema)
        why = [clipped_reason({name: codes[name]}) if name in codes else reason for name, reason in zip(self.names, reasons, strict=True)]
        error = number_or_series(
            [math.nan if reason else value for value, reason in zip(errors, why, strict=True)], self.names, self.is_scalar
        )
        return NoisyEstimate(
            title=f"{word} of {', '.join(self.names)}",
            estimate=number_or_series(values, self.names, self.is_scalar),
            n=n,
            n_missing=n_missing,
            std_error=None if self.is_scalar and math.isnan(error) else error,
            freedom=n - 1 if freedom is None else freedom,
            reason="; ".join(no_interval(name, reason) for name, reason in zip(self.names, why, strict=True) if reason) or None,
        )


@dataclass(frozen=True)
class PrivateSum(_PrivateMoments):
    """``Sum`` with noise."""

    _squares: ClassVar[bool] = False

    def run(self, schema: Schema) -> Generator[Request, Opened, NoisyEstimate]:
        opened = yield Request("moments")
        values, errors = [], []
        for place, column in enumerate(self._centred(schema)):
            values.append(float(column.middle(schema) * opened["n"][place] + column.half_step(schema) * opened["sum"][place]))
            errors.append(self._error(schema, column, opened.noise, place))
        freedom = noise_freedom(number_or_series(errors, self.names, self.is_scalar))
        return self._result(schema, opened, "sum", values, errors, [None] * len(values), freedom)

    def expected(self, schema: Schema, noise: Noises) -> dict[str, NoiseError]:
        columns = self._centred(schema)
        return {
            f"sum of {written(column.name)}": NoiseError(self._error(schema, column, noise, place)) for place, column in enumerate(columns)
        }

    def _error(self, schema: Schema, column: Centred, noise: Noises, place: int) -> float:
        return math.sqrt(column.middle(schema) ** 2 * noise["n"][place] + column.half_step(schema) ** 2 * noise["sum"][place])


@dataclass(frozen=True)
class PrivateMean(_PrivateMoments):
    """``Mean`` with noise: its intervals hold the rows' own variation and the noise, where both can be told."""

    def run(self, schema: Schema) -> Generator[Request, Opened, NoisyEstimate]:
        opened = yield Request("moments")
        values: list[float] = []
        errors, reasons = [], []
        for column, moments in self._moments(schema, opened):
            error, reason = moments.mean_error()
            half_step, mean = column.half_step(schema), moments.mean
            values.append(math.nan if mean is None else float(column.middle(schema) + half_step * mean))
            errors.append(float(half_step) * error)
            reasons.append(reason)
        return self._result(schema, opened, "mean", values, errors, reasons, None)

    def expected(self, schema: Schema, noise: Noises) -> dict[str, NoiseError]:
        """At most, wherever the mean lies within its bounds."""
        return {
            f"mean of {written(column.name)}": NoiseError(
                float(column.half_step(schema)) * math.sqrt(noise["sum"][place] + column.width**2 * noise["n"][place]), over_rows=True
            )
            for place, column in enumerate(self._centred(schema))
        }


@dataclass(frozen=True)
class PrivateVariance(_PrivateMoments):
    """``Variance`` with noise: intervals are for the variance of the rows that are there."""

    word: ClassVar[str] = "variance"

    def run(self, schema: Schema) -> Generator[Request, Opened, NoisyEstimate]:
        opened = yield Request("moments")
        values, errors, reasons = [], [], []
        for column, moments in self._moments(schema, opened):
            value, error, reason = self._estimate(moments, float(column.half_step(schema)))
            values.append(value)
            errors.append(error)
            reasons.append(reason)
        freedom = noise_freedom(number_or_series(errors, self.names, self.is_scalar))
        return self._result(schema, opened, self.word, values, errors, reasons, freedom)

    def expected(self, schema: Schema, noise: Noises) -> dict[str, NoiseError]:
        """At most, wherever the values lie within their bounds."""
        found = {}
        for place, column in enumerate(self._centred(schema)):
            square = column.width**2
            in_n, in_total, in_squares = (noise[key][place] for key in ("n", "sum", "squares"))
            worst = in_squares + 4 * square * in_total + (square + column.middle_square) ** 2 * in_n
            found[f"variance of {written(column.name)}"] = NoiseError(
                float(column.half_step(schema)) ** 2 * math.sqrt(worst), over_rows=True
            )
        return found

    def _estimate(self, moments: NoisyMoments, unit: float) -> tuple[float, float, str | None]:
        """The estimate in units, its error, and why there is none."""
        if not moments.has_rows:
            return math.nan, math.nan, TOO_FEW_ROWS
        if moments.variance < 0:
            return 0.0, math.nan, "noise made the variance negative, and it was raised to 0"
        return float(moments.variance) * unit**2, math.sqrt(moments.noise_in_variance) * unit**2, None


@dataclass(frozen=True)
class PrivateStd(PrivateVariance):
    """``Std`` with noise, where the variance is at least ten times its error."""

    word: ClassVar[str] = "standard deviation"

    def expected(self, schema: Schema, noise: Noises) -> dict[str, NoiseError]:
        """Nothing: it depends on the variance."""
        return {}

    def _estimate(self, moments: NoisyMoments, unit: float) -> tuple[float, float, str | None]:
        variance, error, reason = super()._estimate(moments, unit)
        value = math.sqrt(variance)
        if reason is None and variance < LEAST_RATIO * error:
            reason = f"the variance is less than {LEAST_RATIO} times its noise"
        return value, error / (2 * value) if reason is None else math.nan, reason
