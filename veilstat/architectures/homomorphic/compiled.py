"""The ring and its transforms in machine code: bit for bit what ``ring.py`` computes with SEAL and numpy."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from . import kernels
from .ring import CyclotomicRing, Residues, Transform


@dataclass(frozen=True, slots=True, eq=False)
class CompiledTransform(Transform):
    """Roots of unity and their inverses in the order in which the transforms take them, with their ratios."""

    _roots: Residues = field(repr=False)
    _ratios: Residues = field(repr=False)
    _inverse_roots: Residues = field(repr=False)
    _inverse_ratios: Residues = field(repr=False)

    @staticmethod
    @cache
    def of(degree: int, prime: int) -> CompiledTransform:
        """Tables for the least primitive root of unity of order 2 ``degree``, as SEAL takes it, so that both transforms agree."""
        root = _least_root(degree, prime)
        tables = [_powers(degree, prime, its) for its in (root, pow(root, -1, prime))]
        return CompiledTransform(prime, *(part for table in tables for part in (table, kernels.ratio(table, prime))))

    def forward(self, coefficients: Residues) -> Residues:
        values = np.array(coefficients, dtype=np.uint64)
        self.forward_in_place(values)
        return values

    def forward_in_place(self, values: Residues) -> None:
        """``forward``, written over a contiguous row of residues."""
        kernels.forward(values, self._roots, self._ratios, self.prime)

    def inverse(self, values: Residues) -> Residues:
        coefficients = np.array(values, dtype=np.uint64)
        scaling = pow(len(coefficients), -1, self.prime)
        kernels.inverse(coefficients, self._inverse_roots, self._inverse_ratios, self.prime, scaling, _ratio(scaling, self.prime))
        return coefficients

    def scale(self, residues: Residues, factor: int) -> Residues:
        factor %= self.prime
        return _words(kernels.scale(residues, *_words([factor, _ratio(factor, self.prime), self.prime])))


@dataclass(frozen=True, slots=True, eq=False)
class CompiledRing(CyclotomicRing):
    """One pass over the residues for each operation; ``_primes`` has one entry for each residue, so that passes are contiguous."""

    transforms: tuple[CompiledTransform, ...] = field(repr=False)
    _primes: Residues = field(repr=False)

    @staticmethod
    def of(degree: int, primes: tuple[int, ...]) -> CompiledRing:
        """The ring modulo these primes of 48 bits, each 1 modulo 2 ``degree``."""
        transforms = tuple(CompiledTransform.of(degree, prime) for prime in primes)
        return CompiledRing(degree, transforms, np.repeat(_words(primes)[:, None], degree, axis=1))

    def add(self, first: Residues, second: Residues) -> Residues:
        return _words(kernels.add(first, second, self._primes))

    def multiply(self, first: Residues, second: Residues) -> Residues:
        return _words(kernels.multiply(first, second, self._primes))

    def multiply_add(self, first: Residues, second: Residues, third: Residues) -> Residues:
        return _words(kernels.multiply_add(first, second, third, self._primes))

    def reduce(self, coefficients: npt.NDArray[Any]) -> Residues:
        if coefficients.dtype.kind != "i":
            return CyclotomicRing.reduce(self, coefficients)
        return _words(kernels.reduce(coefficients, self._primes))

    def from_integers(self, coefficients: npt.NDArray[Any]) -> Residues:
        return self._transformed(self.reduce(coefficients))

    def transform(self, coefficients: Residues) -> Residues:
        return self._transformed(np.array(coefficients, dtype=np.uint64, order="C"))

    def _transformed(self, residues: Residues) -> Residues:
        for polynomial in residues.reshape(-1, *residues.shape[-2:]):
            for its, row in zip(self.transforms, polynomial, strict=True):
                its.forward_in_place(row)
        return residues

    def scale(self, residues: Residues, factor: int) -> Residues:
        factors = [factor % prime for prime in self.moduli]
        ratios = [_ratio(its, prime) for its, prime in zip(factors, self.moduli, strict=True)]
        return _words(kernels.scale(residues, _words(factors)[:, None], _words(ratios)[:, None], self._primes))

    def quotients(self, element: Residues, plaintext: int) -> Residues:
        """By residues (Halevi, Polyakov, Shoup, ePrint 2018/117): exact where noise leaves t x / Q 2^-40 from a half."""
        total, fractions = np.zeros(self.degree, dtype=np.uint64), np.zeros(self.degree)
        for transform, values in zip(self.transforms, element, strict=True):
            prime = transform.prime
            weight = pow(self.modulus // prime, -1, prime)
            kernels.add_quotients(total, fractions, transform.inverse(values), weight, _ratio(weight, prime), prime, plaintext)
        return (total + np.floor(fractions + 0.5).astype(np.uint64)) % np.uint64(plaintext)


def _least_root(degree: int, prime: int) -> int:
    """The least of the roots of unity of order exactly 2 ``degree`` modulo a prime."""
    candidates = (pow(base, (prime - 1) // (2 * degree), prime) for base in range(2, prime))
    root = next(candidate for candidate in candidates if pow(candidate, degree, prime) == prime - 1)
    square, least = root * root % prime, root
    for _ in range(degree - 1):
        root = root * square % prime
        least = min(least, root)
    return least


def _powers(degree: int, prime: int, root: int) -> Residues:
    """Powers of a root; entry i has the exponent whose ``log2(degree)`` bits are those of i, reversed."""
    powers = [1]
    for _ in range(degree - 1):
        powers.append(powers[-1] * root % prime)
    places = np.zeros(1, dtype=np.int64)
    while len(places) < degree:
        places = np.concatenate([2 * places, 2 * places + 1])
    return _words(powers)[places]


def _ratio(factor: int, prime: int) -> int:
    return (factor << 64) // prime


def _words(values: Any) -> Residues:
    return np.asarray(values, dtype=np.uint64)
