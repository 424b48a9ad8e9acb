"""Integers of equal size for noise of equal size: columns about the middle of their bounds, stretched to one common range.

Cross-products of such columns are opened with noise of one size. Unscaled, a column in steps of a cent would be heard and one
of 0 and 1 drowned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from veilstat.language.step import Opened
from veilstat.language.trace import Value, stack

from .private import LEAST_RATIO

Matrix = npt.NDArray[np.float64]
_FINENESS = 5
"""Bits by which the common range is wider than the widest column: factors are whole to 2^-5."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """For each column the integers (a, b) with z = a e - b within [-size, size], for its integer e.

    A constant column, bounded by (1, 1), becomes ``size`` itself.
    """

    factors: tuple[tuple[int, int], ...]
    size: int

    @staticmethod
    def about_middles(bounds: Sequence[tuple[int, int]]) -> Scaling:
        """Each column is centred in its bounds: for models whose constant takes up any shift."""
        size = _size([high - low for low, high in bounds])
        return Scaling(
            tuple(
                (size, 0) if low == high else (2 * (size // (high - low)), (size // (high - low)) * (low + high)) for low, high in bounds
            ),
            size,
        )

    @staticmethod
    def about_zero(bounds: Sequence[tuple[int, int]]) -> Scaling:
        """Each column keeps its zero."""
        widths = [max(abs(low), abs(high)) for low, high in bounds]
        size = _size(widths)
        return Scaling(tuple((size // width, 0) for width in widths), size)

    def vector(self, columns: Sequence[Value], flag: Value) -> Value:
        """The integers z of every row, 0 where it does not count."""
        stretched = stack(*columns, 1) * [*(a for a, _ in self.factors), 1] - [*(b for _, b in self.factors), 0]
        return stretched[: len(columns)] * flag

    def stretch(self) -> Matrix:
        """How much z / size changes when a column's integer does by 1."""
        return np.array([a / self.size for a, _ in self.factors])

    def middles(self) -> Matrix:
        """The integer of each column at which z is 0."""
        return np.array([b / a for a, b in self.factors])


@dataclass(frozen=True, slots=True)
class NoisyProducts:
    """Sums of products z z' / size^2, whose upper triangle has independent noise of standard deviation ``noise``."""

    matrix: Matrix
    noise: float

    @staticmethod
    def of(opened: Opened, name: str, size: int) -> NoisyProducts:
        """What was opened under a name."""
        unit = size * size
        matrix: Any = opened[name] / unit
        return NoisyProducts(matrix.astype(np.float64), float(opened.noise[name].reshape(-1)[0]) ** 0.5 / unit)

    @property
    def rows(self) -> float:
        """The number of rows, where the first column is the constant."""
        return float(self.matrix[0, 0])

    @property
    def has_rows(self) -> bool:
        """Whether there are enough rows, beside their noise, to divide by."""
        return self.rows >= 2 and self.rows >= LEAST_RATIO * self.noise


def _size(widths: Sequence[int]) -> int:
    return 1 << (max(widths).bit_length() + _FINENESS)
