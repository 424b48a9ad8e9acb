"""Interval arithmetic on integers: from public bounds of columns to the bits that every value needs.

An interval holds one lower and one upper bound per element, as Python integers, or one pair for all elements
where there are many, so that a vector of millions of entries costs one pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

_MOST_ELEMENTS = 1 << 14
_smaller, _larger = np.frompyfunc(min, 2, 1), np.frompyfunc(max, 2, 1)

Objects: TypeAlias = "npt.NDArray[np.object_]"


def objects(values: Any) -> Objects:
    """An object array of Python integers."""
    array = np.asarray(values)
    return np.asarray(array.tolist(), dtype=object).reshape(array.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Interval:
    """Elementwise bounds; the arrays have the value's shape, or shape () when one pair bounds every element."""

    lower: Objects
    upper: Objects

    @staticmethod
    def of(lower: Any, upper: Any) -> Interval:
        return Interval(objects(lower), objects(upper))

    @staticmethod
    def between(lower: Fraction, upper: Fraction, scale: Fraction) -> Interval:
        """Bounds of the integers whose multiples of ``scale`` reach from ``lower`` to ``upper``."""
        return Interval.of(lower // scale, -(-upper // scale))

    @staticmethod
    def joint(parts: Sequence[Interval]) -> Interval:
        """Bounds of vectors one after the other, one pair per element each."""
        return Interval(np.concatenate([part.lower for part in parts]), np.concatenate([part.upper for part in parts]))

    @property
    def sides(self) -> tuple[Objects, Objects]:
        return self.lower, self.upper

    @property
    def low(self) -> int:
        """The smallest lower bound."""
        return int(self.lower.min()) if self.lower.size else 0

    @property
    def high(self) -> int:
        """The largest upper bound."""
        return int(self.upper.max()) if self.upper.size else 0

    @property
    def magnitude(self) -> int:
        """The largest absolute value."""
        return max(abs(self.low), abs(self.high))

    @property
    def magnitude_bits(self) -> int:
        """Bits of the largest absolute value, plus one for the sign."""
        return self.magnitude.bit_length() + 1

    def combine(self, other: Interval, operation: Callable[[Any, Any], Any]) -> Interval:
        """Bounds of a monotone-in-each-argument operation such as ``+``, ``-`` or ``*``."""
        corners = [_array(operation(a, b)) for a in (self.lower, self.upper) for b in (other.lower, other.upper)]
        lower, upper = corners[0], corners[0]
        for corner in corners[1:]:
            lower, upper = _smaller(lower, corner), _larger(upper, corner)
        return Interval(_array(lower), _array(upper))

    def scaled(self, factor: int) -> Interval:
        """Bounds of the value times a public integer."""
        return self.combine(Interval.of(factor, factor), lambda a, b: a * b)

    def outer(self, shape: tuple[int, ...], other: Interval, other_shape: tuple[int, ...]) -> Interval:
        """Bounds of all products of an element of this, of that shape, and one of the other: the shapes one after the other."""
        ours = Interval(*(side.reshape(shape + (1,) * len(other_shape)) for side in self.dense(shape).sides))
        return ours.combine(other.dense(other_shape), lambda x, y: x * y)

    def summed(self, shape: tuple[int, ...]) -> Interval:
        """Bounds of the sum of all elements."""
        return Interval.of(*(int(side.sum()) for side in self.dense(shape).sides))

    def totalled(self, count: int) -> Interval:
        """Bounds of a sum of 0 to ``count`` such values."""
        return Interval(_array(_smaller(self.lower * count, 0)), _array(_larger(self.upper * count, 0)))

    def take(self, shape: tuple[int, ...], flat: npt.NDArray[np.int64], new_shape: tuple[int, ...]) -> Interval:
        """Bounds of selected elements."""
        if self.lower.shape == ():
            return self
        return Interval(*(np.broadcast_to(side, shape).reshape(-1)[flat].reshape(new_shape) for side in self.sides))

    def joined(self, other: Interval) -> Interval:
        """Bounds of a value that is one of the two."""
        return Interval(_array(_smaller(self.lower, other.lower)), _array(_larger(self.upper, other.upper)))

    def clipped_below(self, low: int) -> Interval:
        """Bounds of a value that is known to be at least ``low``."""
        return Interval(_array(_larger(self.lower, low)), self.upper)

    def dense(self, shape: tuple[int, ...]) -> Interval:
        """The same bounds, one pair per element."""
        return Interval(*(np.broadcast_to(side, shape) for side in self.sides))

    def compact(self, shape: tuple[int, ...]) -> Interval:
        """One pair for all elements where there are too many to track each."""
        if int(np.prod(shape, dtype=np.int64)) <= _MOST_ELEMENTS or self.lower.shape == ():
            return self
        return Interval.of(self.low, self.high)


def common_scale(fractions: Iterable[Fraction]) -> Fraction:
    """The largest fraction that all are integer multiples of; 1 where all are 0."""
    known = tuple(fractions)
    return Fraction(gcd(*(each.numerator for each in known)), lcm(*(each.denominator for each in known))) or Fraction(1)


def summed_products(a: Interval, a_shape: tuple[int, ...], b: Interval, b_shape: tuple[int, ...]) -> Interval:
    """Bounds of a matrix product of shapes (..., m) and (m, ...), both at most two-dimensional."""
    inner = a_shape[-1]
    size = int(np.prod(a_shape, dtype=np.int64)) * (b_shape[-1] if len(b_shape) > 1 else 1)
    if size > _MOST_ELEMENTS * 16:
        product = Interval.of(a.low, a.high).combine(Interval.of(b.low, b.high), lambda x, y: x * y)
        return product.scaled(inner)
    left = a.dense(a_shape)
    right = b.dense(b_shape)
    if len(b_shape) == 1:
        product = left.combine(right, lambda x, y: x * y)
        return Interval(_array(product.lower.sum(axis=-1)), _array(product.upper.sum(axis=-1)))
    columns = [summed_products(a, a_shape, Interval(right.lower[:, j], right.upper[:, j]), (inner,)) for j in range(b_shape[-1])]
    return Interval(np.stack([c.lower for c in columns], axis=-1), np.stack([c.upper for c in columns], axis=-1))


def _array(values: Any) -> Objects:
    return np.asarray(values, dtype=object)
