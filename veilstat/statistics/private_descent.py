"""Private gradient descent for linear regression: a fixed number of steps, each on a gradient with noise.

A row's gradient is its residual times its columns, whose norm is at most the root of their number once all lie within
[-1, 1]. Owners clip each row's *residual*, as an integer, so that the gradient's norm keeps to ``clip_norm``: its direction
stays, and what is descended is still a convex loss, Huber's (1964), which clipping coordinates would not be. The waist has
no norm of a row, and needs none for this.

No step depends on the data but through released gradients; all steps and the count of rows keep one promise together, by
composition in zCDP. Steps carry Nesterov's momentum of a fixed weight; the answer is the mean of the second half of the
iterates, which averages noise.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pandas as pd

from veilstat.language.step import Opened, Request, Step, WireType
from veilstat.language.trace import Trace, Value, stack
from veilstat.schema.schema import Schema

from .clipping import Clip, clipped_reason
from .columns import as_they_are
from .perturbed import PerturbedFit
from .private import PrivateForm, presence_totals
from .private_regression import NoisyLinearResult, noisy_result
from .scaled_design import ScaledDesign

CLIP_NORM, ITERATIONS, MOMENTUM = 1.0, 50, 0.8
_FINENESS = 1 << 16
"""Broadcast coefficients are multiples of 1 / 2^16, of which a column's whole range moves the response by half its range."""
_LARGEST = 8
NOT_ACCOUNTED = "the noise that a descent carries from step to step is not accounted for"


@dataclass(frozen=True)
class PrivateDescent(PrivateForm):
    """``LinearRegression`` by gradient descent with noise.

    Args:
        clip_norm: the largest norm of one row's gradient, where columns and response run from -1 to 1.
        iterations: how many gradients are opened. rate: step length; 1 / (number of terms) by default, which never diverges.
    """

    formula: str
    clip: Clip | None
    clip_norm: float
    iterations: int
    rate: float | None

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        size = len(self._scaled(schema).design.columns)
        wire = WireType((size,), Fraction(1), Fraction(-_LARGEST * _FINENESS), Fraction(_LARGEST * _FINENESS))
        return (
            Step("rows", self._rows_contribution, as_they_are),
            Step("gradient", self._gradient_contribution, as_they_are, public={"coefficients": wire}, at_most=self.iterations),
        )

    def run(self, schema: Schema) -> Generator[Request, Opened, NoisyLinearResult]:
        scaled = self._scaled(schema)
        size = len(scaled.design.columns)
        counted = yield Request("rows")
        rows = max(1, int(counted["n"][0]))
        unit = scaled.scaling.size**2 * _FINENESS
        rate = 1 / size if self.rate is None else self.rate
        iterates = [np.zeros(size), np.zeros(size)]
        for _ in range(self.iterations):
            ahead = np.clip(iterates[-1] + MOMENTUM * (iterates[-1] - iterates[-2]), -_LARGEST, _LARGEST)
            broadcast = np.array([round(value * _FINENESS) for value in ahead], dtype=object)
            opened = yield Request("gradient", {"coefficients": broadcast})
            gradient = (opened["gradient"] / unit).astype(np.float64) / rows
            iterates.append(broadcast.astype(np.float64) / _FINENESS - rate * gradient)
        return self._result(scaled, iterates[2:], rows, int(counted["missing"][0]))

    def _rows_contribution(self, rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        return presence_totals([rows.all_present(self._scaled(rows.schema).design.used)])

    def _gradient_contribution(self, rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        scaled = self._scaled(rows.schema)
        vector = scaled.vector(rows)
        residual = vector[scaled.terms.start :] @ stack(public["coefficients"], -_FINENESS)
        most = self._largest_residual(scaled.scaling.size, len(scaled.design.columns))
        return {"gradient": vector[scaled.terms].inner(residual.clip(-most, most))}

    def _result(self, scaled: ScaledDesign, iterates: list[npt.NDArray[np.float64]], rows: int, missing: int) -> NoisyLinearResult:
        half = iterates[len(iterates) // 2 :]
        fit = PerturbedFit(np.mean(half, axis=0), None, 0.0, NOT_ACCOUNTED)
        how = f"by {self.iterations} steps of private gradient descent"
        result = noisy_result(self.formula, scaled, fit, rows, clipped_reason(scaled.codes), how)
        matrix, shift = scaled.to_units()
        index = pd.RangeIndex(1, len(iterates) + 1, name="iteration")
        history = pd.DataFrame([matrix @ entry + shift for entry in iterates], index=index, columns=list(scaled.design.names))
        return replace(result, n_missing=missing, history=history, iterations=self.iterations)

    def _largest_residual(self, size: int, terms: int) -> int:
        """In integers: the columns' norm is at most sqrt(terms) size."""
        square = Fraction(self.clip_norm) ** 2 * (size * _FINENESS) ** 2 / terms
        return max(1, math.isqrt(math.floor(square)))

    def _scaled(self, schema: Schema) -> ScaledDesign:
        return ScaledDesign.of(self.formula, self.clip, schema)
