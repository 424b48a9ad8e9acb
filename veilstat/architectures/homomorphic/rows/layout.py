"""Where an owner's rows stand in the coefficients of its ciphertexts, so that one product holds many inner products.

A *plane* has one number for each row: 1, a column's codes (0 where missing), or the indicator of one of its levels.
With blocks of c rows and groups of g planes, a ciphertext of *left* planes holds row r of plane j at X^(r + c j), one of
*right* planes row r of plane k at X^(c - 1 - r + c g k). In their product the coefficient of X^(c - 1 + c (j + g k)) is the
inner product of planes j and k: exponents that meet there have the same r, j and k, and since c g^2 <= n what exceeds
X^(n - 1) comes back below X^(c - 1). All other coefficients are mixtures of rows, which nobody ever decrypts.

Rows with missing values count by *masks*: left planes are uploaded once for each set of columns that may have to be
present, and are 0 in all other rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from math import isqrt
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from veilstat.errors import CapabilityError
from veilstat.schema.columns import Categorical, Codes, Column
from veilstat.schema.schema import Schema

Mask: TypeAlias = "frozenset[str]"
"""Columns that must be present."""

Coefficients = npt.NDArray[np.int64]
_Entry = TypeVar("_Entry")

_MOST_SUBSETS = 3
"""Columns with missing values of which every set is a mask; of more, each one and all together are."""


@dataclass(frozen=True, slots=True, order=True)
class Plane:
    """One number for each row: 1 (``column`` is empty), a column's codes (``level`` is 0), or the indicator of a level."""

    column: str = ""
    level: int = 0

    def values(self, columns: Mapping[str, Codes], count: int) -> Coefficients:
        """The numbers of ``count`` rows, in the clear."""
        if not self.column:
            return np.ones(count, dtype=np.int64)
        codes, present = columns[self.column]
        if self.level:
            indicated: Coefficients = (present & (codes == self.level)).astype(np.int64)
            return indicated
        shown: Coefficients = np.where(present, codes, 0)
        return shown


ONE = Plane()


@dataclass(frozen=True, slots=True)
class Cell:
    """One inner product: the ciphertexts of the left and right groups, and the coefficient of their product."""

    left: int
    right: int
    position: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Of all owners' uploads in an epoch.

    Args:
        block: c, rows of a ciphertext. width: g, planes of a group.
        left: groups of masked planes. right: groups of planes.
    """

    block: int
    width: int
    left: tuple[tuple[tuple[Plane, Mask], ...], ...]
    right: tuple[tuple[Plane, ...], ...]

    @property
    def groups(self) -> int:
        """Ciphertexts for each block of rows, left ones first."""
        return len(self.left) + len(self.right)

    def blocks(self, rows: int) -> int:
        """Blocks of an owner's rows."""
        return -(-rows // self.block)

    def cell(self, first: Plane, second: Plane, mask: Mask) -> Cell:
        """Where the sum of the products of two planes, over the rows in which ``mask`` is present, stands.

        Raises:
            CapabilityError: no left planes were uploaded for this mask.
        """
        one, other = sorted((first, second))
        kept = mask & self.incomplete - {one.column, other.column}
        implied = mask & self.incomplete & {one.column, other.column}
        # both planes are 0 where their own columns are missing, so these may be in the mask or not
        suitable = [kept | frozenset(chosen) for size in range(3) for chosen in combinations(sorted(implied), size)]
        for left, group in enumerate(self.left):
            for number, (plane, its) in enumerate(group):
                if plane == one and its in suitable:
                    right = next(place for place, planes in enumerate(self.right) if other in planes)
                    step = number + self.width * self.right[right].index(other)
                    return Cell(left, right, self.block - 1 + self.block * step)
        raise CapabilityError(
            f"rows in which {', '.join(sorted(mask))} are all present were not marked when rows were encrypted: columns with missing values "
            f"are combined one by one, all together, or, where there are at most {_MOST_SUBSETS}, in every way; use entry='totals'",
            code="mask_unavailable",
        )

    @property
    def incomplete(self) -> Mask:
        """Columns that may be missing."""
        return frozenset().union(*(mask for group in self.left for _, mask in group))

    def messages(self, columns: Mapping[str, Codes], count: int, rows: int, degree: int) -> Iterator[Coefficients]:
        """The coefficients of an owner's ciphertexts, block by block: ``count`` rows in the clear, padded to ``rows``."""
        for start in range(0, self.blocks(rows) * self.block, self.block):
            span = slice(start, min(start + self.block, count))
            for group in self.left:
                message = np.zeros(degree, dtype=np.int64)
                for place, (plane, mask) in enumerate(group):
                    values = plane.values(columns, count)[span]
                    for name in mask:
                        values = values * columns[name][1][span]
                    message[place * self.block :][: len(values)] = values
                yield message
            for planes in self.right:
                message = np.zeros(degree, dtype=np.int64)
                for place, plane in enumerate(planes):
                    values = plane.values(columns, count)[span]
                    end = place * self.width * self.block + self.block
                    message[end - len(values) : end] = values[::-1]
                yield message


def planes_of(column: Column) -> tuple[Plane, ...]:
    """A column's codes; of a categorical or binary column the indicators of all levels but the first."""
    if isinstance(column, Categorical) or column.top == 1:
        return tuple(Plane(column.name, level) for level in range(1, column.top + 1))
    return (Plane(column.name),)


def planes(schema: Schema) -> tuple[Plane, ...]:
    """All planes of a table, without masks, in order."""
    return tuple(sorted((ONE, *(plane for column in schema for plane in planes_of(column)))))


def masks(incomplete: Mask) -> tuple[Mask, ...]:
    """The sets of columns for which left planes are masked, the empty one first."""
    names = sorted(incomplete)
    sizes = range(len(names) + 1) if len(names) <= _MOST_SUBSETS else (0, 1, len(names))
    return tuple(frozenset(chosen) for size in sizes for chosen in combinations(names, size))


@cache
def choose_layout(schema: Schema, incomplete: Mask, rows: int, degree: int) -> Layout:
    """The layout with the fewest ciphertexts and pairs of groups for an owner of ``rows`` rows."""
    right = planes(schema)
    family = masks(incomplete)
    # a plane is 0 anyway where its own column is missing
    left = [[(plane, mask) for plane in right if plane.column not in mask or mask - {plane.column} not in family] for mask in family]
    layouts = [
        Layout(
            min(rows, degree // width**2),
            width,
            tuple(group for masked in left for group in _groups(tuple(masked), width)),
            _groups(right, width),
        )
        for width in range(1, min(isqrt(degree), len(right)) + 1)
    ]
    # a ciphertext is stored by everybody; a pair costs a relinearisation where a query needs it
    return min(layouts, key=lambda layout: 4 * layout.blocks(rows) * layout.groups + len(layout.left) * len(layout.right))


def _groups(entries: tuple[_Entry, ...], width: int) -> tuple[tuple[_Entry, ...], ...]:
    return tuple(entries[start : start + width] for start in range(0, len(entries), width))
