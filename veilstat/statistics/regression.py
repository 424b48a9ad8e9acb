"""Linear regression: by normal equations or by gradient descent, exactly or with noise."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from veilstat.errors import CapabilityError, SchemaError
from veilstat.language.step import Opened, Request, Step
from veilstat.schema.schema import Schema

from .clipping import Clip, as_clip, refuse_clip
from .columns import check_number, check_option
from .descent import GRADIENT_DESCENT, Descent, Fit, Settings
from .design import Design, make_design
from .interface import Form
from .normal_equations import NormalEquations
from .perturbed import ADASSP, ESTIMATORS
from .private_descent import CLIP_NORM, ITERATIONS, PrivateDescent
from .private_regression import PrivateRegression
from .regression_results import LinearResult, log_likelihood
from .standardisation import LINEAR

NORMAL_EQUATIONS = "normal_equations"
MOST_ITERATIONS = 10_000


@dataclass(frozen=True)
class LinearRegression:
    """Ordinary least squares over the rows where all columns of the formula are present.

    Args:
        formula: such as "bp ~ age + bmi + C(sex)".
        method: "normal_equations" opens all moments once; "gradient_descent" opens one gradient per iteration.
        standardise, rate, acceleration, tolerance, max_iterations: of gradient descent, see ``Settings``.
        clip: with privacy only: {column: (lower, upper)} to which values are moved.
        estimator: with privacy only: how normal equations with noise are solved, see ``PrivateRegression``.
        clip_norm, iterations: with privacy only: of gradient descent with noise, see ``PrivateDescent``.
    """

    name: ClassVar[str] = "linear_regression"
    formula: str
    method: str = NORMAL_EQUATIONS
    standardise: str | None = "moments"
    rate: float | None = None
    acceleration: str | None = "nesterov"
    tolerance: float = 1e-8
    max_iterations: int = 1000
    clip: Clip | None = None
    estimator: str | None = None
    clip_norm: float | None = None
    iterations: int | None = None

    def __post_init__(self) -> None:
        check_option("method", self.method, (NORMAL_EQUATIONS, GRADIENT_DESCENT))
        check_option("estimator", self.estimator, (None, *ESTIMATORS))
        object.__setattr__(self, "clip", as_clip(self.clip, ()))
        if self.clip_norm is not None:
            check_number("clip_norm", self.clip_norm, 0, 1e3)
        if self.iterations is not None and (type(self.iterations) is not int or not 1 <= self.iterations <= MOST_ITERATIONS):
            raise SchemaError(f"iterations must be a whole number from 1 to {MOST_ITERATIONS:,}", code="bad_option")
        self._settings()

    def columns(self, schema: Schema) -> tuple[str, ...]:
        return self._design(schema).used

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        refuse_clip(self.clip)
        self._refuse_given(("estimator", "clip_norm", "iterations"), "it says how noise is met; ask with privacy=")
        return self._form(schema).steps()

    def run(self, schema: Schema) -> Generator[Request, Opened, LinearResult]:
        form = self._form(schema)
        if isinstance(form, NormalEquations):
            return (yield from form.run())
        fit = yield from form.run()
        result = _result(self.formula, form.design, fit)
        if not fit.converged:
            raise fit.failure(result)
        return result

    def inferences(self, schema: Schema) -> tuple[str, ...]:
        return self._form(schema).inferences()

    def private(self, schema: Schema) -> Form[Any]:
        if self.method == NORMAL_EQUATIONS:
            self._refuse_given(("clip_norm", "iterations"), "it belongs to method='gradient_descent'")
            return PrivateRegression(self.formula, self.clip, self.estimator or ADASSP)
        fixed = ("estimator", "standardise", "acceleration", "tolerance", "max_iterations")
        self._refuse_given(fixed, "private descent runs a fixed number of iterations= in the schema's bounds")
        return PrivateDescent(self.formula, self.clip, self.clip_norm or CLIP_NORM, self.iterations or ITERATIONS, self.rate)

    def _refuse_given(self, names: tuple[str, ...], reason: str) -> None:
        """Refuse options that would have no effect."""
        for entry in fields(self):
            if entry.name in names and getattr(self, entry.name) != entry.default:
                raise CapabilityError(f"{entry.name}= has no effect here: {reason}", code="option_without_effect")

    def _design(self, schema: Schema) -> Design:
        return make_design(self.formula, schema)

    def _settings(self) -> Settings:
        return Settings(self.standardise, self.rate, self.acceleration, self.tolerance, self.max_iterations)

    def _form(self, schema: Schema) -> NormalEquations | Descent:
        design = self._design(schema)
        return NormalEquations(self.formula, design) if self.method == NORMAL_EQUATIONS else Descent(design, LINEAR, self._settings())


def _result(formula: str, design: Design, fit: Fit) -> LinearResult:
    unit = float(design.response.unit) ** 2
    rss = None if fit.loss is None else float(fit.loss) * unit
    tss = None if fit.total is None else float(fit.total) * unit
    return LinearResult(
        title=f"linear regression of {formula}, by gradient descent",
        estimate=fit.params,
        n=fit.n,
        n_missing=fit.n_missing,
        design=design,
        llf=log_likelihood(fit.n, rss),
        history=fit.history,
        iterations=fit.iterations,
        converged=fit.converged,
        rss=rss,
        tss=tss,
    )
