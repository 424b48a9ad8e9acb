"""The kinds of column: agreed bounds and a lattice on which every value becomes an integer code.

A code is a non-negative integer ``k`` at most ``top``; it stands for ``origin + step * k``. Bounds, steps and
levels are public, so that encodings, ring widths and sensitivities follow from them and never from data.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from veilstat.errors import RangeError, SchemaError

from .encoding import Integers, Number, encode, exact, nearest_floats, round_half_even
from .quoting import quoted
from .series import are_whole, day_numbers, is_one_of, plain_numbers
from .toml import toml_number

Level: TypeAlias = "str | int | float | bool | dt.date"
Codes: TypeAlias = "tuple[Integers, npt.NDArray[np.bool_]]"
"""A column's integer codes (0 where missing) and which rows are present."""

_EPOCH = dt.date(1970, 1, 1)
_LARGEST_TOP = 2**53


@dataclass(frozen=True, kw_only=True)
class _Column:
    name: str = field(kw_only=False)
    unit: str = ""
    missing: tuple[Level, ...] = ()

    kind: ClassVar[str]
    numbers: ClassVar[tuple[str, ...]] = ()
    """Fields that are numbers, whose digits are all kept."""

    def __post_init__(self) -> None:
        self._check_words()
        if not 1 <= self.top <= _LARGEST_TOP:
            raise SchemaError(
                f"column {self.name!r}: its bounds and step must allow 2 to 2^53 + 1 different values, not {self.top + 1}",
                code="bad_bounds",
            )

    def _check_words(self) -> None:
        if not isinstance(self.name, str) or not self.name or not self.name.isprintable():
            raise SchemaError("a column needs a name, a non-empty string of printable characters", code="bad_column")
        if not isinstance(self.unit, str):
            raise SchemaError(f"column {self.name!r}: the unit must be text", code="bad_column")
        object.__setattr__(self, "missing", _listed(self.missing, self.name, "missing", "bad_missing"))

    @property
    def origin(self) -> Fraction:
        """The value of code 0."""
        return Fraction(0)

    @property
    def lattice_step(self) -> Fraction:
        """The distance between neighbouring lattice points."""
        return Fraction(1)

    @property
    def top(self) -> int:
        """The largest code."""
        raise NotImplementedError

    @property
    def is_numeric(self) -> bool:
        """Whether sums and means of the column make sense."""
        return True

    def codes(self, series: pd.Series) -> Codes:
        """Encode one column of a table.

        Raises:
            RangeError: a value lies outside the bounds. SchemaError: wrong type, or an unknown level.
        """
        codes = np.zeros(len(series), dtype=np.int64)
        try:
            present = self._present(series)
            codes[present] = self._encode(series[present])
        except (SchemaError, RangeError) as error:
            raise error.at(f"column {self.name!r}") from None
        return codes, present

    def floats(self, series: pd.Series) -> npt.NDArray[np.float64]:
        """The values as they are, on no lattice and within no bounds, NaN where missing: for predictions.

        Raises:
            SchemaError: they are no numbers.
        """
        result = np.full(len(series), np.nan)
        try:
            present = self._present(series)
            result[present] = self._floats(series[present])
        except SchemaError as error:
            raise error.at(f"column {self.name!r}") from None
        return result

    def decode(self, codes: Integers, present: npt.NDArray[np.bool_]) -> pd.Series:
        """The lattice values that ``codes`` stand for, missing where not present."""
        values = pd.Series(nearest_floats(codes, self.origin, self.lattice_step))
        return values.where(present)

    def describe(self) -> str:
        """Bounds and lattice in words."""
        return f"{_short(self.origin)} to {_short(self.origin + self.lattice_step * self.top)} in steps of {_short(self.lattice_step)}"

    def to_dict(self) -> dict[str, Any]:
        """A plain mapping, as TOML holds it."""
        plain: dict[str, Any] = {"kind": self.kind}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value != entry.default and value is not None:
                plain[entry.name] = list(value) if isinstance(value, tuple) else value
        return plain | {name: toml_number(exact(plain[name])) for name in self.numbers if name in plain}

    def _present(self, series: pd.Series) -> npt.NDArray[np.bool_]:
        present = series.notna().to_numpy(dtype=bool, copy=True)
        return present & ~is_one_of(series, self.missing) if self.missing else present

    def _encode(self, series: pd.Series) -> Integers:
        raise NotImplementedError

    def _floats(self, series: pd.Series) -> npt.NDArray[np.float64]:
        try:
            return plain_numbers(series).astype(np.float64)
        except OverflowError:
            raise SchemaError("a number is too large for a float", code="wrong_type") from None


@dataclass(frozen=True, kw_only=True)
class _Numeric(_Column):
    lower: Number
    upper: Number
    step: Number = 1
    numbers: ClassVar[tuple[str, ...]] = ("lower", "upper", "step")

    def __post_init__(self) -> None:
        try:
            lower, upper, step = exact(self.lower), exact(self.upper), exact(self.step)
        except SchemaError as error:
            raise error.at(f"column {self.name!r}, bounds or step") from None
        if step <= 0 or upper <= lower:
            raise SchemaError(f"column {self.name!r}: lower must be below upper, and step positive", code="bad_bounds")
        super().__post_init__()

    @property
    def origin(self) -> Fraction:
        return exact(self.lower)

    @property
    def lattice_step(self) -> Fraction:
        return exact(self.step)

    @property
    def top(self) -> int:
        return round_half_even((exact(self.upper) - self.origin) / self.lattice_step)

    def describe(self) -> str:
        return f"{_short(exact(self.lower))} to {_short(exact(self.upper))} in steps of {_short(self.lattice_step)}"

    def _encode(self, series: pd.Series) -> Integers:
        return encode(plain_numbers(series), self.origin, self.lattice_step, exact(self.lower), exact(self.upper))


@dataclass(frozen=True, kw_only=True)
class Integer(_Numeric):
    """Whole numbers from ``lower`` to ``upper``, in ``unit``."""

    kind: ClassVar[str] = "integer"

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(exact(value).denominator != 1 for value in (self.lower, self.upper, self.step)):
            raise SchemaError(f"column {self.name!r}: Integer needs whole bounds and step; use Continuous", code="bad_bounds")

    def decode(self, codes: Integers, present: npt.NDArray[np.bool_]) -> pd.Series:
        if present.all():
            return pd.Series(int(self.origin) + int(self.lattice_step) * codes)
        return super().decode(codes, present)

    def _encode(self, series: pd.Series) -> Integers:
        numbers = plain_numbers(series)
        if not are_whole(numbers):
            raise SchemaError("whole numbers were expected; declare the column Continuous with a step", code="wrong_type")
        return encode(numbers, self.origin, self.lattice_step, exact(self.lower), exact(self.upper))


@dataclass(frozen=True, kw_only=True)
class Continuous(_Numeric):
    """Real numbers from ``lower`` to ``upper``, rounded to a lattice of width ``step`` (half to even), in ``unit``."""

    step: Number
    kind: ClassVar[str] = "continuous"


@dataclass(frozen=True, kw_only=True)
class Binary(_Column):
    """A yes or no, stored as 0/1 or False/True."""

    kind: ClassVar[str] = "binary"

    @property
    def top(self) -> int:
        return 1

    def decode(self, codes: Integers, present: npt.NDArray[np.bool_]) -> pd.Series:
        return pd.Series(codes) if present.all() else super().decode(codes, present)

    def describe(self) -> str:
        return "0 or 1"

    def _encode(self, series: pd.Series) -> Integers:
        numbers = plain_numbers(series)
        if any(value not in (0, 1) for value in np.unique(numbers)):
            raise SchemaError(
                "only 0, 1, False and True were expected; correct the data, or declare the column Categorical", code="unknown_level"
            )
        return numbers.astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Categorical(_Column):
    """One of the agreed ``levels``, in the agreed order; the first is the reference level in regressions."""

    levels: tuple[Level, ...]
    kind: ClassVar[str] = "categorical"

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", _listed(self.levels, self.name, "levels", "bad_levels"))
        if len(self.levels) < 2 or len(set(self.levels)) < len(self.levels):
            raise SchemaError(f"column {self.name!r}: at least two levels are needed, each named once", code="bad_levels")
        super().__post_init__()

    @property
    def top(self) -> int:
        return len(self.levels) - 1

    @property
    def is_numeric(self) -> bool:
        return False

    def decode(self, codes: Integers, present: npt.NDArray[np.bool_]) -> pd.Series:
        values = pd.Series([self.levels[int(code)] for code in codes], dtype=object).where(present)
        return values.astype(pd.CategoricalDtype(list(self.levels)))

    def describe(self) -> str:
        return f"one of {', '.join(map(quoted, self.levels))}"

    def _encode(self, series: pd.Series) -> Integers:
        order = {level: code for code, level in enumerate(self.levels)}
        known = is_one_of(series.astype(object), self.levels)
        unknown = int(np.count_nonzero(~known))
        if unknown:
            raise SchemaError(
                f"{unknown} value{'s are' if unknown > 1 else ' is'} none of the agreed levels; correct the data, or agree on the level",
                code="unknown_level",
            )
        return cast(Integers, series.astype(object).map(order).to_numpy(dtype=np.int64))


@dataclass(frozen=True, kw_only=True)
class Date(_Column):
    """A calendar day from ``lower`` to ``upper`` (ISO strings or dates); in arithmetic, days since 1970-01-01."""

    lower: str | dt.date
    upper: str | dt.date
    unit: str = "days"
    kind: ClassVar[str] = "date"

    def __post_init__(self) -> None:
        for bound in ("lower", "upper"):
            value = getattr(self, bound)
            try:
                day = dt.date.fromisoformat(value) if isinstance(value, str) else value
            except ValueError:
                day = None
            if isinstance(day, dt.datetime) and not pd.isna(day):
                day = day.date()
            if not isinstance(day, dt.date) or pd.isna(day):
                raise SchemaError(f"column {self.name!r}: {bound} must be a day such as '2026-01-31'", code="bad_bounds")
            object.__setattr__(self, bound, day.isoformat())
        super().__post_init__()

    @property
    def origin(self) -> Fraction:
        return Fraction(_days(str(self.lower)))

    @property
    def top(self) -> int:
        return _days(str(self.upper)) - _days(str(self.lower))

    def decode(self, codes: Integers, present: npt.NDArray[np.bool_]) -> pd.Series:
        days = (codes + int(self.origin)).astype("datetime64[D]").astype("datetime64[s]")
        return pd.Series(days).where(present)

    def describe(self) -> str:
        return f"{self.lower} to {self.upper}, by day"

    def _encode(self, series: pd.Series) -> Integers:
        return encode(day_numbers(series), self.origin, Fraction(1), self.origin, self.origin + self.top)

    def _floats(self, series: pd.Series) -> npt.NDArray[np.float64]:
        if pd.api.types.is_numeric_dtype(series.dtype):
            return super()._floats(series)
        return day_numbers(series).astype(np.float64)


def _listed(values: object, name: object, what: str, code: str) -> tuple[Level, ...]:
    """Levels or missing codes as a tuple of plain values; TOML's decimals become the floats that tables hold."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise SchemaError(f"column {name!r}: {what} must be a list", code=code)
    plain = [value.item() if isinstance(value, np.generic) else float(value) if isinstance(value, Decimal) else value for value in values]
    if not all(isinstance(value, (str, int, float, dt.date)) and value == value for value in plain):
        raise SchemaError(f"column {name!r}: {what} must be text, numbers or days", code=code)
    return tuple(plain)


def _days(day: str) -> int:
    return (dt.date.fromisoformat(day) - _EPOCH).days


def _short(value: Fraction) -> str:
    return f"{int(value):,}" if value.denominator == 1 else f"{float(value):g}"


Column = _Column
