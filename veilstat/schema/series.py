"""What a column of a table holds, as plain arrays: numbers, days, or one of some values. No bounds, no lattice."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from veilstat.errors import SchemaError

from .encoding import NUMBERS, Integers


def plain_numbers(series: pd.Series) -> npt.NDArray[Any]:
    """The numbers of a series without missing values as a plain numpy array of its own width."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype(series.dtype.categories.dtype)
    if isinstance(series.dtype, np.dtype):
        numbers = series.to_numpy()
    elif pd.api.types.is_bool_dtype(series.dtype):
        numbers = series.to_numpy(dtype=bool)
    elif pd.api.types.is_integer_dtype(series.dtype):
        numbers = series.to_numpy(dtype=np.int64)
    elif pd.api.types.is_float_dtype(series.dtype):
        numbers = series.to_numpy(dtype=getattr(series.dtype, "numpy_dtype", np.float64))
    else:
        numbers = series.to_numpy(dtype=object)
    if numbers.dtype.kind not in "biufO" or not all(isinstance(value, NUMBERS) for value in _objects(numbers)):
        raise SchemaError("numbers were expected here; text or another type was found", code="wrong_type")
    return numbers


def day_numbers(series: pd.Series) -> Integers:
    """Calendar days (dates, timestamps, ISO 8601 text) without missing values as days since 1970-01-01.

    A timestamp with a time zone counts for the day that its own clock shows.

    Raises:
        SchemaError: something else, numbers included: they do not say from when they count.
    """
    if pd.api.types.is_numeric_dtype(series.dtype) or any(isinstance(value, NUMBERS) for value in _objects(series.to_numpy())):
        raise SchemaError("days were expected here; numbers were found", code="wrong_type")
    try:
        stamps = pd.to_datetime(series, format="ISO8601")
    except (ValueError, TypeError):
        raise SchemaError("days were expected here, such as 2026-01-31", code="wrong_type") from None
    return stamps.dt.tz_localize(None).to_numpy().astype("datetime64[D]").astype(np.int64)


def are_whole(numbers: npt.NDArray[Any]) -> bool:
    """Whether every number is whole; infinities are left to the bounds."""
    if numbers.dtype.kind == "f":
        return bool((np.isinf(numbers) | (numbers == np.floor(numbers))).all())
    return numbers.dtype.kind != "O" or all(value == int(value) for value in numbers if abs(value) < float("inf"))


def is_one_of(series: pd.Series, values: tuple[object, ...]) -> npt.NDArray[np.bool_]:
    """Which entries equal one of the values; a SchemaError where an entry can equal nothing, such as a list."""
    try:
        return cast("npt.NDArray[np.bool_]", series.isin(list(values)).to_numpy(dtype=bool))
    except TypeError:
        raise SchemaError("text or numbers were expected here; lists or other objects were found", code="wrong_type") from None


def _objects(numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return numbers if numbers.dtype.kind == "O" else numbers[:0]
