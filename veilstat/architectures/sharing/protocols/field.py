"""Prime fields of Mersenne primes q = 2^m - 1: reduction is a shift and an addition, and no primality is ever tested.

An integer x with |x| < q / 2 stands for x mod q. Elements are object arrays of Python integers in [0, q).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from veilstat.errors import CapabilityError

from .araki16 import Elements

EXPONENTS = (61, 89, 107, 127, 521, 607, 1279, 2203, 2281, 3217, 4253, 4423, 9689, 9941, 11213, 19937, 21701, 23209, 44497)


@dataclass(frozen=True, slots=True)
class Field:
    """The integers modulo 2^exponent - 1."""

    exponent: int

    def __post_init__(self) -> None:
        if self.exponent not in EXPONENTS:
            raise ValueError(f"2^{self.exponent} - 1 is not one of the Mersenne primes of {EXPONENTS}")

    @staticmethod
    def for_bits(bits: int) -> Field:
        """The smallest field in which integers of absolute value below 2^bits stay apart.

        Raises:
            CapabilityError: they need more than the largest field offers.
        """
        for exponent in EXPONENTS:
            if bits + 1 < exponent:
                return Field(exponent)
        raise CapabilityError(f"values of {bits} bits exceed the largest field, of {EXPONENTS[-1]} bits; use fewer or coarser columns")

    @property
    def order(self) -> int:
        """The prime q, which is how many elements there are."""
        return (1 << self.exponent) - 1

    @property
    def element_bytes(self) -> int:
        """Bytes of one element on the wire."""
        return (self.exponent + 7) // 8

    def encode(self, integers: Any) -> Elements:
        """Integers of any size and sign, reduced into [0, q)."""
        values = np.asarray(integers, dtype=object)
        folded = (values & self.order) + (values >> self.exponent)
        return np.asarray(folded % self.order, dtype=object)

    def decode(self, elements: Elements) -> Elements:
        """The integers of absolute value below q / 2 that elements stand for."""
        half = self.order >> 1
        return np.asarray((elements + half) % self.order - half, dtype=object)

    def add(self, a: Elements, b: Elements) -> Elements:
        return np.asarray((a + b) % self.order, dtype=object)

    def subtract(self, a: Elements, b: Elements) -> Elements:
        return np.asarray((a - b) % self.order, dtype=object)

    def multiply(self, a: Elements, b: Elements) -> Elements:
        return self.encode(a * b)

    def matmul(self, a: Elements, b: Elements) -> Elements:
        """Product of two matrices, by python-flint: Karatsuba and FFT products, one reduction for each entry."""
        from flint import fmpz_mat

        product = fmpz_mat(a.tolist()) * fmpz_mat(b.tolist())
        return self.encode(np.array([int(entry) for entry in product.entries()], dtype=object).reshape(a.shape[0], b.shape[1]))

    def sum(self, a: Elements, axis: int | None) -> Elements:
        return self.encode(a.sum(axis=axis))

    def to_bytes(self, elements: Elements) -> bytes:
        """Fixed width, little-endian."""
        width = self.element_bytes
        return b"".join([value.to_bytes(width, "little") for value in elements.reshape(-1)])

    def from_bytes(self, buffer: bytes | memoryview, shape: tuple[int, ...]) -> Elements:
        """The inverse. Bits beyond the exponent are dropped and all ones is 0: uniform bytes are within 2^-exponent of uniform elements."""
        width, order = self.element_bytes, self.order
        values = [(int.from_bytes(buffer[start : start + width], "little") & order) % order for start in range(0, len(buffer), width)]
        elements = np.empty(len(values), dtype=object)
        elements[:] = values
        return elements.reshape(shape)
