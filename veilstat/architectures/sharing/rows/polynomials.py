"""Values of a row as polynomials over what is uploaded, so that only products that are really needed are computed.

A column that is 0 where it is missing need not be multiplied by its presence, an indicator is its own square, and a
row has one level of a column only. Presence is kept apart as the set of columns that must be present, the same for
all terms of a design, so that the weight of a row is multiplied once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import gcd
from typing import TypeAlias

Flags: TypeAlias = "frozenset[str]"
"""Columns that must be present; the empty name stands for a real row, not padding."""

REAL = frozenset(("",))


@dataclass(frozen=True, slots=True, order=True)
class Factor:
    """An array with one number per row.

    Args:
        place: which one; factors are equal if their places are.
        flags: what must hold wherever the number is not 0.
        indicator: whether it is 0 or 1 in every row. level_of: the column whose level it indicates, if any.
    """

    place: int
    flags: Flags = field(default=frozenset(), compare=False)
    indicator: bool = field(default=False, compare=False)
    level_of: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Term:
    """A product of factors in the order of their places, in the rows where all flags hold; 0 in the others."""

    factors: tuple[Factor, ...] = ()
    flags: Flags = frozenset()

    @property
    def implied(self) -> Flags:
        """Flags that hold wherever the factors are not 0."""
        return frozenset().union(*(factor.flags for factor in self.factors))

    def times(self, other: Term) -> Term | None:
        """The product; None where it is 0 in every row."""
        factors: list[Factor] = []
        for factor in sorted(self.factors + other.factors):
            if factors and factor.indicator and factors[-1] == factor:
                continue
            if factor.level_of and any(factor.level_of == former.level_of for former in factors):
                return None
            factors.append(factor)
        return Term(tuple(factors), self.flags | other.flags)

    def split(self) -> tuple[Term, Term] | None:
        """Two terms whose product this is; None where it is uploaded or computed as it stands."""
        count = len(self.factors)
        if count and self.flags != self.implied:
            return _product(self.factors), Term((), self.flags)
        if count > 1:
            return _product(self.factors[: count // 2]), _product(self.factors[count // 2 :])
        columns = sorted(self.flags - REAL)
        if not count and len(columns) > 1:
            half = len(columns) // 2
            return Term((), REAL | frozenset(columns[:half])), Term((), REAL | frozenset(columns[half:]))
        return None


def _product(factors: tuple[Factor, ...]) -> Term:
    return Term(factors, Term(factors).implied)


class Polynomial:
    """A sum of terms with integer coefficients; ``+``, ``-`` and ``*`` also with integers."""

    __slots__ = ("terms",)

    def __init__(self, terms: Mapping[Term, int]) -> None:
        self.terms = {term: int(factor) for term, factor in terms.items() if factor}

    @staticmethod
    def of(factor: Factor) -> Polynomial:
        """A factor by itself."""
        return Polynomial({_product((factor,)): 1})

    def __add__(self, other: Polynomial | int) -> Polynomial:
        terms = dict(self.terms)
        for term, factor in as_polynomial(other).terms.items():
            terms[term] = terms.get(term, 0) + factor
        return Polynomial(terms)

    __radd__ = __add__

    def __neg__(self) -> Polynomial:
        return Polynomial({term: -factor for term, factor in self.terms.items()})

    def __sub__(self, other: Polynomial | int) -> Polynomial:
        return self + -as_polynomial(other)

    def __rsub__(self, other: int) -> Polynomial:
        return -self + other

    def __mul__(self, other: Polynomial | int) -> Polynomial:
        terms: dict[Term, int] = {}
        for one, factor in self.terms.items():
            for two, another in as_polynomial(other).terms.items():
                product = one.times(two)
                if product is not None:
                    terms[product] = terms.get(product, 0) + factor * another
        return Polynomial(terms)

    __rmul__ = __mul__

    @property
    def content(self) -> int:
        """The greatest common divisor of the coefficients; 1 where there are none."""
        return gcd(*self.terms.values()) or 1

    def divided(self, divisor: int) -> Polynomial:
        """The polynomial divided by a divisor of its content."""
        return Polynomial({term: factor // divisor for term, factor in self.terms.items()})


def as_polynomial(value: Polynomial | int) -> Polynomial:
    """A public integer as a polynomial that is constant over all rows."""
    return value if isinstance(value, Polynomial) else Polynomial({Term(): int(value)})
