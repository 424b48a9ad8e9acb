"""Least squares from perturbed sufficient statistics: coefficients, and errors that include the noise's known covariance.

With independent noise of standard deviation t on the upper triangle of [X y]'[X y], the normal equations' residual at the
true coefficients b has, from noise, the covariance t^2 ((1 + |b|^2) I + b b' - diag(b^2)): a number off the diagonal of X'X
enters two equations. To that comes sampling, s^2 X'X. Errors are by linearisation in both, for noise that is small beside
X'X: where its smallest eigenvalue exceeds ten times t.

AdaSSP (Wang, UAI 2018, Algorithm 2) adds a ridge just large enough that X'X + ridge is well above the noise. There the
smallest eigenvalue is released with a third of the promise. Owners cannot add up eigenvalues, so here it is read off the
released X'X, for nothing: by Weyl's inequality it moves by at most the noise's operator norm, which exceeds
t sqrt(d log(2 d^2 / 0.05)) about once in twenty times for d = 1 and more rarely for more columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .private import LEAST_RATIO, LEAST_SPREAD
from .scaling import Matrix

SSP, ADASSP = "ssp", "adassp"
ESTIMATORS = (ADASSP, SSP)
_MISSED = 0.05


@dataclass(frozen=True, slots=True)
class PerturbedFit:
    """Coefficients and their covariance, None where there is an honest ``reason`` to give none.

    ``ridge``: what was added to the diagonal of X'X.
    """

    coefficients: Matrix
    covariance: Matrix | None
    ridge: float
    reason: str | None


@dataclass(frozen=True, slots=True)
class PerturbedProducts:
    """X'X (p, p), X'y (p,), y'y and the number of rows; ``noise``: the standard deviation on each number of the triangle."""

    xx: Matrix
    xy: Matrix
    yy: float
    rows: float
    noise: float

    def fit(self, estimator: str) -> PerturbedFit:
        """Solve by "ssp", as it is, or by "adassp", with the ridge that the noise needs."""
        size = len(self.xy)
        smallest = float(np.linalg.eigvalsh(self.xx)[0])
        ridge = self._ridge(smallest) if estimator == ADASSP else 0.0
        if smallest + ridge <= 0:
            return PerturbedFit(np.full(size, math.nan), None, ridge, "noise has left X'X without a unique solution")
        inverse = np.linalg.inv(self.xx + ridge * np.eye(size))
        coefficients: Matrix = inverse @ self.xy
        equations = self.equations_noise(coefficients)
        squares = self.yy - 2 * float(coefficients @ self.xy) + float(coefficients @ self.xx @ coefficients)
        variance = max(0.0, squares + float(np.sum(inverse * equations))) / max(1.0, self.rows - size)
        reason = self._reason(smallest, ridge, variance, 1 + float(coefficients @ coefficients))
        covariance = None if reason else inverse @ (variance * self.xx + equations) @ inverse
        return PerturbedFit(coefficients, covariance, ridge, reason)

    def _ridge(self, smallest: float) -> float:
        size = len(self.xy)
        norm = self.noise * math.sqrt(size * math.log(2 * size**2 / _MISSED))
        return max(0.0, norm - max(0.0, smallest - norm))

    def equations_noise(self, coefficients: Matrix) -> Matrix:
        """Covariance of what noise does to X'y - X'X b, beside b."""
        outer = np.outer(coefficients, coefficients)
        np.fill_diagonal(outer, 1 + coefficients @ coefficients)
        covariance: Matrix = self.noise**2 * outer
        return covariance

    def _reason(self, smallest: float, ridge: float, variance: float, scale: float) -> str | None:
        """Why there are no errors: noise in X'X, bias, or noise in the residuals' variance of more than a quarter of the whole."""
        if not smallest > LEAST_RATIO * self.noise:
            return f"the smallest eigenvalue of X'X does not exceed {LEAST_RATIO} times its noise"
        if ridge > 0:
            return "the ridge that the noise needs shrinks the coefficients"
        if LEAST_SPREAD * self.noise * scale > variance * self.rows + self.noise**2 * scale:
            return "noise hides how much the response varies about the fit"
        return None
