"""Covariances and correlations from cross-products with noise, projected to the matrices that can be covariances.

All columns are centred and stretched to one range, so that the whole triangle (rows, sums, products) is one block with noise
of one size: every number of it has the same range, and each enters the answer with a weight near one.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from veilstat.language.step import Opened, Request, Step
from veilstat.language.trace import Trace, Value
from veilstat.language.wording import written
from veilstat.schema.schema import Schema

from .clipping import Clip, Clipped, clip_codes, clipped_reason
from .columns import as_they_are
from .interface import NoiseError, Noises
from .private import LEAST_RATIO, Centred, NoisyMatrix, PrivateForm
from .private_moments import TOO_FEW_ROWS
from .scaling import Matrix, NoisyProducts, Scaling


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class NoisyCovariance(NoisyMatrix):
    """A covariance or correlation matrix with the noise's errors.

    ``projected``: noise had left it with negative eigenvalues, which were raised to 0.
    """

    projected: bool

    def notes(self) -> tuple[str, ...]:
        said = ("projected to the nearest positive semidefinite matrix, in units of the columns' bounds",) if self.projected else ()
        return (*super().notes(), *said)


@dataclass(frozen=True, slots=True)
class Spread:
    """Means and covariances (ddof = 1) that follow from cross-products [1, x] [1, x]' with noise."""

    products: NoisyProducts

    @property
    def means(self) -> Matrix:
        return self.products.matrix[0, 1:] / self.products.rows

    @property
    def covariance(self) -> Matrix:
        """As it follows; noise may have left it indefinite."""
        means, rows = self.means, self.products.rows
        covariance: Matrix = (self.products.matrix[1:, 1:] - rows * np.outer(means, means)) / (rows - 1)
        return covariance

    def covariance_errors(self) -> Matrix:
        """Standard deviations that noise gives to the covariances, by linearisation."""
        means, covariance = self.means, self.covariance
        squares = means**2
        in_rows = (np.outer(means, means) - covariance) ** 2
        variances = 1 + np.add.outer(squares, squares) + in_rows
        np.fill_diagonal(variances, 1 + 4 * squares + np.diag(in_rows))
        errors: Matrix = np.sqrt(variances) * self.products.noise / self.products.rows
        return errors

    def correlation_errors(self) -> Matrix:
        """The same for correlations; nan where a variance is less than ten times its error."""
        means, covariance, errors = self.means, self.covariance, self.covariance_errors()
        variances = np.diag(covariance)
        known = variances > LEAST_RATIO * np.diag(errors)
        size = len(means)
        result = np.zeros((size, size))
        for i in range(size):
            for k in range(i + 1, size):
                result[i, k] = result[k, i] = self._correlation_error(i, k) if known[i] and known[k] else math.nan
        return result

    def _correlation_error(self, i: int, k: int) -> float:
        """The gradient of r in the noise of (x_i x_k, x_i^2, x_k^2, x_i, x_k, 1), all of one size."""
        means, covariance = self.means, self.covariance
        v, w, c = covariance[i, i], covariance[k, k], covariance[i, k]
        scale, r, a, b = math.sqrt(v * w), c / math.sqrt(v * w), means[i], means[k]
        gradient = [
            1 / scale,
            -r / (2 * v),
            -r / (2 * w),
            -b / scale + r * a / v,
            -a / scale + r * b / w,
            (a * b - c) / scale - r * (a * a - v) / (2 * v) - r * (b * b - w) / (2 * w),
        ]
        return float(np.linalg.norm(gradient)) * self.products.noise / self.products.rows


def nearest_semidefinite(matrix: Matrix) -> Matrix:
    """The nearest positive semidefinite matrix in the Frobenius norm: negative eigenvalues become 0 (Higham 1988, Theorem 2.1)."""
    values, vectors = np.linalg.eigh(matrix)
    projected: Matrix = (vectors * np.maximum(values, 0)) @ vectors.T
    return projected


@dataclass(frozen=True)
class PrivateCovariance(PrivateForm):
    """``Covariance`` with noise; rows with missing values are not counted, as that would cost a part of the promise."""

    column: tuple[str, ...]
    clip: Clip | None

    word: ClassVar[str] = "covariance"

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        return (Step("moments", self._contribution, as_they_are),)

    def run(self, schema: Schema) -> Generator[Request, Opened, NoisyCovariance]:
        opened = yield Request("moments")
        products = NoisyProducts.of(opened, "products", self._scaling(schema).size)
        reason = clipped_reason(self._codes(schema))
        if not products.has_rows:
            return self._result(products, np.full((len(self.column),) * 2, math.nan), None, TOO_FEW_ROWS, False)
        spread = Spread(products)
        projected = bool(np.linalg.eigvalsh(spread.covariance).min() < 0)
        covariance = nearest_semidefinite(spread.covariance) if projected else spread.covariance
        if projected:
            reason = "noise had made an eigenvalue negative"
        return self._estimate(schema, spread, covariance, reason, projected)

    def expected(self, schema: Schema, noise: Noises) -> dict[str, NoiseError]:
        """At most, wherever means and covariances lie within their bounds: |2 m_i m_k - E x_i x_k| is at most 1 there."""
        units, single = self._units(schema), math.sqrt(noise["products"][0, 0]) / self._scaling(schema).size ** 2
        return {
            f"covariance of {written(first)} and {written(second)}": NoiseError(
                math.sqrt(6 if i == k else 4) * single * units[i] * units[k], over_rows=True
            )
            for i, first in enumerate(self.column)
            for k, second in enumerate(self.column[i:], start=i)
        }

    def _estimate(self, schema: Schema, spread: Spread, covariance: Matrix, reason: str | None, projected: bool) -> NoisyCovariance:
        units = self._units(schema)
        scale = np.outer(units, units)
        errors = None if reason else spread.covariance_errors() * scale
        return self._result(spread.products, covariance * scale, errors, reason, projected)

    def _result(
        self, products: NoisyProducts, matrix: Matrix, errors: Matrix | None, reason: str | None, projected: bool
    ) -> NoisyCovariance:
        names = list(self.column)
        return NoisyCovariance(
            title=f"{self.word} of {', '.join(names)}",
            estimate=pd.DataFrame(matrix, index=names, columns=names),
            n=round(products.rows),
            n_missing=None,
            std_error=None if errors is None else pd.DataFrame(errors, index=names, columns=names),
            freedom=math.inf,
            reason=None if reason is None else f"no intervals, since {reason}",
            projected=projected,
        )

    def _contribution(self, trace: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        rows = Clipped(trace, self._codes(trace.schema))
        columns = [rows.ones, *(rows.column(name) for name in self.column)]
        vector = self._scaling(trace.schema).vector(columns, rows.all_present(self.column))
        return {"products": vector.inner(vector)}

    def _codes(self, schema: Schema) -> dict[str, tuple[int, int]]:
        return clip_codes(self.clip, schema, self.column)

    def _scaling(self, schema: Schema) -> Scaling:
        columns = [Centred.of(schema, name, self._codes(schema)) for name in self.column]
        return Scaling.about_middles([(1, 1), *((column.low, column.high) for column in columns)])

    def _units(self, schema: Schema) -> Matrix:
        """The value in each column's unit of 1 in z / size."""
        steps = np.array([float(schema[name].lattice_step) for name in self.column])
        units: Matrix = steps / self._scaling(schema).stretch()[1:]
        return units


@dataclass(frozen=True)
class PrivateCorrelation(PrivateCovariance):
    """``Correlation`` with noise, of the projected covariance; NaN where a variance is not positive."""

    word: ClassVar[str] = "correlation"

    def expected(self, schema: Schema, noise: Noises) -> dict[str, NoiseError]:
        """Nothing: it depends on the variances."""
        return {}

    def _estimate(self, schema: Schema, spread: Spread, covariance: Matrix, reason: str | None, projected: bool) -> NoisyCovariance:
        variances = np.diag(covariance)
        roots = np.sqrt(np.where(variances > 0, variances, math.nan))
        correlation = np.clip(covariance / np.outer(roots, roots), -1, 1)
        errors = None if reason else spread.correlation_errors()
        if errors is not None and np.isnan(errors).any():
            reason = f"a variance is less than {LEAST_RATIO} times its noise"
        return self._result(spread.products, correlation, errors, reason, projected)
