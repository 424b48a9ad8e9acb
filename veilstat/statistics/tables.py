"""Counts and means by category: histograms, crosstabs, and means within the levels of a column."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from veilstat.errors import CapabilityError, SchemaError
from veilstat.language.step import Answer, Opened, Request, Step
from veilstat.language.trace import Trace, Value, stack
from veilstat.schema.encoding import exact
from veilstat.schema.schema import Schema

from .clipping import Clip, as_clip, refuse_clip
from .columns import SEALED, as_they_are, check_missing, in_units, level_index, one_hot, require_rows, root
from .interface import Form
from .private_tables import PrivateCrosstab, PrivateHistogram, PrivateMeanBy, bin_labels
from .results import EstimateWithError, Result
from .suppression import HIDDEN, check_fewest, hidden_cells, hidden_levels

MOST_BINS = 10_000


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class HistogramResult(Result):
    """Counts by bin; ``edges`` as numpy's, ``below`` and ``above`` count what lies outside them."""

    edges: npt.NDArray[np.float64]
    below: int
    above: int


@dataclass(frozen=True)
class Histogram:
    """How many values fall between edges, with numpy's conventions: [a, b), and [a, b] for the last bin.

    Args:
        column: a numeric column.
        bins: edges in increasing order, or a number of equal bins over the column's bounds. Edges are public.
        missing: None or "listwise", which are the same for one column.
    """

    name: ClassVar[str] = "histogram"
    column: str
    bins: int | tuple[float, ...] = 10
    missing: str | None = None

    def __post_init__(self) -> None:
        check_missing(self.missing)
        if isinstance(self.bins, (bool, np.bool_)):
            raise SchemaError("bins must be a number of bins, or edges in increasing order", code="bad_bins")
        if isinstance(self.bins, (int, np.integer)):
            if not 1 <= self.bins <= MOST_BINS:
                raise SchemaError(f"there can be 1 to {MOST_BINS:,} bins", code="bad_bins")
            object.__setattr__(self, "bins", int(self.bins))
            return
        try:
            edges = tuple(float(edge) for edge in self.bins)
        except (TypeError, ValueError, OverflowError):
            raise SchemaError("bins must be a number of bins, or edges in increasing order", code="bad_bins") from None
        if not 2 <= len(edges) <= MOST_BINS + 1 or not all(a < b for a, b in pairwise(edges)) or not np.isfinite(edges).all():
            raise SchemaError("bins need at least two finite edges in increasing order", code="bad_bins")
        object.__setattr__(self, "bins", edges)

    def columns(self, schema: Schema) -> tuple[str, ...]:
        return (schema.numeric(self.column).name,)

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        return (Step("counts", self._contribution, as_they_are),)

    def run(self, schema: Schema) -> Generator[Request, Opened, HistogramResult]:
        opened = yield Request("counts")
        edges = self._edges(schema)
        below, *inside, above = (int(count) for count in opened["counts"])
        n = below + sum(inside) + above
        require_rows(n, f"histogram of {self.column!r}")
        return HistogramResult(
            title=f"histogram of {self.column}",
            estimate=pd.Series(inside, index=bin_labels(edges), name="count"),
            n=n,
            n_missing=int(opened.number("rows")) - n,
            edges=np.array(edges),
            below=below,
            above=above,
        )

    def inferences(self, schema: Schema) -> tuple[str, ...]:
        return ("small counts can point to single rows, above all at the ends; nothing is suppressed",)

    def private(self, schema: Schema) -> Form[Any]:
        return PrivateHistogram(self.column, self._edges(schema), self._bins)

    def _contribution(self, rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        return {"rows": rows.ones.total(), "counts": self._bins(rows).total()}

    def _bins(self, rows: Trace) -> Value:
        """For each bin, from below the edges to above them, 1 in its rows; all 0 where missing. The last edge is in the bin before it."""
        column = rows.schema[self.column]
        places = [(exact(edge) - column.origin) / column.lattice_step for edge in self._edges(rows.schema)]
        codes = [*map(math.ceil, places[:-1]), math.floor(places[-1]) + 1]
        under = rows.column(self.column).less([min(max(code, 0), column.top + 1) for code in codes]) * rows.present(self.column)
        return stack(under, rows.present(self.column)) - stack(0, under)

    def _edges(self, schema: Schema) -> tuple[float, ...]:
        if not isinstance(self.bins, int):
            return self.bins
        column = schema[self.column]
        low, high = float(column.origin), float(column.origin + column.lattice_step * column.top)
        return tuple(float(edge) for edge in np.linspace(low, high, self.bins + 1))


@dataclass(frozen=True)
class Crosstab:
    """How many rows have each pair of levels of two columns.

    Args:
        row, column: two categorical or binary columns.
        min_cell: cells with fewer rows are hidden before anything is opened, and others with them so that they do not
            follow from totals; for architectures that can compare. None hides nothing.
    """

    name: ClassVar[str] = "crosstab"
    row: str
    column: str
    min_cell: int | None = None

    def __post_init__(self) -> None:
        check_fewest(self.min_cell)

    def columns(self, schema: Schema) -> tuple[str, ...]:
        names = (schema[self.row].name, schema[self.column].name)
        if names[0] == names[1]:
            raise SchemaError("a crosstab needs two different columns", code="bad_columns")
        for name in names:
            schema.levels(name)
        return names

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        return (Step("counts", self._contribution, self._combine),)

    def run(self, schema: Schema) -> Generator[Request, Opened, Result]:
        opened = yield Request("counts")
        counts = opened["counts"].astype(np.int64)
        n = int(counts.sum()) if self.min_cell is None else int(opened.number("n"))
        require_rows(n, f"crosstab of {self.row!r} and {self.column!r}")
        frame = pd.DataFrame(counts, index=level_index(schema, self.row), columns=level_index(schema, self.column))
        if self.min_cell is not None:
            frame = frame.astype("Int64").mask(frame == HIDDEN)
        return Result(title=f"crosstab of {self.row} and {self.column}", estimate=frame, n=n, n_missing=int(opened.number("rows")) - n)

    def inferences(self, schema: Schema) -> tuple[str, ...]:
        if self.min_cell is not None:
            return ("which cells are hidden; other queries may narrow down what they hold",)
        return ("small counts can point to single rows; nothing is suppressed",)

    def private(self, schema: Schema) -> Form[Any]:
        if self.min_cell is not None:
            raise CapabilityError("noise hides small cells already; leave out min_cell= with privacy=", code="no_private_form")
        return PrivateCrosstab(self.row, self.column)

    def _contribution(self, rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        first, second = one_hot(rows, self.row), one_hot(rows, self.column)
        return {"rows": rows.ones.total(), "counts": first.inner(second)}

    def _combine(self, totals: Mapping[str, Value], public: Mapping[str, Value]) -> Mapping[str, Value | Answer]:
        if self.min_cell is None:
            return totals
        counts = totals["counts"]
        shown = hidden_cells(counts, self.min_cell).select(HIDDEN, counts)
        return {"rows": totals["rows"], "n": counts.sum(), "counts": Answer(shown, guarded=True)}


@dataclass(frozen=True)
class MeanBy:
    """The mean of a numeric column within each level of another, with standard errors.

    Rows where either is missing are left out; a level without rows has the mean NaN.

    Args:
        column: a numeric column. by: a categorical or binary one.
        min_cell: levels with fewer rows are hidden before anything is opened, and another one with them where their
            values would follow from totals; for architectures that can compare. None hides nothing.
        clip: with privacy only: (lower, upper), to which values are moved.
    """

    name: ClassVar[str] = "mean_by"
    column: str
    by: str
    min_cell: int | None = None
    clip: Clip | None = None

    def __post_init__(self) -> None:
        check_fewest(self.min_cell)
        object.__setattr__(self, "clip", as_clip(self.clip, (self.column,)))

    def columns(self, schema: Schema) -> tuple[str, ...]:
        names = (schema[self.column].name, schema[self.by].name)
        if names[0] == names[1]:
            raise SchemaError("a column cannot be grouped by itself; group it by another one", code="bad_columns")
        schema.levels(self.by)
        return (schema.numeric(self.column).name, self.by)

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        return (Step("moments", self._contribution, self._combine),)

    def run(self, schema: Schema) -> Generator[Request, Opened, EstimateWithError]:
        opened = yield Request("moments")
        levels = level_index(schema, self.by)
        n = pd.Series([int(count) for count in opened["counts"]], index=levels, name="n")
        total = int(opened.number("n"))
        require_rows(total, f"mean of {self.column!r} by {self.by!r}")
        step = float(schema[self.column].lattice_step)
        means = [float(in_units(schema, self.column, mean)) for mean in opened["mean"]]
        errors = [
            step * root(variance / count) if count > 1 else float("nan") for variance, count in zip(opened["variance"], n, strict=True)
        ]
        return EstimateWithError(
            title=f"mean of {self.column} by {self.by}",
            estimate=pd.Series(means, index=levels, name=self.column),
            n=n if self.min_cell is None else n.astype("Int64").mask(n == HIDDEN),
            n_missing=int(opened.number("rows")) - total,
            std_error=pd.Series(errors, index=levels),
            freedom=n.clip(lower=0) - 1,
        )

    def inferences(self, schema: Schema) -> tuple[str, ...]:
        if self.min_cell is not None:
            return ("which levels are hidden; other queries may narrow down what they hold",)
        return ("a level with one row shows that row's value, one with two rows shows both; nothing is suppressed",)

    def private(self, schema: Schema) -> Form[Any]:
        if self.min_cell is not None:
            raise CapabilityError("noise hides small levels already; leave out min_cell= with privacy=", code="no_private_form")
        return PrivateMeanBy(self.column, self.by, self.clip)

    def _contribution(self, rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        refuse_clip(self.clip)
        value = rows.column(self.column)
        powers = stack(rows.present(self.column), value, value * value)
        return {"rows": rows.ones.total(), "powers": one_hot(rows, self.by).inner(powers)}

    def _combine(self, totals: Mapping[str, Value], public: Mapping[str, Value]) -> dict[str, Value | Answer]:
        n, total, squares = (totals["powers"][:, place] for place in range(3))
        if self.min_cell is None:
            shown, guarded = n, False
        else:
            hidden, guarded = hidden_levels(n, self.min_cell), True
            shown = n * (1 - hidden)
        variance = (n * squares - total * total) / (shown * (n - 1))
        return {
            "rows": totals["rows"],
            "counts": Answer(shown if self.min_cell is None else hidden.select(HIDDEN, n), guarded=guarded),
            "n": n.sum(),
            "mean": Answer(total / shown, SEALED, guarded=guarded),
            "variance": Answer(variance, SEALED, guarded=guarded),
        }
