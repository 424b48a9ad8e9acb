"""Histograms, crosstabs and means by category with noise: each row is in one cell, so all cells together cost what one does."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from veilstat.language.step import Opened, Request, Step
from veilstat.language.trace import Trace, Value, stack
from veilstat.language.wording import written
from veilstat.schema.schema import Schema

from .clipping import Clip, Clipped, clip_codes, clipped_reason
from .columns import as_they_are, level_index, one_hot
from .interface import NoiseError, Noises
from .private import Centred, NoisyEstimate, NoisyMatrix, PrivateForm, no_interval
from .private_moments import NoisyMoments, expected_in_mean, noisy_mean


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class NoisyHistogram(NoisyEstimate):
    """Noisy counts by bin; ``edges`` as numpy's, ``below`` and ``above`` count what lies outside them."""

    edges: npt.NDArray[np.float64]
    below: int
    above: int


@dataclass(frozen=True)
class PrivateHistogram(PrivateForm):
    """``Histogram`` with noise: integers that may be negative.

    Args:
        values: 1 for the bin of each row, from below the edges to above them; all 0 where the column is missing.
    """

    column: str
    edges: tuple[float, ...]
    values: Callable[[Trace], Value]

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        return (Step("counts", self._contribution, as_they_are),)

    def run(self, schema: Schema) -> Generator[Request, Opened, NoisyHistogram]:
        opened = yield Request("counts")
        below, *inside, above = (int(count) for count in opened["counts"])
        labels = bin_labels(self.edges)
        error = math.sqrt(opened.noise["counts"][0])
        return NoisyHistogram(
            title=f"histogram of {self.column}",
            estimate=pd.Series(inside, index=labels, name="count"),
            n=below + sum(inside) + above,
            n_missing=int(opened.number("missing")),
            std_error=pd.Series(error, index=labels),
            freedom=pd.Series(math.inf, index=labels),
            edges=np.array(self.edges),
            below=below,
            above=above,
        )

    def expected(self, schema: Schema, noise: Noises) -> dict[str, NoiseError]:
        return {"each bin": NoiseError(math.sqrt(noise["counts"][0]))}

    def _contribution(self, rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        counts = stack(1 - rows.present(self.column), self.values(rows)).total()
        return {"missing": counts[0], "counts": counts[1:]}


@dataclass(frozen=True)
class PrivateCrosstab(PrivateForm):
    """``Crosstab`` with noise: integers that may be negative.

    Missing values are a level more of each column, so that each row is in one cell.
    """

    row: str
    column: str

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        return (Step("counts", self._contribution, as_they_are),)

    def run(self, schema: Schema) -> Generator[Request, Opened, NoisyMatrix]:
        opened = yield Request("counts")
        whole = opened["counts"].astype(np.int64)
        counts = whole[1:, 1:]
        return NoisyMatrix(
            title=f"crosstab of {self.row} and {self.column}",
            estimate=pd.DataFrame(counts, index=level_index(schema, self.row), columns=level_index(schema, self.column)),
            n=int(counts.sum()),
            n_missing=int(whole.sum() - counts.sum()),
            std_error=math.sqrt(opened.noise["counts"][0, 0]),
            freedom=math.inf,
        )

    def expected(self, schema: Schema, noise: Noises) -> dict[str, NoiseError]:
        return {"each cell": NoiseError(math.sqrt(noise["counts"][0, 0]))}

    def _contribution(self, rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        first, second = (stack(1 - rows.present(name), one_hot(rows, name)) for name in (self.row, self.column))
        return {"counts": first.inner(second)}


@dataclass(frozen=True)
class PrivateMeanBy(PrivateForm):
    """``MeanBy`` with noise: a row is in one level, so that all levels together cost what one mean does."""

    column: str
    by: str
    clip: Clip | None

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        return (Step("moments", self._contribution, as_they_are),)

    def run(self, schema: Schema) -> Generator[Request, Opened, NoisyEstimate]:
        opened = yield Request("moments")
        column, clipped = self._centred(schema), clipped_reason(self._codes(schema))
        levels = level_index(schema, self.by)
        n = pd.Series([int(count) for count in opened["n"]], index=levels, name="n")
        means, errors, reasons = [], [], []
        for place, level in enumerate(levels):
            mean, error, reason = noisy_mean(schema, column, NoisyMoments.of(opened, place, column))
            reason = clipped or reason
            means.append(mean)
            errors.append(math.nan if reason else error)
            reasons += [no_interval(level, reason)] if reason else []
        return NoisyEstimate(
            title=f"mean of {self.column} by {self.by}",
            estimate=pd.Series(means, index=levels, name=self.column),
            n=n,
            n_missing=int(opened.number("missing")),
            std_error=pd.Series(errors, index=levels),
            freedom=n.clip(lower=1) - 1,
            reason="; ".join(reasons) or None,
        )

    def expected(self, schema: Schema, noise: Noises) -> dict[str, NoiseError]:
        """At most, wherever a level's mean lies within its bounds; over the rows of the level."""
        return {f"each level's mean of {written(self.column)}": expected_in_mean(schema, noise, 0, self._centred(schema))}

    def _contribution(self, trace: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        rows, column = Clipped(trace, self._codes(trace.schema)), self._centred(trace.schema)
        levels, present = one_hot(trace, self.by), rows.present(self.column)
        counts = stack(1 - rows.all_present((self.column, self.by)), levels * present).total()
        return {
            "missing": counts[0],
            "n": counts[1:],
            "sum": levels.inner(column.value(rows) * present),
            "squares": levels.inner(column.square(rows) * present),
        }

    def _codes(self, schema: Schema) -> dict[str, tuple[int, int]]:
        return clip_codes(self.clip, schema, (self.column,))

    def _centred(self, schema: Schema) -> Centred:
        return Centred.of(schema, self.column, self._codes(schema))


def bin_labels(edges: tuple[float, ...]) -> list[str]:
    """Names of bins with numpy's conventions: [a, b), and [a, b] for the last one."""
    last = len(edges) - 2
    return [f"[{a:g}, {b:g}{']' if place == last else ')'}" for place, (a, b) in enumerate(pairwise(edges))]
