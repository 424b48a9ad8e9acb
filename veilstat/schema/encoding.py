"""Exact encoding of numbers as integers on a column's lattice.

A number means the shortest decimal that its own type prints (float32 ``0.1`` is one tenth), so that
``(10.05 - 10) / 0.1`` is the tie 1/2 and rounds to the even 0, where float64 arithmetic says 1. A float pass
decides every value that is far enough from a tie; the rest, usually none, is decided by decimal arithmetic.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import isqrt
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from veilstat.errors import RangeError, SchemaError

Integers: TypeAlias = "npt.NDArray[Any]"
"""Integers as int64 where they fit, else an object array of Python integers."""

Number: TypeAlias = "int | float | str | Decimal | Fraction | np.integer[Any] | np.floating[Any] | np.bool_"
NUMBERS = (int, float, Decimal, Fraction, np.integer, np.floating, np.bool_)
"""What counts as a number among objects."""


def exact(number: Number) -> Fraction:
    """The rational that a person means by ``number``: its shortest decimal, not its binary value."""
    if isinstance(number, Fraction):
        return number
    if isinstance(number, (bool, np.bool_)):
        return Fraction(int(number))
    if isinstance(number, (int, np.integer)):
        return Fraction(int(number))
    if isinstance(number, np.floating):
        number = str(number)
    try:
        return Fraction(str(number))
    except (ArithmeticError, ValueError) as error:
        raise SchemaError("a number was expected here, and it must be finite", code="not_a_number") from error


def round_half_even(value: Fraction) -> int:
    """The nearest integer, ties to even."""
    return round(value)


def round_half_up(value: Fraction) -> int:
    """The nearest integer, ties upwards: floor(value + 1/2), which servers can compute on shares."""
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)


def nearest_floats(codes: Integers, origin: Fraction, step: Fraction) -> npt.NDArray[np.float64]:
    """``origin + step * codes``, each rounded once to the nearest float64."""
    distinct, place = np.unique(codes, return_inverse=True)
    values = np.array([float(origin + step * int(code)) for code in distinct], dtype=np.float64)
    return values[place.reshape(codes.shape)] if len(values) else np.zeros(codes.shape)


def encode(numbers: npt.NDArray[Any], origin: Fraction, step: Fraction, lower: Fraction, upper: Fraction) -> Integers:
    """Codes ``round((number - origin) / step)``, half to even, of numbers that must lie in [lower, upper].

    Args:
        numbers: a one-dimensional array without missing values: integers, floats of any width, or objects
            (int, float, Decimal, Fraction).

    Returns:
        int64 codes, shape as ``numbers``.

    Raises:
        RangeError: some numbers lie outside the bounds; the message counts them and holds none.
        SchemaError: some objects are not numbers.
    """
    kind = numbers.dtype.kind
    if kind == "O":
        fractions = [_exact_object(value) for value in numbers]
        _refuse_outside(sum(not lower <= value <= upper for value in fractions))
        return np.array([round_half_even((value - origin) / step) for value in fractions], dtype=np.int64)
    if kind in "biu":
        numbers = numbers.astype(np.int64) if kind == "b" else numbers
        low, high = -(-lower.numerator // lower.denominator), upper.numerator // upper.denominator
        _refuse_outside(int(np.count_nonzero((numbers < low) | (numbers > high))))
        numbers = numbers.astype(np.int64)
    elif kind != "f":
        raise SchemaError("numbers were expected here", code="wrong_type")
    return _encode_plain(numbers, origin, step, lower, upper)


def _encode_plain(numbers: npt.NDArray[Any], origin: Fraction, step: Fraction, lower: Fraction, upper: Fraction) -> Integers:
    if numbers.dtype.kind == "f":
        bounds = [_cast(numbers.dtype, bound) for bound in (lower, upper)]
        _refuse_outside(int(np.count_nonzero(~((numbers >= bounds[0]) & (numbers <= bounds[1])))))
        width = float(np.finfo(numbers.dtype).eps)
    else:
        width = 0.0
    x = numbers.astype(np.float64)
    quotient = (x - float(origin)) / float(step)
    codes = np.rint(quotient)
    tiny = 2.0**-50
    doubt = (4 * width * np.abs(x) + tiny * (np.abs(x) + abs(float(origin)))) / float(step) + tiny * (np.abs(quotient) + 1)
    near_tie = np.flatnonzero(0.5 - np.abs(quotient - codes) <= doubt)
    result = codes.astype(np.int64)
    for place in near_tie:
        result[place] = round_half_even((exact(numbers[place]) - origin) / step)
    return result


def _cast(dtype: np.dtype[Any], bound: Fraction) -> Any:
    return np.array(float(bound)).astype(dtype)


def _exact_object(value: object) -> Fraction:
    if isinstance(value, NUMBERS):
        return exact(value)
    raise SchemaError("numbers were expected here, and some entries are not", code="wrong_type")


def _refuse_outside(count: int) -> None:
    if count:
        raise RangeError(
            f"{count} value{'s lie' if count > 1 else ' lies'} outside the agreed bounds; correct the data, or agree on wider bounds",
            code="out_of_bounds",
        )


def rounded_root(square: Fraction, resolution: Fraction) -> int:
    """The signed root of a rational in units of ``resolution``, rounded towards zero: of the square's nearest multiple of resolution^2."""
    nearest = round_half_up(square / resolution**2)
    return isqrt(nearest) if nearest >= 0 else -isqrt(-nearest)
