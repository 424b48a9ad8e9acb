"""Linear regression: one packed sum of all moments, solved in exact rational arithmetic, or gradient descent.

Every moment (count, sums, upper triangle of cross-products) travels in one vector of integers. The normal equations
are then solved over the rationals, so that nothing is lost to conditioning: on NIST's Longley data more digits are
right than from least squares in float64.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from veilstat.errors import CapabilityError, SchemaError
from veilstat.language.evaluate import SingularMatrix
from veilstat.language.step import Answer, Form, Opened, Request, Step
from veilstat.language.trace import Trace, Value, stack
from veilstat.schema.schema import Schema

from .clipping import Clip, as_clip, refuse_clip
from .columns import check_number, check_option, require_rows
from .descent import Descent, Fit, Settings
from .design import Design, make_design
from .formula import parse_formula
from .inference import LinearResult
from .perturbed import ADASSP, ESTIMATORS
from .private_descent import CLIP_NORM, ITERATIONS, PrivateDescent
from .private_regression import PrivateRegression

NORMAL_EQUATIONS, GRADIENT_DESCENT = "normal_equations", "gradient_descent"
SEALED = Fraction(1, 2**40)
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
        design = self._design(schema)
        refuse_clip(self.clip)
        self._refuse_given(("estimator", "clip_norm", "iterations"), "it says how noise is met; ask with privacy=")
        if self.method == GRADIENT_DESCENT:
            return self._descent(design).steps()
        return (Step("moments", _contribution(design), _normal_equations(design)),)

    def run(self, schema: Schema) -> Generator[Request, Opened, LinearResult]:
        design = self._design(schema)
        if self.method == GRADIENT_DESCENT:
            fit = yield from self._descent(design).run()
            result = self._from_descent(design, fit)
            if not fit.converged:
                raise fit.failure(result)
            return result
        try:
            opened = yield Request("moments")
        except SingularMatrix as error:
            require_rows(int(error.answers["n"].reshape(-1)[0]), f"linear regression {self.formula!r}")
            raise collinear(design, error) from None
        return _from_moments(self.formula, design, opened)

    def inferences(self, schema: Schema) -> tuple[str, ...]:
        design = self._design(schema)
        if self.method == GRADIENT_DESCENT:
            return self._descent(design).inferences()
        return (
            f"means, variances, correlations and every regression among {', '.join((design.response.name, *design.names))} over all owners together",
            *_indicator_inference(design),
        )

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
        return make_design(parse_formula(self.formula, schema), schema)

    def _settings(self) -> Settings:
        return Settings(self.standardise, self.rate, self.acceleration, self.tolerance, self.max_iterations)

    def _descent(self, design: Design) -> Descent:
        return Descent(design, "linear", self._settings())

    def _from_descent(self, design: Design, fit: Fit) -> LinearResult:
        n, p = fit.n, len(design.columns)
        unit = float(design.response.unit) ** 2
        rss = None if fit.loss is None else float(fit.loss) * unit
        tss = None if fit.total is None else float(fit.total) * unit
        return LinearResult(
            title=f"linear regression of {self.formula}, by gradient descent",
            estimate=fit.params,
            n=n,
            n_missing=fit.n_missing,
            design=design,
            df_model=p - (design.constant is not None),
            df_resid=n - p,
            llf=log_likelihood(n, rss),
            use_t=True,
            history=fit.history,
            iterations=fit.iterations,
            converged=fit.converged,
            rss=rss,
            tss=tss,
            has_constant=design.constant is not None,
        )


def collinear(design: Design, error: SingularMatrix) -> SchemaError:
    """The error for a design without a unique solution, naming the term where that is known."""
    where = f"the term {design.names[error.column]!r} is" if 0 <= error.column < len(design.names) else "a term is"
    return SchemaError(
        f"the design is singular: {where} constant, empty (a level that no owner has) or a linear combination of the terms before; remove it",
        code="singular_design",
    )


def log_likelihood(n: int, rss: float | None) -> float | None:
    """Gaussian log-likelihood at the estimates, -n/2 (log(2 pi rss / n) + 1)."""
    return None if not rss else -n / 2 * (math.log(2 * math.pi * rss / n) + 1)


def _indicator_inference(design: Design) -> tuple[str, ...]:
    grouped = [column.name for column in design.columns if column.levels]
    return (f"how many rows each level has, and sums within it: {', '.join(grouped)}",) if grouped else ()


def _contribution(design: Design) -> Any:
    def contribution(rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        x, y = design.trace(rows)
        whole = stack(x, y)
        weight = rows.all_present(design.used)
        return {"rows": rows.ones.total(), "n": weight.total(), "response": y.total(), "products": whole.inner(whole)}

    return contribution


def _normal_equations(design: Design) -> Any:
    size = len(design.columns)
    spans, widths = _spans(design)

    def combine(totals: Mapping[str, Value], public: Mapping[str, Value]) -> dict[str, Value | Answer]:
        products, n = totals["products"], totals["n"]
        xx, xy, yy = products[:size, :size], products[:size, size], products[size, size]
        solution = xx.solve(xy)
        inverse = xx.solve(np.eye(size, dtype=int).tolist())
        rss = yy - (solution * xy).sum()
        centred = yy - totals["response"] * totals["response"] / n
        return {
            "rows": totals["rows"],
            "n": n,
            "coefficients": Answer(solution * list(spans), SEALED),
            "variances of coefficients": Answer(_variances(design, inverse) * list(widths**2) * rss / (n - size), SEALED, rooted=True),
            "inverse": Answer(inverse, determined=True),
            "residual sum of squares": Answer(rss, SEALED),
            "total sum of squares": Answer(centred if design.constant is not None else yy, SEALED),
        }

    return combine


def _spans(design: Design) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.object_]]:
    """What a sealed coefficient, and the root of its variance, are multiplied by before they are rounded and opened.

    A coefficient is opened as the effect of the column's whole range, relative to the range of the response, so that the
    declared resolution means as much for a column in steps of 1e-7 as for one in whole years.
    """
    response = design.top(design.response)
    spans = [Fraction(design.top(column), response) for column in design.columns]
    widths = [span * column.unit / design.response.unit for span, column in zip(spans, design.columns, strict=True)]
    return np.array(spans, dtype=object), np.array(widths, dtype=object)


def _variances(design: Design, inverse: Value) -> Value:
    """The diagonal of A inverse A' for the map A of ``to_units``, which is a diagonal less a product of two vectors."""
    size = len(design.columns)
    scales = [design.response.unit / column.unit for column in design.columns]
    diagonal = inverse[np.arange(size), np.arange(size)] * [scale**2 for scale in scales]
    if design.constant is None or not any(column.offset for column in design.columns):
        return diagonal
    offsets = [scale * column.offset for scale, column in zip(scales, design.columns, strict=True)]
    mixed = inverse @ offsets
    weights = np.array(design.constant, dtype=object)
    return diagonal - mixed * list(2 * weights * scales) + (mixed * offsets).sum() * list(weights**2)


def _from_moments(formula: str, design: Design, opened: Opened) -> LinearResult:
    n = int(opened.number("n"))
    require_rows(n, f"linear regression {formula!r}")
    size = len(design.columns)
    matrix, shift = design.to_units()
    spans, widths = _spans(design)
    beta = (matrix @ (opened["coefficients"] / spans) + shift).astype(np.float64)
    freedom = n - size
    unit = design.response.unit**2
    rss, tss = opened.number("residual sum of squares") * unit, opened.number("total sum of squares") * unit
    covariance = None
    if freedom > 0 and "inverse" in opened:
        scale = opened.number("residual sum of squares") / freedom
        covariance = (matrix @ opened["inverse"] @ matrix.T * scale).astype(np.float64)
    return LinearResult(
        title=f"linear regression of {formula}",
        estimate=pd.Series(beta, index=list(design.names)),
        n=n,
        n_missing=int(opened.number("rows")) - n,
        design=design,
        variances=(opened["variances of coefficients"] / widths**2).astype(np.float64) if freedom > 0 else None,
        covariance=covariance,
        df_model=size - (design.constant is not None),
        df_resid=freedom,
        llf=log_likelihood(n, float(rss)),
        use_t=True,
        rss=float(rss),
        tss=float(tss),
        has_constant=design.constant is not None,
    )
