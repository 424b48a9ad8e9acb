"""Quantiles: the smallest value with at least a share q of the rows at or below it (numpy's "inverted_cdf").

Two forms, of which a plan takes the first that the architecture can protect:

* selection: owners count their rows at or below every point of the lattice, servers compare the totals with q n and
  only the answer is opened;
* bisection: every round opens how many rows lie below one public point for each q; log2(range / step) rounds.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from veilstat.language.encoding import exact
from veilstat.language.errors import CapabilityError, SchemaError
from veilstat.language.schema import Schema
from veilstat.language.step import Answer, Opened, Request, Step, WireType
from veilstat.language.trace import Trace, Value

from .columns import in_units, require_rows
from .results import Result

SELECTION, BISECTION = "selection", "bisection"
MOST_POINTS = 4096


@dataclass(frozen=True)
class Quantile:
    """Quantiles of a numeric column.

    Args:
        column: a numeric column.
        q: one share between 0 and 1, or several.
        form: "selection" opens the quantiles alone, "bisection" opens counts below public points; None takes the
            first that the architecture can protect.
    """

    name: ClassVar[str] = "quantile"
    column: str
    q: float | tuple[float, ...] = 0.5
    form: str | None = None

    def __post_init__(self) -> None:
        shares = self.q if isinstance(self.q, (list, tuple, np.ndarray, pd.Series)) else (self.q,)
        try:
            checked = tuple(float(share) for share in shares)
        except (TypeError, ValueError):
            checked = ()
        if not checked or len(checked) > 100 or not all(0 <= share <= 1 for share in checked):
            raise SchemaError("q is a share between 0 and 1, or up to 100 of them", code="bad_option")
        if self.form not in (SELECTION, BISECTION, None):
            raise SchemaError(f"form must be {SELECTION!r}, {BISECTION!r} or None, not {self.form!r}", code="bad_option")
        object.__setattr__(self, "q", checked if shares is self.q else checked[0])

    @property
    def shares(self) -> tuple[Fraction, ...]:
        """The shares, as the decimals that they were written as."""
        return tuple(exact(share) for share in (self.q if isinstance(self.q, tuple) else (self.q,)))

    def forms(self, schema: Schema) -> tuple[Quantile, ...]:
        """The forms to try, in order."""
        if self.form is not None:
            return (self,)
        return replace(self, form=SELECTION), replace(self, form=BISECTION)

    def columns(self, schema: Schema) -> tuple[str, ...]:
        return (schema.numeric(self.column).name,)

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        top = schema[self.column].top
        if self.form == SELECTION:
            if top > MOST_POINTS:
                raise CapabilityError(
                    f"{self.column!r} has {top + 1:,} possible values, selection takes at most {MOST_POINTS:,}; use form='bisection'",
                    code="too_many_points",
                )
            return (Step("select", self._cumulative(top), self._selected),)
        count = Step("count", self._present, lambda totals, public: totals)
        wire = WireType((len(self.shares),), Fraction(1), Fraction(0), Fraction(top + 1))
        below = Step("below", self._below, lambda totals, public: totals, public={"points": wire}, at_most=max(1, top.bit_length()))
        return (count, below)

    def run(self, schema: Schema) -> Generator[Request, Opened, Result]:
        if self.form == SELECTION:
            opened = yield Request("select")
            codes = [int(code) for code in opened["codes"]]
        else:
            opened = yield Request("count")
            codes = yield from self._bisect(schema, int(opened.number("n")))
        n = int(opened.number("n"))
        require_rows(n, f"quantiles of {self.column!r}")
        values = [float(in_units(schema, self.column, code)) for code in codes]
        estimate: Any = values[0]
        if isinstance(self.q, tuple):
            estimate = pd.Series(values, index=pd.Index(list(self.q), name="q"), name=self.column)
        return Result(title=f"quantiles of {self.column}", estimate=estimate, n=n, n_missing=int(opened.number("rows")) - n)

    def inferences(self, schema: Schema) -> tuple[str, ...]:
        if self.form == SELECTION:
            return ("each quantile is the value of some row",)
        return ("each quantile is the value of some row; the counts below public points are points of the distribution function",)

    def _bisect(self, schema: Schema, n: int) -> Generator[Request, Opened, list[int]]:
        """The smallest code with at least the wanted number of rows at or below it."""
        low, high = [0] * len(self.shares), [schema[self.column].top] * len(self.shares)
        wanted = [max(share * n, Fraction(1, 2)) for share in self.shares]
        while any(a < b for a, b in zip(low, high, strict=True)):
            middle = [(a + b) // 2 for a, b in zip(low, high, strict=True)]
            opened = yield Request("below", {"points": np.array([place + 1 for place in middle], dtype=object)})
            for place, count in enumerate(opened["below"]):
                if low[place] < high[place]:
                    enough = count >= wanted[place]
                    low[place], high[place] = (low[place], middle[place]) if enough else (middle[place] + 1, high[place])
        return low

    def _present(self, rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        return {"rows": rows.ones.total(), "n": rows.present(self.column).total()}

    def _below(self, rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
        return {"below": (rows.column(self.column).less(public["points"]) * rows.present(self.column)).total()}

    def _cumulative(self, top: int) -> Any:
        def contribution(rows: Trace, public: Mapping[str, Value]) -> dict[str, Value]:
            upto = rows.column(self.column).less(list(range(1, top + 1))) * rows.present(self.column)
            return {**self._present(rows, public), "upto": upto.total()}

        return contribution

    def _selected(self, totals: Mapping[str, Value], public: Mapping[str, Value]) -> dict[str, Value | Answer]:
        """For each share, how many points have fewer rows at or below them than wanted."""
        n, upto = totals["n"], totals["upto"]
        codes = [
            (upto * (2 * share.denominator)).less(n * (2 * share.numerator) if share else 1).sum()[np.newaxis] for share in self.shares
        ]
        return {"rows": totals["rows"], "n": n, "codes": Answer(n.trace.stack(codes), guarded=True)}
