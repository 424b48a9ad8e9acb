"""Rational arrays as integer numerators over a public scale and denominators that are known by identity.

A value is scale * numerator / denominator. Denominators are products of atoms: single integers of the circuit, such as
a count or a determinant, that occur again and again. Sums over one denominator leave it as it is; others meet over
their least common multiple. So numbers stay as short as the formula allows, and their bounds are known beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Integers: TypeAlias = "npt.NDArray[np.object_]"
Places: TypeAlias = "npt.NDArray[np.int64]"
"""Numbers of denominators in ``Denominators``; 0 is the denominator 1."""

Source: TypeAlias = "tuple[str, int]"

_larger = np.frompyfunc(max, 2, 1)


@dataclass(frozen=True, slots=True)
class Atom:
    """An integer in denominators: one element of what ``source`` computes, at most ``bound`` in magnitude."""

    source: Source
    element: int
    bound: int
    public: bool
    nonzero: bool
    positive: bool


Monomial: TypeAlias = "tuple[tuple[Atom, int], ...]"


@dataclass(frozen=True, slots=True)
class Form:
    """What is public about an array: its scale, a bound on each numerator's magnitude, and each element's denominator."""

    scale: Fraction
    size: Integers
    denominators: Places
    public: bool

    def __post_init__(self) -> None:
        if self.size.shape != self.denominators.shape:
            raise ValueError(f"bounds of shape {self.size.shape}, denominators of shape {self.denominators.shape}")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.size.shape

    @property
    def bits(self) -> int:
        """Bits of the largest numerator, without its sign."""
        return int(self.size.max(initial=0)).bit_length()

    def rearranged(self, function: Callable[[Any], Any]) -> Form:
        """The same rearrangement of bounds and denominators."""
        return Form(self.scale, _objects(function(self.size)), np.asarray(function(self.denominators), dtype=np.int64), self.public)


@dataclass(slots=True)
class Denominators:
    """All denominators of a circuit, each once and by number."""

    monomials: list[Monomial] = field(default_factory=lambda: [()])
    numbers: dict[Monomial, int] = field(default_factory=lambda: {(): 0})

    def of(self, atom: Atom) -> int:
        """The denominator that is one atom."""
        return self._number({atom: 1})

    def product(self, a: Any, b: Any) -> Places:
        return self._each(_added, a, b)

    def common(self, a: Any, b: Any) -> Places:
        """The least common multiple."""
        return self._each(lambda x, y: {atom: max(x.get(atom, 0), y.get(atom, 0)) for atom in x | y}, a, b)

    def quotient(self, a: Any, b: Any) -> Places:
        """The factor that leads from ``b`` to its multiple ``a``."""
        return self._each(lambda x, y: {atom: power - y.get(atom, 0) for atom, power in x.items()}, a, b)

    def vanishing(self, a: Any) -> Places:
        """The part of it that can be 0."""
        return self._each(lambda x, _: {atom: power for atom, power in x.items() if not atom.nonzero}, a, 0)

    def inverted(self, a: Any) -> Places:
        """What numerators are multiplied by when they are divided by values over these: 1 / (n / m) = m v / (n v).

        v is the part of m that can be 0; it stays below, so that the result is undefined where m is 0.
        """
        return self.product(a, self.vanishing(a))

    def signing(self, a: Any) -> Places:
        """A factor that has its sign and is 0 where it is 0."""

        def factor(x: dict[Atom, int], _: dict[Atom, int]) -> dict[Atom, int]:
            powers = {atom: 2 - power % 2 for atom, power in x.items() if not atom.positive}
            return {atom: power for atom, power in powers.items() if power == 1 or not atom.nonzero}

        return self._each(factor, a, 0)

    def common_of_all(self, a: Places) -> int:
        """The least common multiple of all elements."""
        result = 0
        for number in np.unique(a):
            result = int(self.common(result, number))
        return result

    def bound(self, a: Any) -> Integers:
        """Bounds on the denominators' magnitudes."""
        return self._mapped(lambda monomial: prod(atom.bound**power for atom, power in monomial), a)

    def _mapped(self, function: Callable[[Monomial], int], a: Any) -> Integers:
        distinct, inverse = np.unique(np.asarray(a, dtype=np.int64), return_inverse=True)
        values = _objects([function(self.monomials[number]) for number in distinct])
        return _objects(values[inverse]).reshape(np.shape(a))

    def _each(self, function: Callable[[dict[Atom, int], dict[Atom, int]], dict[Atom, int]], a: Any, b: Any) -> Places:
        a, b = np.broadcast_arrays(np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64))
        pairs = list(zip(a.reshape(-1).tolist(), b.reshape(-1).tolist(), strict=True))
        results = {(x, y): self._number(function(dict(self.monomials[x]), dict(self.monomials[y]))) for x, y in dict.fromkeys(pairs)}
        return np.array([results[pair] for pair in pairs], dtype=np.int64).reshape(a.shape)

    def _number(self, powers: dict[Atom, int]) -> int:
        monomial = tuple(sorted(((a, p) for a, p in powers.items() if p), key=lambda item: (item[0].source, item[0].element)))
        if monomial not in self.numbers:
            self.numbers[monomial] = len(self.monomials)
            self.monomials.append(monomial)
        return self.numbers[monomial]


def larger(a: Any, b: Any) -> Integers:
    """The elementwise maximum of integers of any size."""
    return _objects(_larger(a, b))


def _added(a: dict[Atom, int], b: dict[Atom, int]) -> dict[Atom, int]:
    return {atom: a.get(atom, 0) + b.get(atom, 0) for atom in a | b}


def _objects(values: Any) -> Integers:
    return np.asarray(values, dtype=object)
