"""What statistics of plain columns share: which columns, which rows, and units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd

from veilstat.errors import SchemaError
from veilstat.language.trace import Trace, Value
from veilstat.schema.schema import Schema

LISTWISE = "listwise"
SEALED = Fraction(1, 2**40)
"""What sealed estimates are rounded to before they are opened, in units of codes."""


def as_names(columns: str | Sequence[str]) -> tuple[str, ...]:
    """One or several names as a tuple; SchemaError for none, a repeated one, or no text."""
    names = (columns,) if isinstance(columns, str) else tuple(columns) if isinstance(columns, Iterable) else ()
    if not names or any(not isinstance(name, str) for name in names):
        raise SchemaError("columns must be given by name, one or a list of them", code="bad_columns")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SchemaError(f"column {twice!r} is named twice; name each column once", code="bad_columns")
    return names


class OfColumns:
    """What is asked of one column, of several, or of rows alone."""

    column: str | tuple[str, ...] | None

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, in order."""
        return () if self.column is None else as_names(self.column)

    @property
    def is_scalar(self) -> bool:
        """Whether the answer is one number, and no Series by column."""
        return not isinstance(self.column, tuple)

    def titled(self, word: str) -> str:
        """What a result is called."""
        return f"{word} of {', '.join(self.names) or 'rows'}"

    def by_column(self, values: Iterable[Any]) -> Any:
        """A float for one column, a Series for several."""
        floats = [float(value) for value in values]
        return floats[0] if self.is_scalar else pd.Series(floats, index=list(self.names))

    def counted(self, n: Iterable[Any], n_missing: Iterable[Any]) -> tuple[Any, Any]:
        """(n, n_missing): integers for one column, Series by column for several."""
        return self._counts("n", n), self._counts("n_missing", n_missing)

    def _counts(self, name: str, counts: Iterable[Any]) -> Any:
        numbers = [int(count) for count in counts]
        return numbers[0] if self.is_scalar else pd.Series(numbers, index=list(self.names), name=name)


def check_missing(missing: str | None) -> None:
    """Accept None (each column by itself) and 'listwise'."""
    check_option("missing", missing, (None, LISTWISE))


def check_option(name: str, value: object, choices: tuple[str | None, ...]) -> None:
    """Refuse what is none of the choices, whatever its type."""
    if not (value is None or isinstance(value, str)) or value not in choices:
        raise SchemaError(f"{name} must be {' or '.join(map(repr, choices))}, not {value!r}", code="bad_option")


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Refuse what is no number strictly between two bounds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low < value < high:
        raise SchemaError(f"{name} must be a number above {low:g} and below {high:g}", code="bad_option")


def as_they_are(totals: Mapping[str, Value], public: Mapping[str, Value]) -> Mapping[str, Value]:
    """The combine of a step whose answers are its totals."""
    return totals


def flags(rows: Trace, names: Sequence[str], missing: str | None) -> list[Value]:
    """For each column, 1 in the rows that count for it."""
    if missing == LISTWISE:
        return [rows.all_present(names)] * len(names)
    return [rows.present(name) for name in names]


def one_hot(rows: Trace, name: str) -> Value:
    """For each level 1 in its rows; all 0 where missing."""
    return rows.column(name).equal(list(range(len(rows.schema.levels(name))))) * rows.present(name)


def level_index(schema: Schema, name: str) -> pd.Index:
    """The levels of a column, as tables of results have them."""
    levels: pd.Index = pd.Index(schema.levels(name), name=name)
    return levels


def require_rows(n: Any, what: str) -> None:
    """Refuse an answer from nothing."""
    if n == 0:
        raise SchemaError(f"{what}: no data owner has a row with a value; there is nothing to compute from", code="no_rows")


def in_units(schema: Schema, name: str, code: Any) -> Any:
    """A location in codes as a value of the column: origin + step * code, exactly."""
    column = schema[name]
    return column.origin + column.lattice_step * code


def root(value: Any) -> float:
    """The square root of an exact number, nan where undefined."""
    floated = float(value)
    return float(np.sqrt(floated)) if floated >= 0 else float("nan")
