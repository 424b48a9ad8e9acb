"""Integers modulo 2^32, 2^64, 2^128 and on, as numpy arrays that add with carry.

Elements of up to 64 bits are an array of shape (m,); wider ones have 64-bit limbs, least significant first, on a
last axis: shape (m, bits / 64). Bytes are little-endian, so a buffer is the array.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Elements: TypeAlias = "npt.NDArray[Any]"
_BLOCK = 1 << 15


@dataclass(frozen=True, slots=True)
class Ring:
    """Integers modulo 2^bits; ``bits`` is 32 or a multiple of 64."""

    bits: int

    def __post_init__(self) -> None:
        if self.bits != 32 and (self.bits <= 0 or self.bits % 64):
            raise ValueError(f"a ring has 32 bits or a multiple of 64, not {self.bits}")

    @staticmethod
    def for_bits(bits: int) -> Ring:
        """The narrowest ring that tells apart 2^bits values."""
        return Ring(32 if bits <= 32 else -(-bits // 64) * 64)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The little-endian word of one limb."""
        return np.dtype("<u4" if self.bits == 32 else "<u8")

    @property
    def limbs(self) -> int:
        """Words per element."""
        return max(1, self.bits // 64)

    @property
    def element_bytes(self) -> int:
        return self.bits // 8

    def zeros(self, count: int) -> Elements:
        """``count`` zeros."""
        return np.zeros(count if self.limbs == 1 else (count, self.limbs), dtype=self.dtype)

    def encode(self, integers: Sequence[int] | npt.NDArray[Any]) -> Elements:
        """Signed integers of any size, reduced modulo 2^bits."""
        array = np.asarray(integers)
        if array.dtype != object:
            words = array.astype(np.int64)
            if self.limbs == 1:
                return words.astype(np.uint64).astype(self.dtype)
            sign = (words >> 63).astype(np.uint64)
            return np.stack([words.astype(np.uint64), *[sign] * (self.limbs - 1)], axis=-1)
        modulus, size = 1 << self.bits, self.element_bytes
        buffer = b"".join((int(value) % modulus).to_bytes(size, "little") for value in array)
        return self.from_bytes(buffer).copy()

    def decode(self, elements: Elements, lower: Sequence[int] | npt.NDArray[Any]) -> npt.NDArray[np.object_]:
        """The integers in [lower, lower + 2^bits) that the elements stand for, as Python integers."""
        modulus, size = 1 << self.bits, self.element_bytes
        buffer = elements.tobytes()
        raw = [int.from_bytes(buffer[start : start + size], "little") for start in range(0, len(buffer), size)]
        bounds = np.broadcast_to(np.asarray(lower, dtype=object), (len(raw),))
        return np.array([int(low) + (value - int(low)) % modulus for value, low in zip(raw, bounds, strict=True)], dtype=object)

    def from_bytes(self, buffer: bytes | memoryview) -> Elements:
        """View a little-endian buffer as elements, without a copy."""
        words = np.frombuffer(buffer, dtype=self.dtype)
        return words if self.limbs == 1 else words.reshape(-1, self.limbs)

    def to_bytes(self, elements: Elements) -> memoryview:
        """The elements as a little-endian buffer, without a copy."""
        return np.ascontiguousarray(elements).data.cast("B")

    def add(self, accumulator: Elements, other: Elements) -> None:
        """``accumulator += other`` modulo 2^bits, in place; they share no memory."""
        if self.limbs == 1:
            np.add(accumulator, other, out=accumulator)
            return
        for block in _blocks(accumulator):
            _add_with_carry(accumulator[block], other[block])

    def subtract(self, accumulator: Elements, other: Elements) -> None:
        """``accumulator -= other`` modulo 2^bits, in place; they share no memory."""
        if self.limbs == 1:
            np.subtract(accumulator, other, out=accumulator)
            return
        for block in _blocks(accumulator):
            minuend = accumulator[block]
            np.invert(minuend, out=minuend)  # a - b = ~(~a + b)
            _add_with_carry(minuend, other[block])
            np.invert(minuend, out=minuend)


def _blocks(elements: Elements) -> Iterator[slice]:
    """Blocks whose intermediate words stay in a core's cache: half of the time at a million elements."""
    return (slice(start, start + _BLOCK) for start in range(0, len(elements), _BLOCK))


def _add_with_carry(accumulator: Elements, other: Elements) -> None:
    np.add(accumulator, other, out=accumulator)
    overflow, last = accumulator < other, accumulator.shape[-1] - 1
    for limb in range(1, last + 1):
        word, carry = accumulator[..., limb], overflow[..., limb - 1]
        word += carry
        if limb < last:
            overflow[..., limb] |= word < carry
