"""Gradient descent on encoded rows: one secure sum per iteration (linear and logistic regression).

The state lives on the lattice 2^-40. With e the integer columns of the design, each below 2^b, f = e 2^-b lies in
[0, 1] and the linear predictor is f c. An owner adds F = f' (prediction - y) over its rows: integers, exactly. All
else is public arithmetic, or protected arithmetic where an architecture can hold the state: with opened means m and
standard deviations (inverse q) the step is that of standardised columns z = (f - m) q, whose gradient bounds the
curvature by the number of columns, so that the rate 1 / (p + 1) is safe (4 / (p + 1) for logistic loss).

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
from veilstat.language.trace import Trace, Value, stack
from veilstat.schema.encoding import exact
from veilstat.schema.schema import Schema

from .columns import check_number, check_option, require_rows
from .design import Design, DesignColumn

LATTICE = Fraction(1, 2**40)
COARSE = Fraction(1, 2**30)
_LARGEST_STATE = Fraction(2**16)
_LARGEST_INVERSE = Fraction(2**30)
MOMENTS, BOUNDS = "moments", "bounds"


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
    gradient: float | None
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
        scaling = Step("scaling", self._scaling_contribution, lambda totals, public: totals)
        descend = Step(
            "descend",
            self._gradient_contribution,
            self._descend,
            public={
                "n": WireType((), Fraction(1), Fraction(0), Fraction(2**60)),
                "centre": WireType((size,), LATTICE, Fraction(-(2**10)), Fraction(2**10)),
                "inverse": WireType((size,), LATTICE, Fraction(0), _LARGEST_INVERSE),
                "response_inverse": WireType((), LATTICE, Fraction(0), _LARGEST_INVERSE),
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
        centre, inverse, response_inverse, start = self._scales(opened, n)
        public = {
            "n": np.array(n, dtype=object),
            "centre": centre,
            "inverse": inverse,
            "response_inverse": np.array(response_inverse, dtype=object),
        }
        state = {"coefficients": start, "lookahead": start, "momentum": np.array(0, dtype=object)}
        descended = yield Request("descend", public, state)
        converged = bool(descended.number("done"))
        final = yield Request("fit", {"coefficients": descended["coefficients"]})
        gradients = [max(abs(float(g)) for g in entry["gradient"]) for entry in descended.history if "gradient" in entry]
        return Fit(
            params=self._in_units(descended["coefficients"]),
            n=n,
            n_missing=int(opened.number("rows")) - n,
            iterations=descended.iterations,
            converged=converged,
            gradient=gradients[-1] if gradients else None,
            history=self._history(descended, gradients),
            loss=final.number("loss"),
            total=self._total(opened, n),
            information=final.values.get("information matrix"),
            response_sum=opened.number("response") if "response" in opened else None,
        )

    def inferences(self) -> tuple[str, ...]:
        return (
            "each iteration opens the gradient at a known point; enough of them determine every cross-product X'X and X'y of the design"
            if self.loss == "linear"
            else "each iteration opens the gradient at a known point; many of them describe the joint distribution of the design in ever more detail",
            "the number of iterations",
        )

    # what owners compute on their rows

    def _scaling_contribution(self, rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        _, y = self.design.trace(rows)
        totals = {"rows": rows.ones.total(), "n": rows.all_present(self.design.used).total()}
        if self.settings.standardise == MOMENTS:
            weight = rows.all_present(self.design.used)
            columns = [self.design.integers(rows, column) * weight for column in self.design.columns if not _is_one(column)]
            if columns:
                vector = stack(*columns)
                totals |= {"sums": vector.total(), "squares": stack(*(column.inner(column) for column in columns))}
            totals |= {"response": y.total(), "response_squares": y.inner(y)}
        return totals

    def _gradient_contribution(self, rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        fractions, residual, _ = self._residual(rows, public["lookahead"])
        return {"gradient": fractions.inner(residual)}

    def _fit_contribution(self, rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        if self.loss == "linear":
            x, y = self._fractions(rows)
            return {"xx": x.inner(x), "xy": x.inner(y), "yy": y.inner(y)}
        _, _, linear = self._residual(rows, public["coefficients"])
        weight = rows.all_present(self.design.used)
        _, y = self.design.trace(rows)
        top = Fraction(max(abs(linear.node.bounds.low), abs(linear.node.bounds.high))) * linear.node.scale + 1  # type: ignore[union-attr, operator]
        loss = linear.apply("softplus", LATTICE, Fraction(0), top) * weight
        probability = linear.apply("logistic", COARSE, Fraction(0), Fraction(1))
        spread = probability * (1 - probability) * weight
        x, _ = self.design.trace(rows)
        return {"loss": (loss - linear * y).total(), "information matrix": (x * spread).inner(x)[self._upper()]}

    def _residual(self, rows: Trace, coefficients: Value) -> tuple[Value, Value, Value]:
        fractions, y = self._fractions(rows)
        linear = fractions @ coefficients
        if self.loss == "linear":
            return fractions, linear - y * self._response_scale, linear
        predicted = linear.apply("logistic", LATTICE, Fraction(0), Fraction(1)) * rows.all_present(self.design.used)
        return fractions, predicted - y, linear

    def _fractions(self, rows: Trace) -> tuple[Value, Value]:
        """f, in [0, 1], and the response's integer."""
        x, y = self.design.trace(rows)
        return x * [Fraction(1, 2**bits) for bits in self._widths()], y

    # what follows from the totals

    def _fit(self, totals: Mapping[str, Value], public: Mapping[str, Value]) -> dict[str, Value | Answer]:
        """The squared residuals at the last coefficients, one number, which owners evaluate; or what they added up."""
        if self.loss == "logistic":
            return dict(totals)
        coefficients = public["coefficients"] * (1 / self._response_scale)
        crossed = coefficients @ (totals["xx"] @ coefficients) - (totals["xy"] @ coefficients) * 2
        return {"loss": crossed + totals["yy"]}

    def _descend(self, totals: Mapping[str, Value], public: Mapping[str, Value]) -> dict[str, Value | Answer]:
        raw, n = totals["gradient"], public["n"]
        centre, inverse, response_inverse = public["centre"], public["inverse"], public["response_inverse"]
        current, probe, momentum = public["coefficients"], public["lookahead"], public["momentum"]
        one = self._one()
        level = raw[one] if one is not None else raw[0] * 0
        gradient = (raw - centre * level) * inverse * response_inverse / n
        step = gradient * inverse * self._rate() / response_inverse
        if one is not None:
            unit = np.array([int(place == one) for place in range(len(self.design.columns))])
            step = step - (step * centre).sum() * unit
        following = (probe - step).round(LATTICE, -_LARGEST_STATE, _LARGEST_STATE)
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

    def _scales(self, opened: Opened, n: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any], Fraction, npt.NDArray[Any]]:
        """Centres and inverse scales of f and y, rounded to the lattice, and the first state."""
        widths, columns = self._widths(), self.design.columns
        one = self._one()
        centre = [Fraction(0)] * len(columns)
        inverse = [Fraction(1)] * len(columns)
        others = [place for place, column in enumerate(columns) if not _is_one(column)]
        for position, place in enumerate(others):
            scale = Fraction(1, 2 ** widths[place])
            if self.settings.standardise == MOMENTS:
                mean, square = Fraction(opened["sums"][position], n) * scale, Fraction(opened["squares"][position], n) * scale**2
                centre[place] = mean if one is not None else Fraction(0)
                inverse[place] = self._inverse_root(square - centre[place] ** 2, columns[place])
            elif self.settings.standardise == BOUNDS:
                inverse[place] = 1 / (self.design.top(columns[place]) * scale)
            else:
                inverse[place] = columns[place].unit / scale
                centre[place] = -columns[place].offset / columns[place].unit * scale if one is not None else Fraction(0)
        response = Fraction(1)
        start = [Fraction(0)] * len(columns)
        if self.loss == "linear":
            response = self._response_inverse(opened, n)
            if self.settings.standardise == MOMENTS and one is not None:
                start[one] = _rounded(Fraction(opened.number("response"), n) * self._response_scale)
        vectors = [np.array([_rounded(value) for value in part], dtype=object) for part in (centre, inverse, start)]
        return vectors[0], vectors[1], _rounded(response), vectors[2]

    def _response_inverse(self, opened: Opened, n: int) -> Fraction:
        scale = self._response_scale
        if self.settings.standardise == MOMENTS:
            mean, square = Fraction(opened.number("response"), n) * scale, Fraction(opened.number("response_squares"), n) * scale**2
            return self._inverse_root(square - (mean**2 if self._one() is not None else 0), self.design.response)
        if self.settings.standardise == BOUNDS:
            return 1 / (self.design.top(self.design.response) * scale)
        return self.design.response.unit / scale

    def _inverse_root(self, variance: Fraction, column: DesignColumn) -> Fraction:
        if variance <= 0:
            raise SchemaError(f"term {column.name!r} does not vary over the owners' rows; remove it", code="singular_design")
        inverse = Fraction(float(variance) ** -0.5)
        if inverse > _LARGEST_INVERSE:
            raise SchemaError(
                f"term {column.name!r} hardly varies within its bounds; narrow the bounds of its columns in the schema",
                code="singular_design",
            )
        return inverse

    def _rate(self) -> Fraction:
        if self.settings.rate is not None:
            return exact(self.settings.rate)
        count = sum(not _is_one(column) for column in self.design.columns)
        curvature = Fraction(count + 1)
        if self.settings.standardise is None:
            curvature = 1 + sum(
                (
                    max(abs(column.offset), abs(column.offset + column.unit * self.design.top(column))) ** 2
                    for column in self.design.columns
                ),
                start=Fraction(0),
            )
        return (4 if self.loss == "logistic" else 1) / curvature

    def _total(self, opened: Opened, n: int) -> Any:
        if "response" not in opened:
            return None
        squares = Fraction(opened.number("response_squares"))
        return squares - Fraction(opened.number("response")) ** 2 / n if self.design.constant is not None else squares

    def _history(self, descended: Opened, gradients: list[float]) -> pd.DataFrame | None:
        if not descended.history:
            return None
        rows = [self._in_units(entry["coefficients"]) for entry in descended.history]
        index = pd.RangeIndex(1, len(rows) + 1, name="iteration")
        history = pd.DataFrame(rows).set_axis(index)
        return history.assign(max_gradient=gradients) if gradients else history

    def _in_units(self, coefficients: npt.NDArray[Any]) -> pd.Series:
        """Coefficients of f as coefficients in units."""
        factors = [Fraction(1, 2**bits) / self._response_scale for bits in self._widths()]
        codes = np.array([Fraction(value) * factor for value, factor in zip(coefficients, factors, strict=True)], dtype=object)
        matrix, shift = self.design.to_units()
        values = matrix @ codes + (shift if self.loss == "linear" else 0)
        if self.loss == "logistic":
            values = values / self.design.response.unit
        return pd.Series(values.astype(np.float64), index=list(self.design.names))

    # public facts of the design

    def _widths(self) -> list[int]:
        return [max(0, int(self.design.top(column)).bit_length()) if not _is_one(column) else 0 for column in self.design.columns]

    @property
    def _response_scale(self) -> Fraction:
        return Fraction(1) if self.loss == "logistic" else Fraction(1, 2 ** int(self.design.top(self.design.response)).bit_length())

    def _one(self) -> int | None:
        return next((place for place, column in enumerate(self.design.columns) if _is_one(column)), None)

    def _upper(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        rows, columns = np.triu_indices(len(self.design.columns))
        return rows, columns


def _is_one(column: DesignColumn) -> bool:
    return not column.numeric and not column.levels


def _rounded(value: Fraction) -> Fraction:
    return LATTICE * round(value / LATTICE)


def check_binary(schema: Schema, design: Design) -> None:
    """Logistic regression needs a response of 0 and 1."""
    response = design.response.numeric[0]
    column = schema[response.column]
    if column.top != 1 or column.origin != 0 or column.lattice_step != 1 or response.power != 1 or response.centre:
        raise SchemaError(f"the response of a logistic regression must be Binary; {response.name!r} is not", code="bad_response")
