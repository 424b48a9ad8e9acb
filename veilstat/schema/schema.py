"""The schema: what the columns are, publicly agreed by all owners before anything is computed."""

from __future__ import annotations

import hashlib
import html
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import tomli_w

from veilstat.errors import SchemaError

from .columns import Binary, Categorical, Codes, Column, Continuous, Date, Integer
from .derived import Derived
from .quoting import quoted, quoted_unit
from .toml import column_from_dict

KINDS: Mapping[str, type[Column]] = {kind.kind: kind for kind in (Integer, Continuous, Binary, Categorical, Date, Derived)}
DEFAULT_MAX_ROWS = 2**20


@dataclass(frozen=True, init=False, repr=False)
class Schema:
    """Columns with bounds and lattices, and ``max_rows``, the most rows that one owner may bring.

    Args:
        columns: Integer, Continuous, Binary, Categorical, Date or Derived columns, each name once.
        max_rows: public bound on the rows of each owner; ring widths and sensitivities follow from it.

    Raises:
        SchemaError: a name stands twice, or there is no column.
    """

    columns: tuple[Column, ...]
    max_rows: int

    def __init__(self, *columns: Column, max_rows: int = DEFAULT_MAX_ROWS) -> None:
        plain: dict[str, Column] = {}
        for column in columns:
            if not isinstance(column, Column):
                raise SchemaError("a schema must be made of columns such as vs.Integer('age', lower=0, upper=120)", code="bad_column")
            if column.name in plain:
                raise SchemaError(f"column {column.name!r} stands twice in the schema", code="duplicate_column")
            plain[column.name] = column.bounded(plain) if isinstance(column, Derived) else column
        if not plain:
            raise SchemaError("a schema needs at least one column", code="no_columns")
        if isinstance(max_rows, bool) or not isinstance(max_rows, int) or not 1 <= max_rows <= 2**40:
            raise SchemaError("max_rows must be a whole number from 1 to 2^40", code="bad_max_rows")
        object.__setattr__(self, "columns", tuple(plain.values()))
        object.__setattr__(self, "max_rows", max_rows)

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and any(column.name == name for column in self.columns)

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if isinstance(name, str) and column.name == name:
                return column
        raise SchemaError(
            f"there is no column {name!r}; the schema has: {', '.join(quoted(c.name) for c in self.columns)}", code="unknown_column"
        )

    def numeric(self, name: str) -> Column:
        """The column, if sums of it make sense; a SchemaError otherwise."""
        column = self[name]
        if not column.is_numeric:
            raise SchemaError(f"column {name!r} is categorical and has no sum; use crosstab, groupby or C({name})", code="wrong_type")
        return column

    def levels(self, name: str) -> tuple[Any, ...]:
        """The values of a categorical, binary or small integer column, in the order of their codes."""
        column = self[name]
        if isinstance(column, Categorical):
            return column.levels
        if isinstance(column, (Binary, Integer)) and column.top < 1000:
            return tuple(int(column.origin + column.lattice_step * code) for code in range(column.top + 1))
        raise SchemaError(f"column {name!r} has no small set of levels; use histogram, or declare it Categorical", code="wrong_type")

    def level_names(self) -> dict[str, tuple[str, ...]]:
        """Names of the codes of categorical columns, for people."""
        return {column.name: tuple(map(str, column.levels)) for column in self.columns if isinstance(column, Categorical)}

    def encode(self, frame: pd.DataFrame, name: str) -> Codes:
        """Codes and presence of one column of an owner's table.

        Raises:
            SchemaError: the table lacks the column, or its type or levels do not fit. RangeError: out of bounds.
        """
        column = self[name]
        _require_frame(frame)
        if isinstance(column, Derived):
            values = {source: self[source].decode(*self.encode(frame, source)) for source in column.sources}
            return column.derive(values)
        return column.codes(_series(frame, name))

    def floats(self, frame: pd.DataFrame, name: str) -> npt.NDArray[np.float64]:
        """One column of new observations in units, on no lattice and within no bounds, NaN where missing: for predictions.

        Raises:
            SchemaError: the table lacks the column, or its type does not fit.
        """
        _require_frame(frame)
        if isinstance(self[name], Derived) and name not in frame.columns:
            return self[name].decode(*self.encode(frame, name)).to_numpy(dtype=np.float64)
        return self[name].floats(_series(frame, name))

    def quantise(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame as it is analysed: every column of the schema on its lattice, missing codes as missing.

        Exact decimal arithmetic, half to even; the index is kept, columns outside the schema are dropped.
        """
        decoded = {column.name: column.decode(*self.encode(frame, column.name)) for column in self.columns}
        return pd.DataFrame({name: series.set_axis(frame.index) for name, series in decoded.items()}, index=frame.index)

    @classmethod
    def infer(cls, frame: pd.DataFrame, *, max_rows: int = DEFAULT_MAX_ROWS) -> Self:
        """A schema that fits ``frame``. It reads data, so its bounds reveal them: for simulations only."""
        _require_frame(frame)
        return cls(*(_infer(name, series) for name, series in frame.items()), max_rows=max_rows)

    def to_dict(self) -> dict[str, Any]:
        """A plain mapping, as TOML holds it."""
        return {"max_rows": self.max_rows, "columns": [column.to_dict() for column in self.columns]}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The schema that ``to_dict`` wrote; SchemaError where keys do not fit."""
        if not isinstance(plain, Mapping) or set(plain) - {"max_rows", "columns"} or not isinstance(plain.get("columns"), list):
            raise SchemaError("a schema has a list [[columns]] and, if wanted, max_rows; nothing else", code="bad_schema")
        columns = [column_from_dict(entry, KINDS) for entry in plain["columns"]]
        return cls(*columns, max_rows=plain.get("max_rows", DEFAULT_MAX_ROWS))

    def to_toml(self, path: str | Path | None = None) -> str:
        """The schema as TOML text; also written to ``path`` if one is given."""
        text = tomli_w.dumps(self.to_dict())
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Read a schema from a TOML file; decimals keep their digits."""
        return cls.from_dict(read_toml(path))

    @property
    def digest(self) -> bytes:
        """SHA-256 of the canonical form: equal schemas, equal digests."""
        text = json.dumps(self.to_dict(), sort_keys=True, default=str, separators=(",", ":"))
        return hashlib.sha256(text.encode()).digest()

    def __str__(self) -> str:
        rows = self._rows()
        widths = [max(len(row[place]) for row in rows) for place in range(3)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, f"at most {self.max_rows:,} rows per data owner"])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head, *rows = [[html.escape(cell) for cell in row] for row in self._rows()]
        body = "".join("<tr>" + "".join(f'<td style="text-align:left">{cell}</td>' for cell in row) + "</tr>" for row in rows)
        titles = "".join(f'<th style="text-align:left">{cell}</th>' for cell in head)
        return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table><p>At most {self.max_rows:,} rows per data owner.</p>"

    def _rows(self) -> list[tuple[str, str, str]]:
        units = {column.name: f", {quoted_unit(column.unit)}" if column.unit else "" for column in self.columns}
        return [("column", "kind", "values"), *((quoted(c.name), c.kind, c.describe() + units[c.name]) for c in self.columns)]


def read_toml(path: str | Path) -> dict[str, Any]:
    """What a TOML file holds, decimals with all their digits; SchemaError where it cannot be read."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"), parse_float=Decimal)
    except (OSError, TypeError):
        raise SchemaError(f"there is no file {str(path)!r} that can be read", code="no_file") from None
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"{str(path)!r} is not TOML: {error}", code="bad_toml") from None


def _require_frame(frame: object) -> None:
    if not isinstance(frame, pd.DataFrame):
        raise SchemaError(f"the table must be a pandas DataFrame, not {type(frame).__name__}", code="wrong_type")


def _series(frame: pd.DataFrame, name: str) -> pd.Series:
    if name not in frame.columns:
        raise SchemaError(f"the table lacks the column {name!r}; add it, or rename the one that is meant", code="missing_column")
    series = frame[name]
    if isinstance(series, pd.DataFrame):
        raise SchemaError(f"the table has the column {name!r} twice; keep one of them", code="duplicate_column")
    return series


def _infer(name: Any, series: pd.Series) -> Column:
    values = series.dropna()
    if pd.api.types.is_datetime64_any_dtype(series.dtype) and len(values):
        first = values.min().date()
        return Date(name, lower=first, upper=max(values.max().date(), first + timedelta(days=1)))
    if pd.api.types.is_bool_dtype(series.dtype) or values.isin([0, 1]).all():
        return Binary(name)
    if not pd.api.types.is_numeric_dtype(series.dtype):
        return Categorical(name, levels=tuple(sorted(values.unique(), key=str)))
    if (values == np.floor(values)).all():
        return Integer(name, lower=int(values.min()), upper=max(int(values.max()), int(values.min()) + 1))
    exponents = [Decimal(str(float(value))).as_tuple().exponent for value in values.unique()]
    step = max(Decimal(1).scaleb(min(int(exponent) for exponent in exponents)), Decimal("1e-6"))
    lower = (Decimal(str(float(values.min()))) // step - 1) * step
    upper = (Decimal(str(float(values.max()))) // step + 1) * step
    return Continuous(name, lower=lower, upper=upper, step=step)


__all__ = ["KINDS", "Schema"]
