"""Polynomials modulo X^n + 1 and modulo several primes of 48 bits: the ring that BFV computes in.

An element is an array of shape (primes, n) of residues, always after the number-theoretic transform, so that a product
is one multiplication for each residue. A prime of 48 bits makes a residue six bytes on the wire, and lets a double
estimate the quotient of a product to within one. The primes are Microsoft SEAL's, through TenSEAL, loaded when first
needed. Where numba is installed, ``compiled.py`` computes the same residues faster; without it SEAL transforms them and
numpy does the rest.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from veilstat.errors import CapabilityError

PRIME_BITS = 48
RESIDUE_BYTES = PRIME_BITS // 8
_SPARE_DRAWS = 64

Residues: TypeAlias = "npt.NDArray[np.uint64]"


def seal() -> Any:
    """TenSEAL's binding of SEAL; CapabilityError where it is not installed."""
    try:
        import tenseal.sealapi.util
    except ImportError:
        raise CapabilityError(
            "homomorphic encryption needs TenSEAL: install veilstat with the extra 'homomorphic'", code="not_installed"
        ) from None
    return tenseal.sealapi


def machine_code() -> ModuleType | None:
    """The compiled ring; None where numba is not installed."""
    try:
        from . import compiled
    except ImportError:
        return None
    return compiled


def batching_primes(degree: int, bits: int, count: int) -> tuple[int, ...]:
    """``count`` distinct primes of ``bits`` bits that are 1 modulo 2 ``degree``: those modulo which a transform exists."""
    return tuple(modulus.value() for modulus in seal().CoeffModulus.Create(degree, [bits] * count))


@dataclass(frozen=True, slots=True)
class Transform:
    """The negacyclic number-theoretic transform of residues modulo ``prime``."""

    prime: int

    @staticmethod
    def of(degree: int, prime: int) -> Transform:
        """The transform of ``degree`` residues modulo one prime of at most 60 bits that is 1 modulo 2 ``degree``."""
        compiled = machine_code()
        return SealTransform.of(degree, prime) if compiled is None else compiled.CompiledTransform.of(degree, prime)

    def forward(self, coefficients: Residues) -> Residues:
        """Values at the odd powers of the least primitive root of unity, in bit-reversed order."""
        raise NotImplementedError

    def inverse(self, values: Residues) -> Residues:
        """The coefficients, reduced."""
        raise NotImplementedError

    def scale(self, residues: Residues, factor: int) -> Residues:
        """The residues times an integer."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class SealTransform(Transform):
    """Microsoft SEAL's; numbers cross its binding as lists of Python integers."""

    _tables: Any = field(repr=False)
    _seal: Any = field(repr=False)

    @staticmethod
    def of(degree: int, prime: int) -> SealTransform:
        binding = seal()
        return SealTransform(prime, binding.util.NTTTables(degree.bit_length() - 1, binding.Modulus(prime)), binding.util)

    def forward(self, coefficients: Residues) -> Residues:
        return np.array(self._seal.ntt_negacyclic_harvey(coefficients.tolist(), self._tables), dtype=np.uint64)

    def inverse(self, values: Residues) -> Residues:
        lazy = self._seal.inverse_ntt_negacyclic_harvey(values.tolist(), self._tables)
        return np.array(lazy, dtype=np.uint64) % np.uint64(self.prime)

    def scale(self, residues: Residues, factor: int) -> Residues:
        return np.array(residues.astype(object) * (factor % self.prime) % self.prime, dtype=np.uint64)


@dataclass(frozen=True, slots=True)
class CyclotomicRing:
    """Z_Q[X] / (X^degree + 1), Q the product of the transforms' primes of 48 bits."""

    degree: int
    transforms: tuple[Transform, ...] = field(repr=False)

    @property
    def moduli(self) -> tuple[int, ...]:
        return tuple(transform.prime for transform in self.transforms)

    @property
    def modulus(self) -> int:
        """Q."""
        return math.prod(self.moduli)

    @property
    def element_bytes(self) -> int:
        return element_bytes(self.degree, len(self.transforms))

    @property
    def _column(self) -> Residues:
        return np.array(self.moduli, dtype=np.uint64)[:, None]

    def add(self, first: Residues, second: Residues) -> Residues:
        """The sum; leading axes broadcast."""
        total = first + second
        reduced: Residues = np.minimum(total, total - self._column)
        return reduced

    def multiply(self, first: Residues, second: Residues) -> Residues:
        """The product; leading axes broadcast."""
        primes = self._column
        # the estimate is off by one at most, and differences modulo 2^64 that wrap are larger than those that do not
        quotient = (first.astype(np.float64) * second / primes).astype(np.uint64)
        rest = first * second - quotient * primes
        rest = np.minimum(rest, rest + primes)
        reduced: Residues = np.minimum(rest, rest - primes)
        return reduced

    def multiply_add(self, first: Residues, second: Residues, third: Residues) -> Residues:
        """The product of the first two plus the third; leading axes broadcast."""
        return self.add(self.multiply(first, second), third)

    def negate(self, element: Residues) -> Residues:
        return np.where(element == 0, element, self._column - element)

    def from_integers(self, coefficients: npt.NDArray[Any]) -> Residues:
        """The element with these ``degree`` signed coefficients, machine words or Python integers."""
        return self.transform(self.reduce(coefficients))

    def reduce(self, coefficients: npt.NDArray[Any]) -> Residues:
        """Signed coefficients modulo every prime, not transformed yet: shape (primes, degree)."""
        return np.stack([np.mod(coefficients, prime).astype(np.uint64) for prime in self.moduli])

    def transform(self, coefficients: Residues) -> Residues:
        """The elements with these reduced coefficients, of shape (..., primes, degree)."""
        polynomials = coefficients.reshape(-1, len(self.transforms), self.degree)
        rows = [its.forward(row) for polynomial in polynomials for its, row in zip(self.transforms, polynomial, strict=True)]
        return np.stack(rows).reshape(coefficients.shape)

    def scale(self, residues: Residues, factor: int) -> Residues:
        """The residues times an integer modulo every prime; ``residues`` may be one row of numbers below 2^48."""
        return self.multiply(residues, np.array([factor % prime for prime in self.moduli], dtype=np.uint64)[:, None])

    def to_integers(self, element: Residues, places: Sequence[int] | slice = slice(None)) -> npt.NDArray[np.object_]:
        """The coefficients in [0, Q), or those at some places, as Python integers."""
        modulus, total = self.modulus, np.array(0, dtype=object)
        for transform, values in zip(self.transforms, element, strict=True):
            cofactor = modulus // transform.prime
            weight = cofactor * pow(cofactor, -1, transform.prime)
            total = total + transform.inverse(values)[places].astype(object) * weight
        return np.asarray(total % modulus, dtype=object)

    def quotients(self, element: Residues, plaintext: int) -> Residues:
        """round(t x / Q) modulo t = ``plaintext`` for the coefficients x of an element."""
        modulus = self.modulus
        rounded = (self.to_integers(element) * plaintext + modulus // 2) // modulus % plaintext
        return np.array(rounded, dtype=np.uint64)

    def uniform(self, label: bytes) -> Residues:
        """The public uniform element of a label: SHAKE-256, values of 48 bits that exceed the prime are skipped."""
        rows = []
        for place, prime in enumerate(self.moduli):
            stream = hashlib.shake_256(label + place.to_bytes(4, "little"))
            drawn = words_of(stream.digest(RESIDUE_BYTES * (self.degree + _SPARE_DRAWS)))
            rows.append(drawn[drawn < prime][: self.degree])
        return np.stack(rows)

    def to_bytes(self, elements: Residues) -> bytes:
        """Six bytes for every residue, little-endian."""
        words = np.ascontiguousarray(elements, dtype="<u8")
        return np.ndarray(words.size, dtype=f"V{RESIDUE_BYTES}", buffer=words, strides=(words.itemsize,)).tobytes()

    def from_bytes(self, raw: bytes | memoryview) -> Residues:
        """Elements of shape (count, primes, degree); ValueError for a length that fits none, or a residue out of range."""
        if len(raw) % self.element_bytes:
            raise ValueError("bytes that are no whole number of polynomials")
        elements = words_of(raw).reshape(-1, len(self.transforms), self.degree)
        if (elements >= self._column).any():
            raise ValueError("a residue is out of range")
        return elements


def element_bytes(degree: int, primes: int) -> int:
    """Bytes of an element."""
    return degree * primes * RESIDUE_BYTES


def words_of(raw: bytes | memoryview) -> Residues:
    """Every six bytes as a number below 2^48."""
    # words of eight bytes that overlap by two, which the mask removes
    padded = b"".join((raw, bytes(8 - RESIDUE_BYTES)))
    overlapping: Residues = np.ndarray(len(raw) // RESIDUE_BYTES, dtype="<u8", buffer=padded, strides=(RESIDUE_BYTES,))
    return overlapping & np.uint64((1 << PRIME_BITS) - 1)


@cache
def cyclotomic_ring(degree: int, primes: int) -> CyclotomicRing:
    """The ring of that degree with the largest primes of 48 bits."""
    moduli, compiled = batching_primes(degree, PRIME_BITS, primes), machine_code()
    if compiled is None:
        return CyclotomicRing(degree, tuple(SealTransform.of(degree, prime) for prime in moduli))
    ring: CyclotomicRing = compiled.CompiledRing.of(degree, moduli)
    return ring
