"""Columns of shared rows at one server: products of columns in as few rounds as their depth, and sums over rows.

A sum over rows of products costs this server two products of what it holds and no message: the result is its summand
of the total, (x + x')(y + y') - x' y' for components x, y of its own and x', y' of the server before it (Araki et al.,
CCS 2016, sec. 2, rearranged so that a Gram matrix stays symmetric).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..protocols.araki16 import Elements, Shares, multiply, stacked
from ..protocols.conversion import everywhere
from ..protocols.prss import Party
from ..protocols.ring import NARROW, WIDE, RingDomain, narrowed
from ..protocols.rounds import Protocol, gather
from .polynomials import Polynomial, Term

_BLOCK = 1 << 13
Compute: TypeAlias = "Callable[[int, Columns, RingDomain], Protocol[Shares]]"
"""How a factor that is not uploaded is computed from others."""


@dataclass(slots=True, eq=False)
class Columns:
    """Some rows of one owner's upload, and the columns computed from them so far.

    Args:
        words: planes of both components, shape (planes, 2, limbs, rows).
        flag_planes: for each column that may be missing the place of its presence; the empty name stands for plane 0.
    """

    party: Party
    words: npt.NDArray[Any] = field(repr=False)
    flag_planes: dict[str, int]
    compute: Compute
    known: dict[tuple[Term, int], Shares] = field(default_factory=dict, repr=False)

    @property
    def rows(self) -> int:
        return int(self.words.shape[-1])

    def column(self, term: Term, ring: RingDomain) -> Shares:
        """A term that is uploaded or prepared, as a vector."""
        place = self._plane(term)
        if place is not None:
            own, previous = self.words[place]
            if ring == NARROW:
                return Shares(NARROW, own[0], previous[0])
            return Shares(WIDE, WIDE.from_words(*own), WIDE.from_words(*previous))
        if not term.factors and not term.flags:
            return everywhere(self.party, ring, 1, (self.rows,))
        found = self.known.get((term, ring.bits))
        return narrowed(self.known[term, WIDE.bits]) if found is None else found

    def combined(self, polynomial: Polynomial, ring: RingDomain) -> Shares:
        """A polynomial whose terms are prepared, as a vector."""
        parts = [
            self.column(term, ring).scaled(factor) if factor != 1 else self.column(term, ring) for term, factor in polynomial.terms.items()
        ]
        return reduce(Shares.__add__, parts or [everywhere(self.party, ring, 0, (self.rows,))])

    def between(self, start: int, stop: int) -> Columns:
        """Some of the rows, with what is computed of them."""
        return replace(self, words=self.words[..., start:stop], known={key: shares[start:stop] for key, shares in self.known.items()})

    def prepare(self, terms: Iterable[Term], ring: RingDomain) -> Protocol[None]:
        """Compute terms that are products: first the factors that are not uploaded, then all products of a depth in one round."""
        depths: dict[Term, int] = {}
        for term in terms:
            self._depth(term, ring, depths)
        derived = [term for term, depth in depths.items() if depth < 0]
        results = yield from gather(self.compute(term.factors[0].place, self, ring) for term in derived)
        for term, shares in zip(derived, results, strict=True):
            self.known[term, shares.domain.bits] = shares
        for depth in range(1, max(depths.values(), default=0) + 1):
            layer = [term for term, own in depths.items() if own == depth]
            halves = [term.split() or (term, term) for term in layer]
            left, right = (stacked([self.column(pair[side], ring) for pair in halves]) for side in (0, 1))
            products = yield from multiply(self.party, left, right)
            self.known.update({(term, ring.bits): products[place] for place, term in enumerate(layer)})

    def _depth(self, term: Term, ring: RingDomain, depths: dict[Term, int]) -> int:
        """Rounds of products below a term, 0 where it is there, -1 where it is a factor to be computed."""
        if term not in depths:
            halves = term.split()
            if self._is_known(term, ring):
                return 0
            depths[term] = -1 if halves is None else 1 + max(max(self._depth(half, ring, depths), 0) for half in halves)
        return depths[term]

    def _is_known(self, term: Term, ring: RingDomain) -> bool:
        ready = self._plane(term) is not None or not (term.factors or term.flags)
        return ready or (term, ring.bits) in self.known or (term, WIDE.bits) in self.known

    def _plane(self, term: Term) -> int | None:
        if not term.factors:
            columns = sorted(term.flags)
            return self.flag_planes[columns[-1]] if columns and len(columns) <= 2 else None
        place = term.factors[0].place
        return place if term.split() is None and place < len(self.words) else None


def summand(ring: RingDomain, left: Sequence[Shares], right: Sequence[Shares]) -> Elements:
    """The summand that this server has of the sums over rows of the products of each left with each right column: shape (p, q)."""
    total = ring.encode(np.zeros((len(left), len(right)), dtype=np.int64))
    rows = left[0].own.shape[0] if left and right else 0
    for start in range(0, rows, _BLOCK):
        block = slice(start, start + _BLOCK)
        sums, previous = _block(ring, left, block)
        other_sums, other_previous = (sums, previous) if left is right else _block(ring, right, block)
        products = ring.subtract(ring.cross(sums, other_sums), ring.cross(previous, other_previous))
        total = ring.add(total, products)
    return total


def summand_of_sums(ring: RingDomain, columns: Sequence[Shares]) -> Elements:
    """The summand that this server has of the sum over rows of each column."""
    return np.array([ring.sum(column.own, None) for column in columns], dtype=ring.dtype)


def _block(ring: RingDomain, columns: Sequence[Shares], block: slice) -> tuple[Elements, Elements]:
    """Sums of both components, and the previous component, of a block of rows: columns first."""
    previous = np.stack([column.previous[block] for column in columns])
    return ring.add(np.stack([column.own[block] for column in columns]), previous), previous
