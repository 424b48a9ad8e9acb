"""Covariances and correlations, from sums of products of integers.

Population quantities are estimated with ddof = 1, over the rows where all columns are present. Sums are exact, so that
n S12 - S1 S2 loses nothing here, unlike in floating point.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from veilstat.language.step import Answer, Opened, Request, Step
from veilstat.language.trace import Trace, Value, stack
from veilstat.language.wording import written
from veilstat.schema.schema import Schema

from .clipping import Clip, as_clip, refuse_clip
from .columns import SEALED, as_names, require_rows
from .interface import Form
from .private_covariance import PrivateCorrelation, PrivateCovariance
from .results import Result


@dataclass(frozen=True)
class Covariance:
    """The covariance matrix of numeric columns over the rows where all are present (ddof = 1).

    ``clip``, with privacy only: {column: (lower, upper)} to which values are moved.
    """

    name: ClassVar[str] = "covariance"
    column: tuple[str, ...]
    clip: Clip | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "column", as_names(self.column))
        object.__setattr__(self, "clip", as_clip(self.clip, self.column))

    def columns(self, schema: Schema) -> tuple[str, ...]:
        return tuple(schema.numeric(name).name for name in self.column)

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        return (Step("moments", self._contribution, self._combine),)

    def run(self, schema: Schema) -> Generator[Request, Opened, Result]:
        opened = yield Request("moments")
        steps = [float(schema[name].lattice_step) for name in self.column]
        matrix = opened["covariance"].astype(np.float64) * np.outer(steps, steps)
        return self._result(opened, matrix)

    def inferences(self, schema: Schema) -> tuple[str, ...]:
        return (
            f"means, variances, correlations and every regression among {', '.join(map(written, self.column))} over all owners together",
        )

    def private(self, schema: Schema) -> Form[Any]:
        return PrivateCovariance(self.column, self.clip)

    def _contribution(self, rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        refuse_clip(self.clip)
        vector = stack(rows.ones, *(rows.column(name) for name in self.column)) * rows.all_present(self.column)
        return {"rows": rows.ones.total(), "products": vector.inner(vector)}

    def _combine(self, totals: Mapping[str, Value], public: Mapping[str, Value]) -> dict[str, Value | Answer]:
        n, scatter = self._scatter(totals)
        return {"rows": totals["rows"], "n": n, "covariance": Answer(scatter / (n * (n - 1)), SEALED)}

    def _scatter(self, totals: Mapping[str, Value]) -> tuple[Value, Value]:
        """n, and n times the sums of products about the means: integers."""
        n, sums, products = totals["products"][0, 0], totals["products"][0, 1:], totals["products"][1:, 1:]
        first, second = self._pairs
        outer = sums[first] * sums[second]
        return n, n * products - outer

    @property
    def _pairs(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The row, and the column, of each element of the matrix."""
        first, second = np.indices((len(self.column), len(self.column)))
        return first, second

    def _result(self, opened: Opened, matrix: Any) -> Result:
        n, title = int(opened.number("n")), f"{self.name} of {', '.join(self.column)}"
        require_rows(n, title)
        frame = pd.DataFrame(matrix, index=list(self.column), columns=list(self.column))
        return Result(title=title, estimate=frame, n=n, n_missing=int(opened.number("rows")) - n)


@dataclass(frozen=True)
class Correlation(Covariance):
    """Pearson's correlation matrix of numeric columns over the rows where all are present.

    Its arithmetic ends with the squares r |r|, which are rational; servers open their roots, other architectures what
    they follow from.
    """

    name: ClassVar[str] = "correlation"

    def run(self, schema: Schema) -> Generator[Request, Opened, Result]:
        opened = yield Request("moments")
        squares = opened["squared correlations, with their signs"].astype(np.float64)
        return self._result(opened, np.sign(squares) * np.sqrt(np.abs(squares)))

    def private(self, schema: Schema) -> Form[Any]:
        return PrivateCorrelation(self.column, self.clip)

    def _combine(self, totals: Mapping[str, Value], public: Mapping[str, Value]) -> dict[str, Value | Answer]:
        n, scatter = self._scatter(totals)
        first, second = self._pairs
        diagonal = scatter[np.diag_indices(len(self.column))]
        magnitude = scatter.less(0).select(0 - scatter, scatter)
        signed = scatter * magnitude / (diagonal[first] * diagonal[second])
        return {"rows": totals["rows"], "n": n, "squared correlations, with their signs": Answer(signed, SEALED, rooted=True)}
