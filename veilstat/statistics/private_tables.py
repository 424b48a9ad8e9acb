"""Histograms and crosstabs from counts with noise: each row is in one cell, so all cells together cost what one count does."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from veilstat.language.schema import Schema
from veilstat.language.step import Opened, Request, Step

from .distributions import t_quantile
from .private import NoisyEstimate


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class NoisyHistogram(NoisyEstimate):
    """Noisy counts by bin; ``edges`` as numpy's, ``below`` and ``above`` count what lies outside them."""

    edges: npt.NDArray[np.float64]
    below: int
    above: int


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class NoisyCrosstab(NoisyEstimate):
    """Noisy counts of pairs of levels; ``std_error`` is the same in every cell."""

    def conf_int(self, alpha: float = 0.05) -> Any:
        """(lower, upper), DataFrames of the same shape."""
        half = t_quantile(1 - alpha / 2, math.inf) * self.std_error
        return (self.estimate - half, self.estimate + half)

    def to_frame(self) -> pd.DataFrame:
        frame: pd.DataFrame = self.estimate.copy()
        return frame


@dataclass(frozen=True)
class PrivateHistogram:
    """``Histogram`` with noise: integers that may be negative. ``step`` opens rows and counts."""

    column: str
    edges: tuple[float, ...]
    step: Step

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        return (self.step,)

    def run(self, schema: Schema) -> Generator[Request, Opened, NoisyHistogram]:
        opened = yield Request(self.step.label)
        below, *inside, above = (int(count) for count in opened["counts"])
        n = below + sum(inside) + above
        labels = bin_labels(self.edges)
        error = math.sqrt(opened.noise["counts"][0])
        return NoisyHistogram(
            title=f"histogram of {self.column}",
            estimate=pd.Series(inside, index=labels, name="count"),
            n=n,
            n_missing=int(opened.number("rows")) - n,
            std_error=pd.Series(error, index=labels),
            freedom=pd.Series(math.inf, index=labels),
            edges=np.array(self.edges),
            below=below,
            above=above,
        )

    def inferences(self, schema: Schema) -> tuple[str, ...]:
        return ("nothing about one row beyond the promise",)


@dataclass(frozen=True)
class PrivateCrosstab:
    """``Crosstab`` with noise: integers that may be negative. ``step`` opens rows and counts."""

    row: str
    column: str
    step: Step

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        return (self.step,)

    def run(self, schema: Schema) -> Generator[Request, Opened, NoisyCrosstab]:
        opened = yield Request(self.step.label)
        counts = opened["counts"].astype(np.int64)
        n = int(counts.sum())
        rows, columns = pd.Index(schema.levels(self.row), name=self.row), pd.Index(schema.levels(self.column), name=self.column)
        return NoisyCrosstab(
            title=f"crosstab of {self.row} and {self.column}",
            estimate=pd.DataFrame(counts, index=rows, columns=columns),
            n=n,
            n_missing=int(opened.number("rows")) - n,
            std_error=math.sqrt(opened.noise["counts"][0, 0]),
            freedom=math.inf,
        )

    def inferences(self, schema: Schema) -> tuple[str, ...]:
        return ("nothing about one row beyond the promise",)


def bin_labels(edges: tuple[float, ...]) -> list[str]:
    """Names of bins with numpy's conventions: [a, b), and [a, b] for the last one."""
    last = len(edges) - 2
    return [f"[{a:g}, {b:g}{']' if place == last else ')'}" for place, (a, b) in enumerate(pairwise(edges))]
