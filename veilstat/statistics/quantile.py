"""Quantiles: the smallest value with at least a part q of the rows at or below it (numpy's "inverted_cdf").

Three forms, of which a plan takes the first that the architecture can protect:

* search: rows stay shared and are compared with one point for each q, which halves an interval that nobody sees;
  log2(range / step) rounds, and only the last point is opened;
* selection: owners count their rows at or below every point of the lattice, servers compare the totals with q n and
  only the answer is opened;
* bisection: the search where every round opens how many rows lie below its points.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from veilstat.errors import CapabilityError, SchemaError
from veilstat.language.step import Answer, Arrays, Opened, Request, Step, WireType
from veilstat.language.trace import Trace, Value, stack
from veilstat.schema.encoding import exact
from veilstat.schema.schema import Schema

from .columns import as_they_are, check_option, in_units, require_rows
from .results import Result

SEARCH, SELECTION, BISECTION = "search", "selection", "bisection"
MOST_POINTS = 4096
_MOST_ROWS = Fraction(2**60)


@dataclass(frozen=True)
class Quantile:
    """Quantiles of a numeric column.

    Args:
        column: a numeric column.
        q: one probability between 0 and 1, or several.
        form: "search" and "selection" open the quantiles alone, "bisection" opens counts below public points; None takes
            the first that the architecture can protect.
    """

    name: ClassVar[str] = "quantile"
    column: str
    q: float | tuple[float, ...] = 0.5
    form: str | None = None

    def __post_init__(self) -> None:
        probabilities = self.q if isinstance(self.q, (list, tuple, np.ndarray, pd.Series)) else (self.q,)
        try:
            checked = tuple(float(probability) for probability in probabilities)
        except (TypeError, ValueError):
            checked = ()
        if not checked or len(checked) > 100 or not all(0 <= probability <= 1 for probability in checked):
            raise SchemaError("q must be a probability between 0 and 1, or a list of up to 100 of them", code="bad_option")
        check_option("form", self.form, (SEARCH, SELECTION, BISECTION, None))
        object.__setattr__(self, "q", checked if probabilities is self.q else checked[0])

    @property
    def probabilities(self) -> tuple[Fraction, ...]:
        """The probabilities, as the decimals that they were written as."""
        return tuple(exact(probability) for probability in (self.q if isinstance(self.q, tuple) else (self.q,)))

    def forms(self, schema: Schema) -> tuple[Quantile, ...]:
        """The forms to try, in order: first the sealed one that takes fewer messages per row; a comparison costs a search twice as many."""
        if self.form is not None:
            return (self,)
        sealed = (
            (SEARCH, SELECTION) if 2 * self._rounds(schema) * len(self.probabilities) < schema[self.column].top else (SELECTION, SEARCH)
        )
        return tuple(replace(self, form=form) for form in (*sealed, BISECTION))

    def columns(self, schema: Schema) -> tuple[str, ...]:
        return (schema.numeric(self.column).name,)

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        top = schema[self.column].top
        if self.form == SELECTION:
            if top > MOST_POINTS:
                raise CapabilityError(
                    f"column {self.column!r} has {top + 1:,} possible values, and form='selection' takes at most {MOST_POINTS + 1:,}; use form='bisection'",
                    code="too_many_points",
                )
            return (Step("select", partial(self._cumulative, top), self._selected),)
        one, size = Fraction(1), len(self.probabilities)
        codes, point = (WireType((count,), one, Fraction(0), Fraction(top + 1)) for count in (size, 1))
        halve = Step(
            "halve",
            self._below,
            partial(self._halved, top),
            public={"wanted": WireType((size,), one, Fraction(0), _MOST_ROWS)},
            state={"quantiles": codes, "high": codes, **dict.fromkeys(self._points, point)},
            at_most=self._rounds(schema),
            final=("quantiles",),
            must_hold=self.form == SEARCH,
        )
        return (Step("count", self._present, as_they_are), halve)

    def run(self, schema: Schema) -> Generator[Request, Opened, Result]:
        if self.form == SELECTION:
            opened = yield Request("select")
            codes = [int(code) for code in opened["quantiles"]]
        else:
            opened = yield Request("count")
            require_rows(int(opened.number("n")), self._words)
            halved = yield Request("halve", {"wanted": self._wanted(int(opened.number("n")))}, self._start(schema))
            codes = [int(code) for code in halved["quantiles"]]
        n = int(opened.number("n"))
        require_rows(n, self._words)
        values = [float(in_units(schema, self.column, code)) for code in codes]
        estimate: Any = values[0]
        if isinstance(self.q, tuple):
            estimate = pd.Series(values, index=pd.Index(list(self.q), name="q"), name=self.column)
        return Result(title=f"quantiles of {self.column}", estimate=estimate, n=n, n_missing=int(opened.number("rows")) - n)

    def inferences(self, schema: Schema) -> tuple[str, ...]:
        if self.form == BISECTION:
            return (
                "each quantile is the value of some row; counts below public points, where these are opened, are points of the distribution function",
            )
        return ("each quantile is the value of some row",)

    @property
    def _words(self) -> str:
        return f"quantiles of {self.column!r}"

    def _rounds(self, schema: Schema) -> int:
        """How often an interval of all codes is halved until one is left."""
        return max(1, int(schema[self.column].top).bit_length())

    @property
    def _points(self) -> list[str]:
        """Names of what rows are compared with, one for each probability."""
        return [f"point{place}" for place in range(len(self.probabilities))]

    def _wanted(self, n: int) -> Any:
        """How many rows lie at or below each quantile, at least."""
        return np.array([max(1, math.ceil(probability * n)) for probability in self.probabilities], dtype=object)

    def _start(self, schema: Schema) -> Arrays:
        """All codes, and the point above the lower half of them."""
        size, top = len(self.probabilities), int(schema[self.column].top)
        ends = {"quantiles": np.zeros(size, dtype=object), "high": np.full(size, top, dtype=object)}
        return {**ends, **dict.fromkeys(self._points, np.array([top // 2 + 1], dtype=object))}

    def _present(self, rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        return {"rows": rows.ones.total(), "n": rows.present(self.column).total()}

    def _below(self, rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        """Rows below each point. A point is multiplied by 1 in every row, which is how servers combine rows with what they hold."""
        column, present = rows.column(self.column), rows.present(self.column)
        points = [stack(rows.ones) @ public[name] for name in self._points]
        return {"below": stack(*((column.less(point) * present).total() for point in points))}

    def _halved(self, top: int, totals: Mapping[str, Value], public: Mapping[str, Value]) -> dict[str, Value | Answer]:
        """The half of each interval that holds the quantile, and the point above the lower half of that."""
        points = stack(*(public[name] for name in self._points))
        short = totals["below"].less(public["wanted"])
        low, high = short.select(points, public["quantiles"]), short.select(public["high"], points - 1)
        above = ((low + high + 1) * Fraction(1, 2)).round(Fraction(1), Fraction(0), Fraction(top + 1))
        following = {name: above[place : place + 1] for place, name in enumerate(self._points)}
        return {"quantiles": low, "high": high, **following, "done": (high - low).sum().equal(0)}

    def _cumulative(self, top: int, rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        """Rows at or below each code but the last."""
        upto = rows.column(self.column).less(list(range(1, top + 1))) * rows.present(self.column)
        return {**self._present(rows, public), "upto": upto.total()}

    def _selected(self, totals: Mapping[str, Value], public: Mapping[str, Value]) -> dict[str, Value | Answer]:
        """For each probability, how many points have fewer rows at or below them than wanted."""
        n, upto = totals["n"], totals["upto"]
        codes = [
            (upto * (2 * probability.denominator)).less(n * (2 * probability.numerator) if probability else 1).sum()[np.newaxis]
            for probability in self.probabilities
        ]
        return {"rows": totals["rows"], "n": n, "quantiles": Answer(stack(*codes), guarded=True)}
