"""Values of a row as polynomials over what is uploaded, so that only products that are really needed are computed.

A column that is 0 where it is missing need not be multiplied by its presence, an indicator is its own square, and a
row has one level of a column only. Presence is kept apart as the set of columns that must be present, the same for
all terms of a design, so that the weight of a row is multiplied once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from veilstat.architectures.polynomials import SparsePolynomial

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


class Polynomial(SparsePolynomial[Term]):
    """A row's value over factors."""

    __slots__ = ()
    one = Term()

    @staticmethod
    def of(factor: Factor) -> Polynomial:
        """A factor by itself."""
        return Polynomial({_product((factor,)): 1})
