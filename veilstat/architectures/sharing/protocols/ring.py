"""The integers modulo 2^64 and 2^128 as a domain of shares: what rows are shared in.

Elements modulo 2^128 are a structured type of two words, so that an array's shape counts elements in either ring.
The lower word of a sharing modulo 2^128 is a sharing modulo 2^64 of the same integer; so a table that was shared in
the wide ring serves narrow computations at the narrow price.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from veilstat.arithmetic import products
from veilstat.arithmetic.rings import Ring

from .araki16 import Elements, Shares

_WIDE = np.dtype([("low", "<u8"), ("high", "<u8")])
_NARROW = np.dtype("<u8")


@dataclass(frozen=True, slots=True)
class RingDomain:
    """The integers modulo 2^bits, bits being 64 or 128."""

    bits: int

    def __post_init__(self) -> None:
        if self.bits not in (64, 128):
            raise ValueError(f"rows are shared modulo 2^64 or 2^128, not 2^{self.bits}")

    @property
    def order(self) -> int:
        return 1 << self.bits

    @property
    def element_bytes(self) -> int:
        return self.bits // 8

    @property
    def dtype(self) -> np.dtype[Any]:
        """What an element is to numpy."""
        return _NARROW if self.bits == 64 else _WIDE

    def encode(self, integers: Any) -> Elements:
        """Integers of any size and sign; arrays of machine integers are not looked at one by one."""
        values = np.asarray(integers)
        if values.dtype == object:
            return self._from_limbs(Ring(self.bits).encode(values.reshape(-1))).reshape(values.shape)
        low = values.astype(np.uint64)
        if self.bits == 64:
            return low
        high = (values.astype(np.int64) >> 63).astype(np.uint64) if values.dtype.kind == "i" else np.zeros_like(low)
        return self.from_words(low, high)

    def decode(self, elements: Elements) -> Elements:
        """The integers in [-2^(bits - 1), 2^(bits - 1)) that elements stand for."""
        lowest = np.array(-(self.order >> 1), dtype=object)
        return Ring(self.bits).decode(self._limbs(elements.reshape(-1)), lowest).reshape(elements.shape)

    def from_words(self, low: Elements, high: Elements) -> Elements:
        """Elements from the words of integers modulo 2^128."""
        if self.bits == 64:
            return low
        result = np.empty(np.broadcast_shapes(low.shape, high.shape), dtype=_WIDE)
        result["low"], result["high"] = low, high
        return result

    def add(self, a: Elements, b: Elements) -> Elements:
        if self.bits == 64:
            return np.asarray(np.add(a, b))
        low = np.asarray(np.add(a["low"], b["low"]))
        return self.from_words(low, np.add(np.add(a["high"], b["high"]), low < b["low"]))

    def subtract(self, a: Elements, b: Elements) -> Elements:
        if self.bits == 64:
            return np.asarray(np.subtract(a, b))
        low = np.asarray(np.subtract(a["low"], b["low"]))
        return self.from_words(low, np.subtract(np.subtract(a["high"], b["high"]), a["low"] < b["low"]))

    def multiply(self, a: Elements, b: Elements) -> Elements:
        if self.bits == 64:
            return np.asarray(np.multiply(a, b))
        shape = np.broadcast_shapes(a.shape, b.shape)
        left, right = (self._limbs(np.atleast_1d(factor)) for factor in (a, b))
        return self._from_limbs(products.multiply(Ring(128), left, right)).reshape(shape)

    def matmul(self, a: Elements, b: Elements) -> Elements:
        """Product of two matrices; fast where the axis that is summed is long."""
        return self._from_limbs(products.inner(Ring(self.bits), self._limbs(a), self._limbs(b.T)))

    def cross(self, a: Elements, b: Elements) -> Elements:
        """``a @ b.T`` of shapes (p, rows) and (q, rows); half the work where ``a is b``."""
        words = self._limbs(a)
        total = products.gram(Ring(self.bits), words) if a is b else products.inner(Ring(self.bits), words, self._limbs(b))
        return self._from_limbs(total)

    def weighted_sums(self, weights: Elements, columns: Elements) -> Elements:
        """``weights @ columns`` of shapes (m, p) and (p, rows)."""
        return self._from_limbs(products.weighted_sums(Ring(self.bits), self._limbs(weights), self._limbs(columns)))

    def sum(self, a: Elements, axis: int | None) -> Elements:
        if self.bits == 64:
            return np.asarray(a.sum(axis=axis, dtype=np.uint64))
        half, mask = np.uint64(32), np.uint64((1 << 32) - 1)
        first, second = ((part.sum(axis=axis, dtype=np.uint64)) for part in (a["low"] & mask, a["low"] >> half))
        low = np.asarray(np.add(first, second << half))
        return self.from_words(low, np.add(np.add(a["high"].sum(axis=axis, dtype=np.uint64), second >> half), low < first))

    def to_bytes(self, elements: Elements) -> bytes:
        """Little-endian."""
        return elements.tobytes()

    def from_bytes(self, buffer: bytes | memoryview, shape: tuple[int, ...]) -> Elements:
        """The inverse; uniform elements from uniform bytes."""
        return np.frombuffer(buffer, dtype=self.dtype).reshape(shape)

    def _limbs(self, elements: Elements) -> Elements:
        """Elements with their limbs on a last axis where there are two, as products take them."""
        return elements if self.bits == 64 else elements[..., None].view(_NARROW)

    def _from_limbs(self, words: Elements) -> Elements:
        return words if self.bits == 64 else np.ascontiguousarray(words).view(_WIDE)[..., 0]


NARROW, WIDE = RingDomain(64), RingDomain(128)


def narrowed(shares: Shares) -> Shares:
    """The same integers modulo 2^64."""
    return shares if shares.domain == NARROW else Shares(NARROW, shares.own["low"], shares.previous["low"])
