"""What private forms share: results whose errors include the noise, counts of present and missing rows, centred columns.

Columns are centred at the middle of their bounds before they are summed or squared, which is what makes the most that
one row can change small. Where the noise is too large for an honest interval there is none, and the result says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pandas as pd

from veilstat.language.trace import Value, stack
from veilstat.schema.quoting import quoted
from veilstat.schema.schema import Schema

from .clipping import RowColumns
from .columns import check_number, in_units
from .distributions import t_quantile
from .results import EstimateWithError

LEAST_RATIO = 10
"""Whatever is divided by is at least this many times its noise, so that linearisation holds."""
LEAST_SPREAD = 4
"""Where an error's square rests on a noisy variance, noise makes it at most a quarter larger or smaller, the error an eighth."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class NoisyEstimate(EstimateWithError):
    """Estimates under differential privacy: ``std_error`` includes the noise; ``reason`` says why an interval is absent, or None.

    Means describe a population. All else describes the rows that are there, as the exact query would: noise is its only error.
    """

    reason: str | None = None

    def notes(self) -> tuple[str, ...]:
        return (*super().notes(), *promised(self.privacy), *(() if self.reason is None else (self.reason,)))


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class NoisyMatrix(NoisyEstimate):
    """Estimates in a DataFrame; ``std_error`` is one too, or one number for every cell."""

    def conf_int(self, alpha: float = 0.05) -> Any:
        """(lower, upper), DataFrames of the same shape; None without standard errors."""
        check_number("alpha", alpha, 0, 1)
        if self.std_error is None:
            return None
        half = t_quantile(1 - alpha / 2, math.inf) * self.std_error
        return (self.estimate - half, self.estimate + half)

    def to_frame(self) -> pd.DataFrame:
        frame: pd.DataFrame = self.estimate.copy()
        return frame


def promised(privacy: Any) -> tuple[str, ...]:
    """What a result says of its promise."""
    if privacy is None:
        return ()
    return (f"(epsilon {privacy.epsilon:g}, delta {privacy.delta:g})-differentially private, per {privacy.unit}",)


class PrivateForm:
    """What all private forms say can be inferred."""

    def inferences(self, schema: Schema) -> tuple[str, ...]:
        return ("what follows from these numbers, which have noise; the promise bounds it, whatever else is known",)


@dataclass(frozen=True, slots=True)
class Centred:
    """A column about the middle of its bounds, in half steps: the integer 2 code - (low + high), at most ``width`` in magnitude.

    Args:
        name: the column. low, high: its least and largest code.
    """

    name: str
    low: int
    high: int

    @staticmethod
    def of(schema: Schema, name: str, codes: Mapping[str, tuple[int, int]]) -> Centred:
        """A column within its bounds, or within those to which it is clipped."""
        return Centred(name, *codes.get(name, (0, schema[name].top)))

    @property
    def width(self) -> int:
        return self.high - self.low

    @property
    def middle_square(self) -> int:
        """The middle of the squares' range, at which they are centred in turn."""
        return self.width**2 // 2

    def value(self, rows: RowColumns) -> Value:
        """The integer of each row, before missing ones are left out."""
        code = rows.column(self.name)
        return code + code - (self.low + self.high)

    def square(self, rows: RowColumns) -> Value:
        """Its square less ``middle_square``."""
        value = self.value(rows)
        return value * value - self.middle_square

    def middle(self, schema: Schema) -> Fraction:
        """The value in units that stands at 0."""
        return Fraction(in_units(schema, self.name, Fraction(self.low + self.high, 2)))

    def half_step(self, schema: Schema) -> Fraction:
        """The distance in units that stands for 1."""
        return schema[self.name].lattice_step / 2


def presence_totals(present: Sequence[Value]) -> dict[str, Value]:
    """Totals of rows where each column is missing, and where it is present.

    A row counts in one of the two, so both together cost what one count does.
    """
    pairs = [stack(1 - flag, flag).total() for flag in present]
    return {"missing": stack(*(pair[0] for pair in pairs)), "n": stack(*(pair[1] for pair in pairs))}


def no_interval(name: object, reason: str) -> str:
    """Why a column, or a level, has no interval."""
    return f"{quoted(name)}: no interval, since {reason}"
