"""What is public about every value of a circuit on shares: scales, bounds, denominators, and the sizes of divisions.

From it follows the field in which nothing can ever wrap. Servers compute along it, and plans count bytes by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import lcm

import numpy as np
import numpy.typing as npt

from veilstat.language.circuit import Circuit

from ..protocols.division import Precision
from ..protocols.field import Field
from .rational import Denominators, Form, Places


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Both sides on one scale over denominators ``common``; their difference times ``sign`` has ``bits``."""

    scale: Fraction
    common: Places
    sign: Places
    bits: int


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Elements of one node, and the integer that their numerators are multiplied by."""

    place: int
    elements: npt.NDArray[np.int64]
    factor: int


@dataclass(frozen=True, slots=True, eq=False)
class Rounding:
    """Values factor * numerator / (divisor * M), half up: floor((2 factor numerator + divisor M) / (2 divisor M)).

    ``monomials`` are the distinct denominators M, ``which`` says for each element of all parts which is its own. Of those at
    the places ``rooted`` the signed root is taken afterwards.
    """

    parts: tuple[Part, ...]
    divisor: int
    monomials: tuple[int, ...]
    which: npt.NDArray[np.int64]
    precision: Precision
    rooted: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def exact(self) -> bool:
        """Whether every value is an integer in range as it is, and is opened as it is."""
        return self.divisor == 1 and self.monomials == (0,) and self.precision.bounded and not self.rooted.size

    def joined(self, other: Rounding) -> Rounding:
        """Both at once, over the same denominators and within the same range, so that these are normalised once."""
        divisor = lcm(self.divisor, other.divisor)
        a, b = self._over(divisor), other._over(divisor)
        precision = replace(
            self.precision,
            numerator=max(a.precision.numerator, b.precision.numerator),
            divisor=max(a.precision.divisor, b.precision.divisor),
        )
        rooted = np.concatenate([a.rooted, b.rooted + len(a.which)])
        return Rounding(a.parts + b.parts, divisor, self.monomials, np.concatenate([a.which, b.which]), precision, rooted)

    def _over(self, divisor: int) -> Rounding:
        """The same values over a multiple of the divisor."""
        factor = divisor // self.divisor
        bits = (factor - 1).bit_length()
        precision = replace(self.precision, numerator=self.precision.numerator + bits, divisor=self.precision.divisor + bits)
        parts = tuple(replace(part, factor=part.factor * factor) for part in self.parts)
        return Rounding(parts, divisor, self.monomials, self.which, precision, self.rooted)


@dataclass(frozen=True, slots=True)
class System:
    """SOLVE nodes with one matrix that are solved at once, those with shared right sides first.

    ``bits`` is the length of the numerators and the determinant, ``entry_bits`` that of the matrix and right sides:
    it is solved over the smallest field that they fit, since products of matrices are what takes longest.
    """

    matrix: int
    shared: tuple[int, ...]
    known: tuple[int, ...]
    entry_bits: int
    bits: int

    @property
    def name(self) -> int:
        """The first of its nodes."""
        return min(self.shared + self.known)


@dataclass(frozen=True, slots=True, eq=False)
class Ranges:
    """All that servers need to know of a circuit, by place of node.

    ``openings`` are rounded values and their positions in the vector of the cut; ``bits`` is the length of the longest
    integer, masks included.
    """

    circuit: Circuit
    denominators: Denominators
    forms: Mapping[int, Form]
    comparisons: Mapping[int, Comparison]
    roundings: Mapping[int, Rounding]
    systems: Mapping[int, System]
    bodies: Mapping[int, Ranges]
    openings: tuple[tuple[Rounding, npt.NDArray[np.int64]], ...]
    bits: int

    @property
    def field(self) -> Field:
        """The smallest field that everything fits."""
        return Field.for_bits(self.bits)
