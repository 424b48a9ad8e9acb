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
from typing import Any, ClassVar, TypeAlias

from veilstat.language.step import Opened, Request, Step
from veilstat.language.trace import Trace, Value, stack
from veilstat.language.wording import written
from veilstat.schema.schema import Schema

from .clipping import Clip, Clipped, clip_codes, clipped_reason
from .columns import OfColumns, as_they_are, flags
from .interface import NoiseError, Noises
from .private import LEAST_RATIO, LEAST_SPREAD, Centred, NoisyEstimate, PrivateForm, no_interval, presence_totals

TOO_FEW_ROWS = f"the number of rows is less than {LEAST_RATIO} times its noise"
Estimated: TypeAlias = "tuple[float, float, str | None]"
"""An estimate in units, its standard error, and why there is none."""


@dataclass(frozen=True, slots=True)
class NoisyMoments:
    """A column's n, sum, and sum of squares less ``offset`` each, with the variances of the noise in them."""

    totals: tuple[int, int, int]
    noise: tuple[Fraction, Fraction, Fraction]
    offset: int

    @staticmethod
    def of(opened: Opened, place: int, column: Centred) -> NoisyMoments:
        """What was opened of a column, at its place among the columns or levels."""
        keys = ("n", "sum", "squares")
        n, total, squares = (int(opened[key][place]) for key in keys)
        in_n, in_total, in_squares = (opened.noise[key][place] for key in keys)
        return NoisyMoments((n, total, squares), (in_n, in_total, in_squares), column.middle_square)

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


def noisy_mean(schema: Schema, column: Centred, moments: NoisyMoments) -> Estimated:
    """The mean in units, and the error of noise and sampling; nan where no rows are left."""
    half_step, mean = column.half_step(schema), moments.mean
    value = math.nan if mean is None else float(column.middle(schema) + half_step * mean)
    error, reason = moments.mean_error()
    return value, float(half_step) * error, reason


def expected_in_mean(schema: Schema, noise: Noises, place: int, column: Centred) -> NoiseError:
    """What noise adds to a mean in units, at most, wherever the mean lies within its bounds."""
    worst = noise["sum"][place] + column.width**2 * noise["n"][place]
    return NoiseError(float(column.half_step(schema)) * math.sqrt(worst), over_rows=True)


@dataclass(frozen=True)
class PrivateCount(OfColumns, PrivateForm):
    """``Count`` with noise: an integer that may be negative."""

    column: str | tuple[str, ...] | None
    missing: str | None

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        return (Step("count", self._contribution, as_they_are),)

    def run(self, schema: Schema) -> Generator[Request, Opened, NoisyEstimate]:
        opened = yield Request("count")
        n, n_missing = self.counted(opened["n"], opened["missing"]) if self.names else (int(opened.number("n")), 0)
        errors = [math.sqrt(variance) for variance in opened.noise["n"].reshape(-1)]
        return NoisyEstimate(
            title=self.titled("count"),
            estimate=n,
            n=n,
            n_missing=n_missing,
            std_error=self.by_column(errors),
            freedom=self.by_column([math.inf] * len(errors)),
        )

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

    word: ClassVar[str]
    _squares: ClassVar[bool] = True

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        return (Step("moments", self._contribution, as_they_are),)

    def run(self, schema: Schema) -> Generator[Request, Opened, NoisyEstimate]:
        opened = yield Request("moments")
        n, n_missing = self.counted(opened["n"], opened["missing"])
        codes = self._codes(schema)
        values, errors, reasons = [], [], []
        for place, column in enumerate(self._centred(schema)):
            value, error, reason = self._estimate(schema, opened, place, column)
            if column.name in codes:
                reason = clipped_reason({column.name: codes[column.name]})
            values.append(value)
            errors.append(math.nan if reason else error)
            reasons += [no_interval(column.name, reason)] if reason else []
        std_error = self.by_column(errors)
        return NoisyEstimate(
            title=self.titled(self.word),
            estimate=self.by_column(values),
            n=n,
            n_missing=n_missing,
            std_error=None if self.is_scalar and math.isnan(std_error) else std_error,
            freedom=self._freedom(n),
            reason="; ".join(reasons) or None,
        )

    def expected(self, schema: Schema, noise: Noises) -> dict[str, NoiseError]:
        """At most, wherever the values, or their mean, lie within their bounds."""
        columns = enumerate(self._centred(schema))
        return {f"{self.word} of {written(column.name)}": self._expected(schema, noise, place, column) for place, column in columns}

    def _estimate(self, schema: Schema, opened: Opened, place: int, column: Centred) -> Estimated:
        raise NotImplementedError

    def _expected(self, schema: Schema, noise: Noises, place: int, column: Centred) -> NoiseError:
        raise NotImplementedError

    def _freedom(self, n: Any) -> Any:
        """Noise of known variance: the normal distribution's quantiles."""
        return self.by_column([math.inf] * len(self.names))

    def _codes(self, schema: Schema) -> dict[str, tuple[int, int]]:
        return clip_codes(self.clip, schema, self.names)

    def _centred(self, schema: Schema) -> list[Centred]:
        codes = self._codes(schema)
        return [Centred.of(schema, name, codes) for name in self.names]

    def _contribution(self, trace: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        rows, present = Clipped(trace, self._codes(trace.schema)), flags(trace, self.names, self.missing)
        columns = list(zip(self._centred(trace.schema), present, strict=True))
        totals = {**presence_totals(present), "sum": stack(*((column.value(rows) * flag).total() for column, flag in columns))}
        if self._squares:
            totals["squares"] = stack(*((column.square(rows) * flag).total() for column, flag in columns))
        return totals


@dataclass(frozen=True)
class PrivateSum(_PrivateMoments):
    """``Sum`` with noise."""

    word: ClassVar[str] = "sum"
    _squares: ClassVar[bool] = False

    def _estimate(self, schema: Schema, opened: Opened, place: int, column: Centred) -> Estimated:
        value = column.middle(schema) * opened["n"][place] + column.half_step(schema) * opened["sum"][place]
        return float(value), self._expected(schema, opened.noise, place, column).error, None

    def _expected(self, schema: Schema, noise: Noises, place: int, column: Centred) -> NoiseError:
        variance = column.middle(schema) ** 2 * noise["n"][place] + column.half_step(schema) ** 2 * noise["sum"][place]
        return NoiseError(math.sqrt(variance))


@dataclass(frozen=True)
class PrivateMean(_PrivateMoments):
    """``Mean`` with noise: its intervals hold the rows' own variation and the noise, where both can be told."""

    word: ClassVar[str] = "mean"

    def _estimate(self, schema: Schema, opened: Opened, place: int, column: Centred) -> Estimated:
        return noisy_mean(schema, column, NoisyMoments.of(opened, place, column))

    def _expected(self, schema: Schema, noise: Noises, place: int, column: Centred) -> NoiseError:
        return expected_in_mean(schema, noise, place, column)

    def _freedom(self, n: Any) -> Any:
        return n - 1


@dataclass(frozen=True)
class PrivateVariance(_PrivateMoments):
    """``Variance`` with noise: intervals are for the variance of the rows that are there."""

    word: ClassVar[str] = "variance"

    def _estimate(self, schema: Schema, opened: Opened, place: int, column: Centred) -> Estimated:
        moments, unit = NoisyMoments.of(opened, place, column), float(column.half_step(schema)) ** 2
        if not moments.has_rows:
            return math.nan, math.nan, TOO_FEW_ROWS
        if moments.variance < 0:
            return 0.0, math.nan, "noise made the variance negative, and it was raised to 0"
        return float(moments.variance) * unit, math.sqrt(moments.noise_in_variance) * unit, None

    def _expected(self, schema: Schema, noise: Noises, place: int, column: Centred) -> NoiseError:
        square = column.width**2
        in_n, in_total, in_squares = (noise[key][place] for key in ("n", "sum", "squares"))
        worst = in_squares + 4 * square * in_total + (square + column.middle_square) ** 2 * in_n
        return NoiseError(float(column.half_step(schema)) ** 2 * math.sqrt(worst), over_rows=True)


@dataclass(frozen=True)
class PrivateStd(PrivateVariance):
    """``Std`` with noise, where the variance is at least ten times its error."""

    word: ClassVar[str] = "standard deviation"

    def expected(self, schema: Schema, noise: Noises) -> dict[str, NoiseError]:
        """Nothing: it depends on the variance."""
        return {}

    def _estimate(self, schema: Schema, opened: Opened, place: int, column: Centred) -> Estimated:
        variance, error, reason = super()._estimate(schema, opened, place, column)
        value = math.sqrt(variance)
        if reason is None and variance < LEAST_RATIO * error:
            reason = f"the variance is less than {LEAST_RATIO} times its noise"
        return value, error / (2 * value) if reason is None else math.nan, reason
