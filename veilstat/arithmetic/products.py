"""Exact products of long columns modulo 2^64 and 2^128: elementwise, weighted sums, and sums over rows.

Columns come first, shape (columns, rows), with limbs on a last axis where the ring has two: a column is contiguous
and a block of rows of all columns stays in the processor's cache. Modulo 2^64 numpy's own loops are used (for
1,000,000 x 10 a Gram matrix takes 23 ms; compiled C takes 12 to 18, numpy's matrix product of the whole 98). Modulo
2^128 the lower limbs are cut into parts so narrow that a float64 matrix product of a block is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .rings import Elements, Ring

_BLOCK = 1 << 13
_PARTS = (0, 22, 43)
_PART_BITS = 22
_FLOAT_BLOCK = 1 << (53 - 2 * _PART_BITS)
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


def multiply(ring: Ring, a: Elements, b: Elements) -> Elements:
    """Elementwise product, with broadcasting; limbs on the last axis."""
    if ring.limbs == 1:
        return np.asarray(a * b)
    (low_a, high_a), (low_b, high_b) = _limbs(ring, a), _limbs(ring, b)
    return np.stack([low_a * low_b, _upper_half(low_a, low_b) + low_a * high_b + high_a * low_b], axis=-1)


def weighted_sums(ring: Ring, weights: Elements, columns: Elements) -> Elements:
    """``weights @ columns``: weights of shape (m, p), columns (p, rows), result (m, rows)."""
    if ring.limbs == 1:
        return np.asarray(weights @ columns)
    (low_weights, high_weights), (low, high) = _limbs(ring, weights), _limbs(ring, columns)
    result = np.zeros((len(weights), *columns.shape[1:]), dtype=ring.dtype)
    for start in range(0, columns.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        for row, total in enumerate(result[:, block]):
            total[:, 1] = high[:, block].T @ low_weights[row] + low[:, block].T @ high_weights[row]
            for weight, column in zip(low_weights[row], low[:, block], strict=True):
                product = weight * column
                total[:, 0] += product
                total[:, 1] += _upper_half(column, weight) + (total[:, 0] < product)
    return result


def inner(ring: Ring, a: Elements, b: Elements) -> Elements:
    """``a @ b.T``, sums over rows of products: a of shape (p, rows), b (q, rows), result (p, q)."""
    if ring.limbs == 1:
        return _inner_words(a, b)
    (low_a, high_a), (low_b, high_b) = _limbs(ring, a), _limbs(ring, b)
    upper = _inner_words(low_a, high_b) + _inner_words(high_a, low_b)
    return _joined(ring, _inner_parts(low_a, low_b), upper)


def gram(ring: Ring, a: Elements) -> Elements:
    """``a @ a.T``, symmetric: a of shape (p, rows), result (p, p)."""
    if ring.limbs == 1:
        return _gram_words(a)
    low, high = _limbs(ring, a)
    upper = _inner_words(low, high)
    return _joined(ring, _inner_parts(low, low), upper + upper.T)


def _limbs(ring: Ring, a: Elements) -> tuple[Elements, Elements]:
    if ring.limbs != 2:
        raise ValueError(f"products are computed modulo 2^64 and 2^128, not 2^{ring.bits}")
    return a[..., 0], a[..., 1]


def _upper_half(a: Elements, b: Elements) -> Elements:
    """The upper 64 bits of the 128-bit products of words."""
    a0, a1, b0, b1 = a & _LOW, a >> _HALF, b & _LOW, b >> _HALF
    middle = a1 * b0 + (a0 * b0 >> _HALF)
    other = a0 * b1 + (middle & _LOW)
    return np.asarray(a1 * b1 + (middle >> _HALF) + (other >> _HALF))


def _inner_words(a: Elements, b: Elements) -> Elements:
    total = np.zeros((len(a), len(b)), dtype=np.uint64)
    for start in range(0, a.shape[1], _BLOCK):
        block = b[:, start : start + _BLOCK]
        for row, column in zip(total, a[:, start : start + _BLOCK], strict=True):
            row += np.einsum("r,jr->j", column, block)
    return total


def _gram_words(a: Elements) -> Elements:
    upper = np.zeros((len(a), len(a)), dtype=np.uint64)
    for start in range(0, a.shape[1], _BLOCK):
        block = a[:, start : start + _BLOCK]
        for place, column in enumerate(block):
            upper[place, place:] += np.einsum("r,jr->j", column, block[place:])
    return np.asarray(np.triu(upper) + np.triu(upper, 1).T)


def _inner_parts(a: Elements, b: Elements) -> npt.NDArray[np.object_]:
    """``a @ b.T`` of words, in exact integers."""
    total: Any = np.zeros((3 * len(a), 3 * len(b)), dtype=object)
    for start in range(0, a.shape[1], _FLOAT_BLOCK << 10):
        words = np.zeros(total.shape, dtype=np.int64)
        for place in range(start, min(a.shape[1], start + (_FLOAT_BLOCK << 10)), _FLOAT_BLOCK):
            block = slice(place, place + _FLOAT_BLOCK)
            words += (_parts(a[:, block]) @ _parts(b[:, block]).T).astype(np.int64)
        total = total + words
    shifts = np.array([1 << shift for shift in _PARTS], dtype=object)
    return np.asarray(np.einsum("a,aibj,b->ij", shifts, total.reshape(3, len(a), 3, len(b)), shifts))


def _parts(words: Elements) -> npt.NDArray[np.float64]:
    """Words in three parts of at most 22 bits, one after the other along the first axis."""
    mask = np.uint64((1 << _PART_BITS) - 1)
    narrow = np.uint64((1 << (_PARTS[2] - _PARTS[1])) - 1)
    first, second, third = (words >> np.uint64(shift) for shift in _PARTS)
    return np.concatenate([first & mask, second & narrow, third]).astype(np.float64)


def _joined(ring: Ring, lower: npt.NDArray[np.object_], upper: Elements) -> Elements:
    total = lower + upper.astype(object) * (1 << 64)
    return ring.encode(total.reshape(-1)).reshape(*total.shape, ring.limbs)
