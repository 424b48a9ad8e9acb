"""Exact integer products by floating-point hardware: numpy has no fast matrix product of integers.

Operands are cut into limbs so narrow that a float64 matrix product over a block of rows stays below 2^53, where
every partial sum is an exact integer in whatever order it is added.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from veilstat.schema.encoding import Integers

_MANTISSA = 53
_BLOCK_BITS = 12


def _width(values: Integers) -> int:
    """Bits of the largest magnitude in an integer array."""
    if not values.size:
        return 0
    return max(int(abs(int(values.max()))), int(abs(int(values.min())))).bit_length()


def inner(a: Integers, b: Integers) -> npt.NDArray[np.object_]:
    """``a.T @ b`` in exact integers, for a of shape (rows, p) and b of shape (rows, q); result (p, q) of Python integers."""
    total = np.zeros((a.shape[1], b.shape[1]), dtype=object)
    if not total.size or not a.shape[0]:
        return total
    room = _MANTISSA - _BLOCK_BITS
    widths = [_width(a), _width(b)]
    limb_a = min(widths[0], max(room - widths[1], room // 2)) or 1
    limb_b = min(widths[1], room - limb_a) or 1
    left, right = _limbs(a, widths[0], limb_a), _limbs(b, widths[1], limb_b)
    for i, one in enumerate(left):
        for j, other in enumerate(right):
            total += _blocked(one, other).astype(object) * (1 << (i * limb_a + j * limb_b))
    return total


def _blocked(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    total = np.zeros((a.shape[1], b.shape[1]), dtype=np.int64)
    for start in range(0, a.shape[0], 1 << _BLOCK_BITS):
        block = slice(start, start + (1 << _BLOCK_BITS))
        total += (a[block].T @ b[block]).astype(np.int64)
    return total


def _limbs(values: Integers, width: int, limb: int) -> list[npt.NDArray[np.float64]]:
    if width <= limb:
        return [values.astype(np.float64)]
    sign = np.where(values < 0, -1, 1)
    magnitude = np.abs(values)
    parts = []
    for _ in range(-(-width // limb)):
        parts.append((sign * (magnitude & ((1 << limb) - 1))).astype(np.float64))
        magnitude = magnitude >> limb
    return parts
