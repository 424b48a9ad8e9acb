"""A regression's design in integers of one size, for noise of one size, and the way back to units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from veilstat.language.trace import Trace, Value
from veilstat.schema.schema import Schema

from .clipping import Clip, Clipped, clip_codes
from .design import Design, DesignColumn, make_design
from .scaling import Matrix, Scaling


@dataclass(frozen=True, slots=True)
class ScaledDesign:
    """The constant, the columns and the response about the middles of their bounds, all within [-size, size].

    Without an intercept nothing takes up a shift: columns keep their zeros, and the constant only counts rows.

    Args:
        design: the columns. codes: those to which columns of the schema are clipped.
    """

    design: Design
    codes: Mapping[str, tuple[int, int]]

    @staticmethod
    def of(formula: str, clip: Clip | None, schema: Schema) -> ScaledDesign:
        """The design of a formula; SchemaError where formula or clip does not fit the schema."""
        design = make_design(formula, schema)
        return ScaledDesign(design, clip_codes(clip, schema, design.used))

    @property
    def has_intercept(self) -> bool:
        """Whether the first column, as formulas order them, is the constant."""
        return self.design.columns[0].is_one

    @property
    def terms(self) -> slice:
        """Where the design's columns stand in the vector; the response stands last."""
        return slice(0 if self.has_intercept else 1, -1)

    @property
    def scaling(self) -> Scaling:
        """Of the constant, the columns but an intercept, and the response, in this order."""
        rows = Clipped(Trace(self.design.schema, 1), self.codes)
        bounds = [(1, 1), *(self._bounds(rows, column) for column in self._columns)]
        return Scaling.about_middles(bounds) if self.has_intercept else Scaling.about_zero(bounds)

    def vector(self, trace: Trace) -> Value:
        """The integers of every row, 0 where one of the columns is missing."""
        rows = Clipped(trace, self.codes)
        columns = [self.design.integers(rows, column) for column in self._columns]
        return self.scaling.vector([rows.ones, *columns], rows.all_present(self.design.used))

    def to_units(self) -> tuple[Matrix, Matrix]:
        """(A, d): coefficients in units are A b + d for coefficients b of z / size."""
        scaling = self.scaling
        stretch, middles = scaling.stretch() / scaling.stretch()[-1], scaling.middles()
        matrix, shift = np.diag(stretch[self.terms]), np.zeros(len(self.design.columns))
        if self.has_intercept:
            matrix[0, 1:] = -(middles * stretch)[1:-1]
            shift[0] = middles[-1]
        units, offset = (part.astype(np.float64) for part in self.design.to_units())
        return units @ matrix, units @ shift + offset

    @property
    def _columns(self) -> list[DesignColumn]:
        return [*(column for column in self.design.columns if not column.is_one), self.design.response]

    def _bounds(self, rows: Clipped, column: DesignColumn) -> tuple[int, int]:
        node = self.design.integers(rows, column).node
        assert node.bounds is not None and node.scale is not None
        return int(node.scale * node.bounds.low), int(node.scale * node.bounds.high)
