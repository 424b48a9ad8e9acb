"""Exact solution of linear systems over the rationals, by python-flint (fmpq_mat, fraction-free elimination)."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from veilstat.language.evaluate import SingularMatrix


def solve(matrix: npt.NDArray[Any], right: npt.NDArray[Any]) -> npt.NDArray[np.object_]:
    """The exact x with ``matrix @ x = right``, for object arrays of Fractions; x has the shape of ``right``.

    Raises:
        SingularMatrix: names the first column that depends linearly on those before it.
    """
    from flint import fmpq_mat

    a, b = _to_flint(matrix), _to_flint(right.reshape(len(right), -1))
    try:
        solution: fmpq_mat = a.solve(b)
    except ZeroDivisionError:
        raise SingularMatrix(_first_dependent(matrix)) from None
    values = [Fraction(int(entry.p), int(entry.q)) for entry in solution.entries()]
    return np.array([*values, None], dtype=object)[:-1].reshape(right.shape)


def _to_flint(matrix: npt.NDArray[Any]) -> Any:
    from flint import fmpq, fmpq_mat

    entries = [fmpq(value.numerator, value.denominator) for value in (Fraction(entry) for entry in matrix.reshape(-1))]
    return fmpq_mat(matrix.shape[0], matrix.shape[1], entries)


def _first_dependent(matrix: npt.NDArray[Any]) -> int:
    reduced, rank = _to_flint(matrix).rref()
    table: list[list[Any]] = reduced.table()
    for column in range(matrix.shape[1]):
        if column >= rank or table[column][column] != 1:
            return column
    return int(matrix.shape[1]) - 1
