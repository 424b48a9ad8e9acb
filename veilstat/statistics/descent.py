"""Gradient descent on encoded rows: one secure sum per iteration (linear and logistic regression).

The state lives on the lattice 2^-40. With f the columns of the design in [0, 1], see ``Standardisation``, the linear
predictor is f c. An owner adds F = f' (prediction - y) over its rows: integers, exactly. All else is public arithmetic, or
protected arithmetic where an architecture can hold the state. In scaled units the rate 1 / (p + 1) is safe, 4 / (p + 1) for
logistic loss.

Nesterov's acceleration with restart whenever the step turns against the gradient (O'Donoghue, Candes 2015, sec. 3.2).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from veilstat.errors import ConvergenceError, SchemaError
from veilstat.language.step import Answer, Opened, Request, Step, WireType
from veilstat.language.trace import Trace, Value
from veilstat.schema.encoding import exact

from .columns import as_they_are, check_number, check_option, require_rows
from .design import Design
from .standardisation import BOUNDS, LARGEST_INVERSE, LATTICE, LINEAR, LOGISTIC, MOMENTS, Standardisation

GRADIENT_DESCENT = "gradient_descent"
COARSE = Fraction(1, 2**30)
_LARGEST_STATE = Fraction(2**16)


@dataclass(frozen=True, slots=True)
class Settings:
    """How to descend.

    Args:
        standardise: "moments" scales by opened means and standard deviations, "bounds" by the schema's, None not at all.
        rate: step length in scaled units; 1 / (p + 1) for p terms besides the intercept by default, four times that for logistic loss.
        acceleration: "nesterov" (with restart) or None.
        tolerance: converged when every component of the scaled gradient is at most this.
        max_iterations: openings, at most.
    """

    standardise: str | None
    rate: float | None
    acceleration: str | None
    tolerance: float
    max_iterations: int

    def __post_init__(self) -> None:
        check_option("standardise", self.standardise, (MOMENTS, BOUNDS, None))
        check_option("acceleration", self.acceleration, ("nesterov", None))
        if self.rate is not None:
            check_number("rate", self.rate, 0, 1e6)
        check_number("tolerance", self.tolerance, 0, 1)
        if isinstance(self.max_iterations, bool) or not isinstance(self.max_iterations, int) or not 1 <= self.max_iterations <= 1_000_000:
            raise SchemaError("max_iterations must be a whole number from 1 to 1,000,000", code="bad_option")


@dataclass(frozen=True, slots=True)
class Fit:
    """What a descent ends with; ``loss`` and ``total`` are sums in integers of the response, ``information`` as opened."""

    params: pd.Series
    n: int
    n_missing: int
    iterations: int
    converged: bool
    history: pd.DataFrame | None
    loss: Any
    total: Any
    information: npt.NDArray[np.object_] | None
    response_sum: Any

    def failure(self, result: object) -> ConvergenceError:
        """The error of a descent that did not converge; it names coefficients that were still growing."""
        growing = self._growing()
        hint = f"{', '.join(growing)} grew to the end, as where the response is separated by a term; " if growing else ""
        error = ConvergenceError(
            f"no convergence after {self.iterations} iterations: {hint}raise max_iterations, check for collinear or separating terms, "
            "or use another method"
        )
        error.result = result
        return error

    def _growing(self) -> list[str]:
        """Terms besides the intercept whose coefficients grew by a tenth in the second half of the iterations."""
        if self.history is None or len(self.history) < 20:
            return []
        half, last = self.history.iloc[len(self.history) // 2].abs(), self.history.iloc[-1].abs()
        return [name for name in self.params.index if name != "Intercept" and last[name] > 1.1 * half[name]]


@dataclass(frozen=True, slots=True)
class Descent:
    """Steps and run of one descent; ``loss`` is "linear" or "logistic"."""

    design: Design
    loss: str
    settings: Settings

    def steps(self) -> tuple[Step, ...]:
        size = len(self.design.columns)
        scaling = Step("scaling", self._standardisation.contribution, as_they_are)
        descend = Step(
            "descend",
            self._gradient_contribution,
            self._descend,
            public={
                "n": WireType((), Fraction(1), Fraction(0), Fraction(2**60)),
                "centre": WireType((size,), LATTICE, Fraction(-(2**10)), Fraction(2**10)),
                "inverse": WireType((size,), LATTICE, Fraction(0), LARGEST_INVERSE),
                "response_inverse": WireType((), LATTICE, Fraction(0), LARGEST_INVERSE),
            },
            state={
                "coefficients": WireType((size,), LATTICE, -_LARGEST_STATE, _LARGEST_STATE),
                "lookahead": WireType((size,), LATTICE, -_LARGEST_STATE, _LARGEST_STATE),
                "momentum": WireType((), Fraction(1), Fraction(0), Fraction(self.settings.max_iterations)),
            },
            at_most=self.settings.max_iterations,
            final=("coefficients",),
        )
        final = Step("fit", self._fit_contribution, self._fit, public={"coefficients": descend.state["coefficients"]})
        return (scaling, descend, final)

    def run(self) -> Generator[Request, Opened, Fit]:
        opened = yield Request("scaling")
        n = int(opened.number("n"))
        require_rows(n, "gradient descent")
        standardisation = self._standardisation
        scales = standardisation.scales(opened, n)
        public = {
            "n": np.array(n, dtype=object),
            "centre": scales.centre,
            "inverse": scales.inverse,
            "response_inverse": np.array(scales.response_inverse, dtype=object),
        }
        state = {"coefficients": scales.start, "lookahead": scales.start, "momentum": np.array(0, dtype=object)}
        descended = yield Request("descend", public, state)
        converged = bool(descended.number("done"))
        final = yield Request("fit", {"coefficients": descended["coefficients"]})
        gradients = [max(abs(float(g)) for g in entry["gradient"]) for entry in descended.history if "gradient" in entry]
        return Fit(
            params=standardisation.in_units(descended["coefficients"]),
            n=n,
            n_missing=int(opened.number("rows")) - n,
            iterations=descended.iterations,
            converged=converged,
            history=self._history(descended, gradients),
            loss=final.number("loss"),
            total=standardisation.total(opened, n),
            information=final.values.get("information matrix"),
            response_sum=opened.number("response") if "response" in opened else None,
        )

    def inferences(self) -> tuple[str, ...]:
        return (
            "each iteration opens the gradient at a known point; enough of them determine every cross-product X'X and X'y of the design"
            if self.loss == LINEAR
            else "each iteration opens the gradient at a known point; many of them describe the joint distribution of the design in ever more detail",
            "the number of iterations",
        )

    def _gradient_contribution(self, rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        fractions, residual, _ = self._residual(rows, public["lookahead"])
        return {"gradient": fractions.inner(residual)}

    def _fit_contribution(self, rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        if self.loss == LINEAR:
            x, y = self._fractions(rows)
            return {"xx": x.inner(x), "xy": x.inner(y), "yy": y.inner(y)}
        _, _, linear = self._residual(rows, public["coefficients"])
        weight = rows.all_present(self.design.used)
        _, y = self.design.trace(rows)
        bounds, scale = linear.node.bounds, linear.node.scale
        assert bounds is not None and scale is not None
        top = bounds.magnitude * scale + 1
        loss = linear.apply("softplus", LATTICE, Fraction(0), top) * weight
        probability = linear.apply("logistic", COARSE, Fraction(0), Fraction(1))
        spread = probability * (1 - probability) * weight
        x, _ = self.design.trace(rows)
        return {"loss": (loss - linear * y).total(), "information matrix": (x * spread).inner(x)[np.triu_indices(len(self.design.columns))]}

    def _residual(self, rows: Trace, coefficients: Value) -> tuple[Value, Value, Value]:
        fractions, y = self._fractions(rows)
        linear = fractions @ coefficients
        if self.loss == LINEAR:
            return fractions, linear - y * self._standardisation.response_scale, linear
        predicted = linear.apply("logistic", LATTICE, Fraction(0), Fraction(1)) * rows.all_present(self.design.used)
        return fractions, predicted - y, linear

    def _fractions(self, rows: Trace) -> tuple[Value, Value]:
        """f, in [0, 1], and the response's integer."""
        x, y = self.design.trace(rows)
        return x * [Fraction(1, 2**bits) for bits in self._standardisation.widths], y

    def _fit(self, totals: Mapping[str, Value], public: Mapping[str, Value]) -> dict[str, Value | Answer]:
        """The squared residuals at the last coefficients, one number, which owners evaluate; or what they added up."""
        if self.loss == LOGISTIC:
            return dict(totals)
        coefficients = public["coefficients"] * (1 / self._standardisation.response_scale)
        crossed = coefficients @ (totals["xx"] @ coefficients) - (totals["xy"] @ coefficients) * 2
        return {"loss": crossed + totals["yy"]}

    def _descend(self, totals: Mapping[str, Value], public: Mapping[str, Value]) -> dict[str, Value | Answer]:
        raw, n = totals["gradient"], public["n"]
        centre, inverse, response_inverse = public["centre"], public["inverse"], public["response_inverse"]
        current, lookahead, momentum = public["coefficients"], public["lookahead"], public["momentum"]
        one = self._standardisation.intercept
        level = raw[one] if one is not None else raw[0] * 0
        gradient = (raw - centre * level) * inverse * response_inverse / n
        step = gradient * inverse * self._rate / response_inverse
        if one is not None:
            unit = np.array([int(place == one) for place in range(len(self.design.columns))])
            step = step - (step * centre).sum() * unit
        following = (lookahead - step).round(LATTICE, -_LARGEST_STATE, _LARGEST_STATE)
        turned = (raw * (following - current)).sum()
        kept = turned.less(0) * (momentum + 1) + turned.equal(0) * (momentum + 1)
        weight = kept / (kept + 3) if self.settings.acceleration else kept * 0
        ahead = (following + (following - current) * weight).round(LATTICE, -_LARGEST_STATE, _LARGEST_STATE)
        tolerance = exact(self.settings.tolerance)
        outside = gradient.less(-tolerance).sum() + (0 - gradient).less(-tolerance).sum()
        return {
            "coefficients": following,
            "lookahead": ahead,
            "momentum": kept,
            "done": outside.equal(0),
            "gradient": Answer(gradient, determined=True),
        }

    def _history(self, descended: Opened, gradients: list[float]) -> pd.DataFrame | None:
        if not descended.history:
            return None
        rows = [self._standardisation.in_units(entry["coefficients"]) for entry in descended.history]
        index = pd.RangeIndex(1, len(rows) + 1, name="iteration")
        history = pd.DataFrame(rows).set_axis(index)
        return history.assign(max_gradient=gradients) if gradients else history

    @property
    def _standardisation(self) -> Standardisation:
        return Standardisation(self.design, self.loss, self.settings.standardise)

    @property
    def _rate(self) -> Fraction:
        if self.settings.rate is not None:
            return exact(self.settings.rate)
        return (4 if self.loss == LOGISTIC else 1) / self._standardisation.curvature
