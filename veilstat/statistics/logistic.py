"""Logistic regression by gradient descent, with standard errors from the information matrix at the end."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from veilstat.errors import CapabilityError, SchemaError
from veilstat.language.evaluate import SingularMatrix
from veilstat.language.step import Opened, Request, Step
from veilstat.schema.schema import Schema

from .columns import check_option
from .descent import GRADIENT_DESCENT, Descent, Fit, Settings
from .design import Design, collinear, make_design
from .regression_results import LogisticResult
from .solve import solve
from .standardisation import LOGISTIC


@dataclass(frozen=True)
class LogisticRegression:
    """Maximum likelihood for a 0/1 response over the rows where all columns of the formula are present.

    Args:
        formula: such as "smoker ~ age + bmi".
        method: "gradient_descent": one gradient per iteration, then the information matrix.
        standardise, rate, acceleration, tolerance, max_iterations: see ``Settings``.
    """

    name: ClassVar[str] = "logistic_regression"
    formula: str
    method: str = "irls"
    standardise: str | None = "moments"
    rate: float | None = None
    acceleration: str | None = "nesterov"
    tolerance: float = 1e-8
    max_iterations: int = 1000

    def __post_init__(self) -> None:
        check_option("method", self.method, ("irls", GRADIENT_DESCENT))
        if self.method == "irls":
            raise CapabilityError(
                "iteratively reweighted least squares (method='irls') is not available yet; use method='gradient_descent'",
                code="not_available",
            )
        self._settings()

    def columns(self, schema: Schema) -> tuple[str, ...]:
        return self._design(schema).used

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        return self._descent(schema).steps()

    def run(self, schema: Schema) -> Generator[Request, Opened, LogisticResult]:
        design = self._design(schema)
        fit = yield from self._descent(schema).run()
        result = _result(self.formula, design, fit)
        if not fit.converged:
            raise fit.failure(result)
        return result

    def inferences(self, schema: Schema) -> tuple[str, ...]:
        return self._descent(schema).inferences()

    def _settings(self) -> Settings:
        return Settings(self.standardise, self.rate, self.acceleration, self.tolerance, self.max_iterations)

    def _design(self, schema: Schema) -> Design:
        design = make_design(self.formula, schema)
        _check_binary(schema, design)
        return design

    def _descent(self, schema: Schema) -> Descent:
        return Descent(self._design(schema), LOGISTIC, self._settings())


def _check_binary(schema: Schema, design: Design) -> None:
    response = design.response.numeric[0]
    column = schema[response.column]
    if column.top != 1 or column.origin != 0 or column.lattice_step != 1 or response.power != 1 or response.centre:
        raise SchemaError(f"the response of a logistic regression must be Binary; {response.name!r} is not", code="bad_response")


def _result(formula: str, design: Design, fit: Fit) -> LogisticResult:
    llnull = None
    if fit.response_sum is not None and design.constant is not None and 0 < fit.response_sum < fit.n:
        share = float(fit.response_sum) / fit.n
        llnull = fit.n * (share * math.log(share) + (1 - share) * math.log(1 - share))
    covariance = _covariance(design, fit)
    return LogisticResult(
        title=f"logistic regression of {formula}, by gradient descent",
        estimate=fit.params,
        n=fit.n,
        n_missing=fit.n_missing,
        design=design,
        variances=None if covariance is None else np.diag(covariance),
        covariance=covariance,
        llf=-float(fit.loss),
        history=fit.history,
        iterations=fit.iterations,
        converged=fit.converged,
        llnull=llnull,
    )


def _covariance(design: Design, fit: Fit) -> npt.NDArray[np.float64] | None:
    """The inverse information in units, or None where it is singular because the descent has not arrived."""
    if fit.information is None:
        return None
    size = len(design.columns)
    upper = np.full((size, size), Fraction(0), dtype=object)
    upper[np.triu_indices(size)] = fit.information
    information = np.where(np.tri(size, k=-1, dtype=bool), upper.T, upper)
    try:
        inverse = solve(information, np.eye(size, dtype=int).astype(object))
    except SingularMatrix as error:
        if fit.converged:
            raise collinear(design, error) from None
        return None
    matrix, _ = design.to_units()
    scaled = matrix / design.response.unit
    return np.asarray(scaled @ inverse @ scaled.T, dtype=np.float64)
