"""The cut: where the exit wall stands, computed from a circuit and from what an architecture can protect.

Walking from the answers towards the data, the first nodes that are still protected are what becomes clear. The
owners apply whatever is linear before they protect anything, so ``x + y`` is one value on the wire, not two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction
from functools import cache
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from veilstat.errors import CapabilityError

from .bounds import Interval, objects
from .circuit import LINEAR, PRODUCTS, ROW_INPUTS, Circuit, Node, Op
from .linear_forms import LinearForms
from .wording import express

_PRIVATE = ROW_INPUTS | {Op.STATE, Op.ITERATE}
"""Operations that depend on data, whatever their arguments are."""


class Entry(StrEnum):
    """Where the entry wall stands: what leaves a data owner, protected."""

    TOTALS = "totals"
    ROWS = "rows"


@dataclass(frozen=True, slots=True)
class Facts:
    """What an architecture is told about an operation when it is asked whether it can protect it.

    ``private`` says for each argument whether it depends on data; the rest is the node's.
    """

    op: Op
    bits: int | None
    scale: Fraction | None
    rows: bool
    private: tuple[bool, ...]

    @property
    def is_linear(self) -> bool:
        """Whether the operation is linear in its private arguments, on a lattice."""
        linear = (self.op in LINEAR and all(self.private)) or (self.op in PRODUCTS and sum(self.private) == 1)
        return linear and self.scale is not None


Supports: TypeAlias = "Callable[[Facts], bool]"


@dataclass(frozen=True, slots=True)
class Opening:
    """Elements of one node that become clear, with the declared resolution of a rational, or of its signed root."""

    node: int
    elements: tuple[int, ...]
    resolution: Fraction | None = None
    rooted: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """What becomes clear when a circuit runs on an architecture, in the order in which it travels."""

    circuit: Circuit
    openings: tuple[Opening, ...]
    answers: tuple[str, ...]
    lower: tuple[int, ...] = field(repr=False)
    upper: tuple[int, ...] = field(repr=False)

    @property
    def nodes(self) -> tuple[int, ...]:
        """The nodes of which elements become clear."""
        return tuple(opening.node for opening in self.openings)

    @property
    def size(self) -> int:
        """Numbers that become clear."""
        return sum(len(opening.elements) for opening in self.openings)

    @property
    def bits(self) -> int:
        """Bits of the widest field: every total fits in a ring of this width."""
        return max(((high - low).bit_length() for low, high in zip(self.lower, self.upper, strict=True)), default=1)

    @property
    def solves(self) -> bool:
        """Whether a system is solved behind the wall; its rank becomes clear then where it has no unique solution."""
        return self._needs(Op.SOLVE)

    @property
    def iterates(self) -> bool:
        """Whether an iteration runs behind the wall; how often it ran becomes clear then."""
        return self._needs(Op.ITERATE)

    def _needs(self, op: Op) -> bool:
        return self.circuit.contains(op, self.nodes)

    def columns(self) -> tuple[str, ...]:
        """Columns that the owners must read."""
        needed = self.circuit.needed(self.nodes)
        return tuple(sorted(_named(self.circuit, needed, (Op.COLUMN, Op.PRESENT))))

    def broadcast(self) -> tuple[str, ...]:
        """Public values that the protected side needs; no other is sent."""
        needed = self.circuit.needed(self.nodes)
        return tuple(sorted(_named(self.circuit, needed, (Op.PUBLIC,))))

    def widened(self, tails: Sequence[int]) -> Cut:
        """The same cut where each number may lie that much further out: noise is added to it."""
        lower = tuple(low - tail for low, tail in zip(self.lower, tails, strict=True))
        upper = tuple(high + tail for high, tail in zip(self.upper, tails, strict=True))
        return replace(self, lower=lower, upper=upper)

    def flatten(self, values: dict[int, npt.NDArray[Any]]) -> npt.NDArray[np.object_]:
        """The opened elements of computed nodes as one vector."""
        parts = [values[opening.node].reshape(-1)[list(opening.elements)] for opening in self.openings]
        return objects(np.concatenate(parts)) if parts else np.zeros(0, dtype=object)

    def unflatten(self, vector: npt.NDArray[Any]) -> dict[int, npt.NDArray[Any]]:
        """The inverse of ``flatten``; elements that were not opened are 0 and never read. What was opened as a root is its signed square."""
        values, start = {}, 0
        for opening in self.openings:
            node = self.circuit.nodes[opening.node]
            array = np.zeros(node.size, dtype=object)
            array[list(opening.elements)] = vector[start : start + len(opening.elements)]
            if node.scale is None:
                resolution = opening.resolution or Fraction(1)
                array = np.array([resolution * element for element in array], dtype=object)
                array = array * abs(array) if opening.rooted else array
            values[opening.node] = array.reshape(node.shape)
            start += len(opening.elements)
        return values


def _named(circuit: Circuit, places: Iterable[int], ops: tuple[Op, ...]) -> set[str]:
    found: set[str] = set()
    for place in places:
        node = circuit.nodes[place]
        if node.op in ops:
            found.add(node.name)
        if node.loop is not None:
            found |= _named(node.loop.body, range(len(node.loop.body.nodes)), ops)
    return found


def cut(circuit: Circuit, entry: Entry, supports: Supports) -> Cut:
    """The frontier of what an architecture can protect.

    Raises:
        CapabilityError: some operation on rows cannot be protected, and rows are never opened.
    """
    return _Cutter(circuit, entry, supports).cut()


def cut_around(circuit: Circuit, entry: Entry, supports: Supports) -> Cut:
    """The frontier where iterations run behind it, in the open, on totals that are opened once.

    Raises:
        CapabilityError: as ``cut``, or an iteration needs the rows in every round.
    """
    return _Around(circuit, entry, supports).cut()


def entering(chosen: Cut) -> Cut:
    """What owners send for a cut that stands behind products, comparisons or iterations of totals: the frontier of
    what is linear in their rows. It is protected from entry on and opened only where it is the cut itself, whose bounds
    leave room for noise.
    """
    below = _Around(chosen.circuit, Entry.TOTALS, lambda facts: facts.is_linear).below(chosen.openings)
    return chosen if below.openings == chosen.openings else below


@dataclass(frozen=True, slots=True)
class _Grain:
    """How finely a rational is opened: itself, or its root."""

    resolution: Fraction
    rooted: bool

    def finer(self, other: _Grain) -> _Grain:
        """One that serves both: what is needed as it stands is not opened as a root besides."""
        if self.rooted == other.rooted:
            return self if self.resolution <= other.resolution else other
        root, plain = (self, other) if self.rooted else (other, self)
        return _Grain(min(root.resolution**2, plain.resolution), False)


class _Cutter:
    opaque: ClassVar[frozenset[Op]] = frozenset({Op.INNER, Op.ITERATE})
    """Operations that do not follow from what is opened below them."""

    def __init__(self, circuit: Circuit, entry: Entry, supports: Supports) -> None:
        self.circuit, self.entry, self.supports = circuit, entry, supports
        self.private: list[bool] = []
        self.protected: list[bool] = []
        for node in circuit.nodes:
            private = tuple(self.private[arg] for arg in node.args)
            self.private.append(node.op in _PRIVATE or any(private))
            self.protected.append(self.private[-1] and self._is_protected(node, private))
        self.wanted: dict[int, set[int]] = {}
        self.walked: set[tuple[int, frozenset[int], _Grain | None]] = set()
        self.grains: dict[int, _Grain] = {}

    def _is_protected(self, node: Node, private: tuple[bool, ...]) -> bool:
        if node.op is Op.STATE:
            return True
        if self.entry is Entry.ROWS and node.op in ROW_INPUTS:
            return True
        if self.entry is Entry.TOTALS:
            if node.rows:
                return False
            if node.op is Op.INNER:
                return not self.circuit.contains(Op.STATE, node.args)
        if not all(self.protected[arg] or not self.private[arg] for arg in node.args):
            return False
        if not self.supports(Facts(node.op, node.bits, node.scale, node.rows, private)):
            return False
        return node.loop is None or self._body_is_protected(node.loop.body)

    def _body_is_protected(self, body: Circuit) -> bool:
        inner = _Cutter(body, self.entry, self.supports)
        return all(inner.protected[output.node] or not inner.private[output.node] for output in body.outputs.values())

    def cut(self) -> Cut:
        """The frontier below the answers."""
        for output in self.circuit.outputs.values():
            if output.guarded and self.private[output.node] and not self.protected[output.node]:
                raise CapabilityError(
                    "this architecture would have to open what the query keeps sealed; servers that compare before anything is opened can run it: "
                    "vs.Sharing(servers=3, open='estimate')",
                    code="needs_comparison",
                )
            if not output.determined:
                grain = None if output.resolution is None else _Grain(output.resolution, output.rooted)
                self._walk(output.node, self._all(output.node), grain)
        return self._chosen()

    def below(self, openings: tuple[Opening, ...]) -> Cut:
        """The frontier below what is opened."""
        for opening in openings:
            self._walk(opening.node, frozenset(opening.elements), None)
        return self._chosen()

    def _chosen(self) -> Cut:
        chosen = LinearForms(self.circuit, self.private, self.protected).choose(self.wanted)
        openings = tuple(self._opening(place, tuple(sorted(chosen[place]))) for place in sorted(chosen))
        lower: list[int] = []
        upper: list[int] = []
        for opening in openings:
            node = self.circuit.nodes[opening.node]
            bounds = (node.bounds or Interval.of(0, 0)).dense(node.shape)
            for limits, side in zip((lower, upper), bounds.sides, strict=True):
                limits += map(int, side.reshape(-1)[list(opening.elements)])
        return Cut(self.circuit, openings, self._following(openings), tuple(lower), tuple(upper))

    def _all(self, place: int) -> frozenset[int]:
        return frozenset(range(self.circuit.nodes[place].size))

    def _opening(self, place: int, elements: tuple[int, ...]) -> Opening:
        grain = self.grains.get(place)
        return Opening(place, elements) if grain is None else Opening(place, elements, grain.resolution, grain.rooted)

    def _walk(self, place: int, elements: frozenset[int], grain: _Grain | None) -> None:
        node = self.circuit.nodes[place]
        if not self.private[place] or not elements or (place, elements, grain) in self.walked:
            return
        self.walked.add((place, elements, grain))
        if node.op is Op.INDEX:
            self._walk(node.args[0], frozenset(int(node.places[element]) for element in elements), grain)
            return
        if node.op is Op.CONCATENATE:
            start = 0
            for arg in node.args:
                size = self.circuit.nodes[arg].size
                self._walk(arg, frozenset(e - start for e in elements if start <= e < start + size), grain)
                start += size
            return
        if self.protected[place] and not node.rows and (node.scale is not None or grain is not None):
            self.wanted.setdefault(place, set()).update(elements)
            if node.scale is None and grain is not None:
                self.grains[place] = grain.finer(self.grains.get(place, grain))
            return
        if node.rows or node.op in (Op.STATE, Op.INNER):
            raise CapabilityError(
                f"this architecture cannot compute {express(self.circuit, place, {})!r} on protected rows, and rows are never opened; "
                "let owners send totals (entry='totals')",
                code="rows_unprotected",
            )
        if node.op is Op.ITERATE:
            self._walk_iteration(node)
        for arg in node.args:
            self._walk(arg, self._all(arg), None)

    def _walk_iteration(self, node: Node) -> None:
        raise CapabilityError(
            "this architecture would have to open what the iteration carries; servers that compute can hold it: vs.Sharing(servers=3, open='estimate')",
            code="state_unprotected",
        )

    def _following(self, openings: tuple[Opening, ...]) -> tuple[str, ...]:
        """The answers that can be computed from what is opened and public."""
        known = {opening.node: frozenset(opening.elements) for opening in openings}

        @cache
        def follows(place: int, elements: frozenset[int]) -> bool:
            node = self.circuit.nodes[place]
            if not self.private[place] or elements <= known.get(place, frozenset()):
                return True
            if node.rows or not node.args or node.op in self.opaque:
                return False
            if node.op is Op.INDEX:
                return follows(node.args[0], frozenset(int(node.places[element]) for element in elements))
            return all(follows(arg, self._all(arg)) for arg in node.args)

        return tuple(sorted(name for name, output in self.circuit.outputs.items() if follows(output.node, self._all(output.node))))


class _Around(_Cutter):
    """Looks for what an iteration starts from, instead of refusing it."""

    opaque: ClassVar[frozenset[Op]] = frozenset({Op.INNER})

    def _walk_iteration(self, node: Node) -> None:
        assert node.loop is not None
        if any(inside.rows for inside in node.loop.body.nodes):
            raise CapabilityError(
                "owners cannot compute the totals of an iteration whose coefficients are not opened; let servers compute them on the rows (entry='rows')",
                code="state_unprotected",
            )
