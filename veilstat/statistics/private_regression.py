"""Private linear regression from cross-products with noise."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from veilstat.language.step import Opened, Request, Step
from veilstat.language.trace import Trace, Value
from veilstat.schema.schema import Schema

from .clipping import Clip, clipped_reason
from .columns import as_they_are
from .perturbed import PerturbedFit, PerturbedProducts
from .private import PrivateForm, promised
from .private_moments import TOO_FEW_ROWS
from .regression_results import LinearResult
from .scaled_design import ScaledDesign
from .scaling import NoisyProducts


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class NoisyLinearResult(LinearResult):
    """Least squares under differential privacy: errors include the noise; ``reason`` says why there are none, or None.

    ``ridge`` is what was added to the diagonal of X'X, in rows. Sums of squares, R^2, F and likelihoods are None: what noise
    does to them is not accounted for.
    """

    reason: str | None
    ridge: float

    def _facts(self) -> list[tuple[str, str]]:
        """A fixed number of iterations says nothing of convergence."""
        return [fact for fact in super()._facts() if fact[0] != "Converged"]

    def notes(self) -> tuple[str, ...]:
        lines = tuple(line for line in super().notes() if not line.startswith("no standard errors"))
        ridge = () if self.ridge == 0 else (f"ridge {self.ridge:.4g} rows, towards the middle of the columns' bounds",)
        why = () if self.reason is None else (f"no standard errors and intervals, since {self.reason}",)
        absent = ("no sums of squares, R-squared, F and likelihood: noise in them is not accounted for",)
        return (*lines, *promised(self.privacy), *ridge, *why, *absent)


def noisy_result(formula: str, scaled: ScaledDesign, fit: PerturbedFit, rows: float, reason: str | None, how: str) -> NoisyLinearResult:
    """A result in units from coefficients of z / size.

    Args:
        reason: why there are no intervals, besides the fit's own. how: the words that end the title.
    """
    (matrix, shift), design = scaled.to_units(), scaled.design
    why = reason or fit.reason
    covariance = None if why or fit.covariance is None else matrix @ fit.covariance @ matrix.T
    return NoisyLinearResult(
        title=f"linear regression of {formula}, {how}",
        estimate=pd.Series(matrix @ fit.coefficients + shift, index=list(design.names)),
        n=round(rows),
        n_missing=None,
        design=design,
        variances=None if covariance is None else np.diag(covariance).copy(),
        covariance=covariance,
        llf=None,
        rss=None,
        tss=None,
        reason=why,
        ridge=fit.ridge,
    )


@dataclass(frozen=True)
class PrivateRegression(PrivateForm):
    """``LinearRegression`` by normal equations with noise.

    The constant, the columns and the response are stretched to one range, and the triangle of their cross-products is one
    block with noise of one size: each number of it has the same range and enters the coefficients alike.

    Args:
        estimator: "adassp" adds the ridge that the noise needs, none where X'X is well above it; "ssp" solves as it is.
    """

    formula: str
    clip: Clip | None
    estimator: str

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        return (Step("moments", self._contribution, as_they_are),)

    def run(self, schema: Schema) -> Generator[Request, Opened, NoisyLinearResult]:
        opened = yield Request("moments")
        scaled = self._scaled(schema)
        products = NoisyProducts.of(opened, "products", scaled.scaling.size)
        matrix, terms = products.matrix, scaled.terms
        perturbed = PerturbedProducts(matrix[terms, terms], matrix[terms, -1], float(matrix[-1, -1]), products.rows, products.noise)
        reason = clipped_reason(scaled.codes) or (None if products.has_rows else TOO_FEW_ROWS)
        return noisy_result(self.formula, scaled, perturbed.fit(self.estimator), products.rows, reason, f"by {self.estimator.upper()}")

    def _contribution(self, rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        vector = self._scaled(rows.schema).vector(rows)
        return {"products": vector.inner(vector)}

    def _scaled(self, schema: Schema) -> ScaledDesign:
        return ScaledDesign.of(self.formula, self.clip, schema)
