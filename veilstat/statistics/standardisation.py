"""How a descent scales the columns of its design, and the way back to units.

With e the integer columns of the design, each below 2^b, f = e 2^-b lies in [0, 1]. With opened means m and standard
deviations (inverse q) a step is that of standardised columns z = (f - m) q, whose gradient bounds the curvature by the number
of columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from veilstat.errors import SchemaError
from veilstat.language.step import Opened
from veilstat.language.trace import Trace, Value, stack

from .design import Design, DesignColumn

LATTICE = Fraction(1, 2**40)
"""The grid of all that is broadcast."""
LARGEST_INVERSE = Fraction(2**30)
MOMENTS, BOUNDS = "moments", "bounds"
LINEAR, LOGISTIC = "linear", "logistic"


@dataclass(frozen=True, slots=True)
class Scales:
    """Centres and inverse scales of f and y, and the coefficients to begin with: multiples of the lattice."""

    centre: npt.NDArray[np.object_]
    inverse: npt.NDArray[np.object_]
    response_inverse: Fraction
    start: npt.NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class Standardisation:
    """Public facts of a design, and scales for it.

    Args:
        loss: "linear" or "logistic". by: "moments", "bounds" or None.
    """

    design: Design
    loss: str
    by: str | None

    @property
    def intercept(self) -> int | None:
        """The place of the column of ones, if there is one."""
        return next((place for place, column in enumerate(self.design.columns) if column.is_one), None)

    @property
    def widths(self) -> list[int]:
        """B for each column."""
        return [0 if column.is_one else self.design.top(column).bit_length() for column in self.design.columns]

    @property
    def response_scale(self) -> Fraction:
        """What the response's integer is multiplied by."""
        return Fraction(1) if self.loss == LOGISTIC else Fraction(1, 2 ** self.design.top(self.design.response).bit_length())

    @property
    def curvature(self) -> Fraction:
        """A bound on the largest eigenvalue of X'X / n in scaled units, for a response of unit scale."""
        columns = self.design.columns
        if self.by is not None:
            return Fraction(1 + sum(not column.is_one for column in columns))
        largest = (max(abs(column.offset), abs(column.offset + column.unit * self.design.top(column))) for column in columns)
        return 1 + sum((value**2 for value in largest), start=Fraction(0))

    def contribution(self, rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        """Counts of rows, and the moments of each column where these set the scale."""
        _, y = self.design.trace(rows)
        weight = rows.all_present(self.design.used)
        totals = {"rows": rows.ones.total(), "n": weight.total()}
        if self.by == MOMENTS:
            columns = [self.design.integers(rows, column) * weight for column in self.design.columns if not column.is_one]
            if columns:
                totals |= {"sums": stack(*columns).total(), "squares": stack(*(column.inner(column) for column in columns))}
            totals |= {"response": y.total(), "response_squares": y.inner(y)}
        return totals

    def scales(self, opened: Opened, n: int) -> Scales:
        """The scales that follow from what the contribution's totals opened.

        Raises:
            SchemaError: a column does not vary, or hardly.
        """
        columns, widths, one = self.design.columns, self.widths, self.intercept
        centre, inverse, start = [Fraction(0)] * len(columns), [Fraction(1)] * len(columns), [Fraction(0)] * len(columns)
        others = [place for place, column in enumerate(columns) if not column.is_one]
        for position, place in enumerate(others):
            scale = Fraction(1, 2 ** widths[place])
            if self.by == MOMENTS:
                mean, square = Fraction(opened["sums"][position], n) * scale, Fraction(opened["squares"][position], n) * scale**2
                centre[place] = mean if one is not None else Fraction(0)
                inverse[place] = _inverse_root(square - centre[place] ** 2, columns[place])
            elif self.by == BOUNDS:
                inverse[place] = 1 / (self.design.top(columns[place]) * scale)
            else:
                inverse[place] = columns[place].unit / scale
                centre[place] = -columns[place].offset / columns[place].unit * scale if one is not None else Fraction(0)
        response = Fraction(1)
        if self.loss == LINEAR:
            response = self._response_inverse(opened, n)
            if self.by == MOMENTS and one is not None:
                start[one] = Fraction(opened.number("response"), n) * self.response_scale
        vectors = [np.array([_rounded(value) for value in part], dtype=object) for part in (centre, inverse, start)]
        return Scales(vectors[0], vectors[1], _rounded(response), vectors[2])

    def _response_inverse(self, opened: Opened, n: int) -> Fraction:
        scale = self.response_scale
        if self.by == MOMENTS:
            mean, square = Fraction(opened.number("response"), n) * scale, Fraction(opened.number("response_squares"), n) * scale**2
            return _inverse_root(square - (mean**2 if self.intercept is not None else 0), self.design.response)
        if self.by == BOUNDS:
            return 1 / (self.design.top(self.design.response) * scale)
        return self.design.response.unit / scale

    def total(self, opened: Opened, n: int) -> Any:
        """The response's sum of squares, about its mean where the design has a constant; None where it was not opened."""
        if "response" not in opened:
            return None
        squares = Fraction(opened.number("response_squares"))
        return squares - Fraction(opened.number("response")) ** 2 / n if self.design.constant is not None else squares

    def in_units(self, coefficients: npt.NDArray[Any]) -> pd.Series:
        """Coefficients of f as coefficients in units."""
        factors = [Fraction(1, 2**bits) / self.response_scale for bits in self.widths]
        codes = np.array([Fraction(value) * factor for value, factor in zip(coefficients, factors, strict=True)], dtype=object)
        matrix, shift = self.design.to_units()
        values = matrix @ codes + shift if self.loss == LINEAR else matrix @ codes / self.design.response.unit
        return pd.Series(values.astype(np.float64), index=list(self.design.names))


def _inverse_root(variance: Fraction, column: DesignColumn) -> Fraction:
    if variance <= 0:
        raise SchemaError(f"term {column.name!r} does not vary over the owners' rows; remove it", code="singular_design")
    inverse = Fraction(float(variance) ** -0.5)
    if inverse > LARGEST_INVERSE:
        raise SchemaError(
            f"term {column.name!r} hardly varies within its bounds; narrow the bounds of its columns in the schema",
            code="singular_design",
        )
    return inverse


def _rounded(value: Fraction) -> Fraction:
    return LATTICE * round(value / LATTICE)
