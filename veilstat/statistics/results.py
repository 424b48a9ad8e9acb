"""What every result has: the estimate, how many rows stand behind it, and a receipt of how it came about."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import pandas as pd

from .columns import check_number
from .distributions import t_quantile
from .table import Summary, Table, label, number


@dataclass(frozen=True, slots=True)
class Cost:
    """What took place: rounds, bytes that the busiest owner sent and received, bytes in all, and seconds."""

    rounds: int
    bytes_per_owner: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Receipt:
    """How an answer came about: the plan, whose data it holds, its privacy, and its cost."""

    plan: Any
    contributors: tuple[str, ...]
    privacy: Any
    cost: Cost


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Result:
    """Base of all results.

    ``estimate`` is a float, Series or DataFrame in the schema's units; ``n`` counts rows that entered, ``n_missing``
    those left out because a value was missing (a Series where columns differ). What does not exist is None.
    """

    title: str
    estimate: Any
    n: Any
    n_missing: Any
    receipt: Receipt | None = None

    def with_receipt(self, receipt: Receipt) -> Self:
        """The same result, with how it came about."""
        return replace(self, receipt=receipt)

    @property
    def plan(self) -> Any:
        """The plan that was run."""
        return None if self.receipt is None else self.receipt.plan

    @property
    def contributors(self) -> tuple[str, ...]:
        """The data owners whose rows entered."""
        return () if self.receipt is None else self.receipt.contributors

    @property
    def privacy(self) -> Any:
        """None, or the differential privacy of the release."""
        return None if self.receipt is None else self.receipt.privacy

    @property
    def cost(self) -> Cost | None:
        """Rounds, bytes and seconds that took place."""
        return None if self.receipt is None else self.receipt.cost

    def to_frame(self) -> pd.DataFrame:
        """The estimates as a table, one row per quantity."""
        if isinstance(self.estimate, pd.DataFrame):
            return self.estimate.copy()
        if isinstance(self.estimate, pd.Series):
            return self.estimate.to_frame("estimate")
        return pd.DataFrame({"estimate": [self.estimate], "n": [self.n], "n_missing": [self.n_missing]}, index=[self.title])

    def summary(self) -> Summary:
        """The result as tables."""
        return Summary((_frame_table(self.title, self.to_frame(), self.notes()),))

    def notes(self) -> tuple[str, ...]:
        """Lines below the table: rows, missing rows, owners, digest of the plan."""
        left_out = "" if self.n_missing is None else f"; {_count(self.n_missing, 'row')} left out for missing values"
        lines = [f"{_count(self.n, 'row')}{left_out}"]
        if self.receipt is not None:
            lines.append(
                f"data owners: {', '.join(self.contributors)}; architecture: {self.plan.definition.architecture.name}; plan {self.plan.digest[:12]}"
            )
        return tuple(lines)

    def to_latex(self) -> str:
        """The summary's tables for LaTeX (booktabs)."""
        return self.summary().as_latex()

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary().as_html()


def _count(value: Any, noun: str) -> str:
    if isinstance(value, pd.Series):
        distinct = sorted(set(value))
        if len(distinct) == 1:
            return _count(int(distinct[0]), noun)
        return f"{distinct[0]:,} to {distinct[-1]:,} {noun}s"
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def _frame_table(title: str, frame: pd.DataFrame, notes: tuple[str, ...]) -> Table:
    rows = []
    for name, row in zip(frame.index, frame.itertuples(index=False, name=None), strict=True):
        rows.append([label(name), *(number(value.item() if hasattr(value, "item") else value) for value in row)])
    return Table(title, ["", *map(label, frame.columns)], rows, notes)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class EstimateWithError(Result):
    """Estimates with standard errors and Student's t intervals; ``freedom`` are degrees of freedom."""

    std_error: Any
    freedom: Any

    def conf_int(self, alpha: float = 0.05) -> Any:
        """(lower, upper), or a DataFrame with these columns where there are several estimates."""
        check_number("alpha", alpha, 0, 1)
        if not isinstance(self.estimate, pd.Series):
            if self.std_error is None:
                return None
            half = t_quantile(1 - alpha / 2, float(self.freedom)) * self.std_error
            return (self.estimate - half, self.estimate + half)
        halves = [
            t_quantile(1 - alpha / 2, float(f)) * e if f > 0 else float("nan") for e, f in zip(self.std_error, self.freedom, strict=True)
        ]
        half = pd.Series(halves, index=self.estimate.index, dtype=float)
        return pd.DataFrame({"lower": self.estimate - half, "upper": self.estimate + half})

    def to_frame(self) -> pd.DataFrame:
        interval = self.conf_int()
        if isinstance(self.estimate, pd.Series):
            return pd.DataFrame(
                {"estimate": self.estimate, "std_error": self.std_error, **interval, "n": self.n, "n_missing": self.n_missing}
            )
        low, high = interval or (None, None)
        return pd.DataFrame(
            {"estimate": self.estimate, "std_error": self.std_error, "lower": low, "upper": high, "n": self.n, "n_missing": self.n_missing},
            index=[self.title],
        )
