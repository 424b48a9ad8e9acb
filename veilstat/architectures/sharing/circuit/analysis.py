"""From a circuit to its ranges: one rule for each operation, on bounds and denominators only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from veilstat.errors import CapabilityError
from veilstat.language.bounds import common_scale
from veilstat.language.circuit import Circuit, Node, Op
from veilstat.language.cut import Cut, Facts, Opening

from ..protocols.division import HIGHEST, LOWEST, Precision
from ..protocols.floor import MASKING
from ..protocols.roots import compared_bits
from ..protocols.solve import cramer_bounds
from .ranges import Comparison, Part, Ranges, Rounding, System
from .rational import Atom, Denominators, Form, Integers, larger

Elements = npt.NDArray[np.int64]

LEAVES = frozenset({Op.INNER, Op.STATE})
"""What servers are given shares of; nothing below is looked at."""

_ARITHMETIC = frozenset({Op.ADD, Op.SUBTRACT, Op.MULTIPLY, Op.MATMUL, Op.SUM, Op.INDEX, Op.CONCATENATE, Op.DIVIDE})
_PROTECTED = _ARITHMETIC | {Op.EQUAL, Op.LESS, Op.SELECT, Op.SOLVE, Op.ROUND, Op.ITERATE}


def supports(facts: Facts) -> bool:
    """Whether three servers on replicated shares protect an operation: all arithmetic on totals, none on rows."""
    return facts.op in _PROTECTED and not facts.rows


def ranges(cut: Cut) -> Ranges:
    """The ranges of everything between the owners' totals and the cut's openings.

    Raises:
        CapabilityError: an operation that servers cannot do on shares, or numbers too long for the largest field.
    """
    analysis = _Analysis(cut.circuit)
    analysis.visit(tuple(opening.node for opening in cut.openings))
    openings: dict[Any, tuple[Rounding, npt.NDArray[np.int64]]] = {}
    start = 0
    for opening in cut.openings:
        positions = np.arange(start, start + len(opening.elements))
        start += len(opening.elements)
        rounding = analysis.opened(opening)
        key = (rounding.monomials, rounding.precision.low)
        if key in openings:
            other, before = openings[key]
            rounding, positions = other.joined(rounding), np.concatenate([before, positions])
        openings[key] = (rounding, positions)
    analysis.leave_room(cut)
    return analysis.finish(tuple(openings.values()))


class _Analysis:
    def __init__(self, circuit: Circuit) -> None:
        self.circuit = circuit
        self.denominators = Denominators()
        self.forms: dict[int, Form] = {}
        self.comparisons: dict[int, Comparison] = {}
        self.roundings: dict[int, Rounding] = {}
        self.systems: dict[tuple[int, int], System] = {}
        self.depths: dict[int, int] = {}
        self.bodies: dict[int, Ranges] = {}
        self.bits = 1

    def finish(self, openings: tuple[tuple[Rounding, npt.NDArray[np.int64]], ...]) -> Ranges:
        for rounding, _ in openings:
            self._fit_rounding(rounding)
        systems = {place: system for system in self.systems.values() for place in system.shared + system.known}
        return Ranges(
            self.circuit, self.denominators, self.forms, self.comparisons, self.roundings, systems, self.bodies, openings, self.bits
        )

    def leave_room(self, cut: Cut) -> None:
        """Noise may take what is opened beyond what totals can be."""
        self._fit(max((max(-low, high) for low, high in zip(cut.lower, cut.upper, strict=True)), default=0).bit_length())

    def visit(self, roots: tuple[int, ...]) -> None:
        """Find the forms of all nodes that ``roots`` depend on."""
        nodes = self.circuit.nodes
        stop = frozenset(place for place, node in enumerate(nodes) if node.op in LEAVES)
        for place in sorted(self.circuit.needed(roots, stop)):
            node = nodes[place]
            if node.rows or node.op not in _PROTECTED | LEAVES | {Op.CONSTANT, Op.PUBLIC}:
                raise CapabilityError(
                    f"this query needs {node.op.value!r} of totals, which three servers do not compute on shares; use open='moments'",
                    code="not_on_shares",
                )
            self.depths[place] = max((self.depths[arg] for arg in node.args if arg in self.depths), default=0) + (node.op is Op.SOLVE)
            form = self._rational(place, node) if node.scale is None else self._scaled(place, node)
            self.forms[place] = form
            self._fit(form.bits)

    def opened(self, opening: Opening) -> Rounding:
        """How elements of the cut become integers: as they are where they have a scale, else rounded to their resolution."""
        elements, node = np.array(opening.elements, dtype=np.int64), self.circuit.nodes[opening.node]
        if node.scale is None:
            resolution = opening.resolution or Fraction(1)
            if not opening.rooted:
                return self._rounding(opening.node, elements, resolution, LOWEST, HIGHEST)
            return replace(self._rounding(opening.node, elements, resolution**2, LOWEST, HIGHEST), rooted=np.arange(len(elements)))
        every = 1 << (self.forms[opening.node].bits + 2)
        return self._rounding(opening.node, elements, node.scale, -every, every)

    def _rounding(self, place: int, elements: Elements, resolution: Fraction, low: int, high: int) -> Rounding:
        form = self.forms[place]
        ratio = form.scale / resolution
        numbers = form.denominators.reshape(-1)[elements]
        monomials, which = np.unique(numbers, return_inverse=True)
        divisors = self.denominators.bound(numbers) * ratio.denominator
        numerators = 2 * form.size.reshape(-1)[elements] * ratio.numerator + divisors
        precision = Precision(int(numerators.max()).bit_length(), int(divisors.max()).bit_length() + 1, low, high)
        part = Part(place, elements, ratio.numerator)
        return Rounding((part,), ratio.denominator, tuple(int(number) for number in monomials), which.astype(np.int64), precision)

    def _fit(self, bits: int) -> None:
        self.bits = max(self.bits, bits)

    def _fit_rounding(self, rounding: Rounding) -> None:
        self._fit(rounding.precision.numerator if rounding.exact else rounding.precision.bits + MASKING)
        if rounding.rooted.size:
            self._fit(compared_bits(rounding.precision.limit) + MASKING)

    def _scaled(self, place: int, node: Node) -> Form:
        """An array of integers on a scale, whose bounds the circuit knows."""
        assert node.bounds is not None and node.scale is not None
        match node.op:
            case Op.EQUAL | Op.LESS:
                self._compare(place, node)
            case Op.ROUND:
                low, high = min(node.bounds.low, 0), max(node.bounds.high, 0)
                self.roundings[place] = self._rounding(node.args[0], np.arange(node.size), node.scale, low, high)
                self._fit_rounding(self.roundings[place])
        dense = node.bounds.dense(node.shape)
        return Form(node.scale, larger(abs(dense.lower), abs(dense.upper)), np.zeros(node.shape, dtype=np.int64), self._is_public(node))

    def _is_public(self, node: Node) -> bool:
        if node.op in (Op.CONSTANT, Op.PUBLIC):
            return True
        return node.op in _ARITHMETIC and all(self.forms[arg].public for arg in node.args)

    def _compare(self, place: int, node: Node) -> None:
        a, b = (self.forms[arg] for arg in node.args)
        scale = common_scale((a.scale, b.scale))
        common = self.denominators.common(a.denominators, b.denominators)
        sign = self.denominators.signing(common)
        size = (self._aligned(a, scale, common) + self._aligned(b, scale, common)) * self.denominators.bound(sign)
        bits = max(1, int(np.max(size, initial=0)).bit_length())
        self.comparisons[place] = Comparison(scale, common, sign, bits)
        self._fit(bits + MASKING)

    def _aligned(self, form: Form, scale: Fraction, common: Any) -> Integers:
        """Bounds on numerators over a common denominator."""
        factor = self.denominators.bound(self.denominators.quotient(common, form.denominators))
        return np.asarray(form.size * int(form.scale / scale) * factor, dtype=object)

    def _rational(self, place: int, node: Node) -> Form:
        forms = [self.forms[arg] for arg in node.args]
        match node.op:
            case Op.ADD | Op.SUBTRACT:
                return self._added(node, *forms)
            case Op.MULTIPLY:
                return self._multiplied(node, *forms)
            case Op.DIVIDE:
                return self._divided(node, *forms)
            case Op.MATMUL:
                return self._matrix_product(node, *forms)
            case Op.SUM:
                common = self.denominators.common_of_all(forms[0].denominators)
                return self._form(node, forms[0].scale, self._aligned(forms[0], forms[0].scale, common).sum(), common)
            case Op.INDEX:
                return forms[0].rearranged(lambda part: part.reshape(-1)[node.places].reshape(node.shape))
            case Op.CONCATENATE:
                return self._concatenated(node, forms)
            case Op.SELECT:
                return self._selected(place, node, *forms)
            case Op.SOLVE:
                return self._solved(place, node, *forms)
        return self._iterated(place, node)

    def _form(self, node: Node, scale: Fraction, size: Any, denominators: Any) -> Form:
        bounds = np.broadcast_to(np.asarray(size, dtype=object), node.shape)
        return Form(scale, bounds, np.broadcast_to(np.asarray(denominators, dtype=np.int64), node.shape), self._is_public(node))

    def _added(self, node: Node, a: Form, b: Form) -> Form:
        scale = common_scale((a.scale, b.scale))
        common = self.denominators.common(a.denominators, b.denominators)
        return self._form(node, scale, self._aligned(a, scale, common) + self._aligned(b, scale, common), common)

    def _multiplied(self, node: Node, a: Form, b: Form) -> Form:
        return self._form(node, a.scale * b.scale, a.size * b.size, self.denominators.product(a.denominators, b.denominators))

    def _divided(self, node: Node, a: Form, b: Form) -> Form:
        """See ``Denominators.inverted``."""
        inverted = reciprocals(self.circuit.nodes[node.args[1]])
        if inverted is not None:
            scale, integers = inverted
            return self._form(node, a.scale * scale, a.size * abs(integers), np.broadcast_to(a.denominators, node.shape))
        atoms = [self.denominators.of(self._atom(node.args[1], element)) for element in range(b.size.size)]
        below = self.denominators.product(self.denominators.vanishing(b.denominators), np.array(atoms, dtype=np.int64).reshape(b.shape))
        size = a.size * self.denominators.bound(self.denominators.inverted(b.denominators))
        return self._form(node, a.scale / b.scale, size, self.denominators.product(a.denominators, below))

    def _atom(self, place: int, element: int) -> Atom:
        node = self.circuit.nodes[place]
        while node.op is Op.INDEX:
            element = int(node.places[element])
            place = node.args[0]
            node = self.circuit.nodes[place]
        form = self.forms[place]
        low, high = 0, 0
        if node.bounds is not None:
            dense = node.bounds.dense(node.shape)
            low, high = int(dense.lower.reshape(-1)[element]), int(dense.upper.reshape(-1)[element])
        bound = max(1, int(form.size.reshape(-1)[element]))
        return Atom(("node", place), element, bound, form.public, low > 0 or high < 0, low > 0)

    def _matrix_product(self, node: Node, a: Form, b: Form) -> Form:
        numbers = [self.denominators.common_of_all(form.denominators) for form in (a, b)]
        sizes = [self._aligned(form, form.scale, number) for form, number in zip((a, b), numbers, strict=True)]
        return self._form(node, a.scale * b.scale, sizes[0] @ sizes[1], self.denominators.product(*numbers))

    def _concatenated(self, node: Node, forms: Sequence[Form]) -> Form:
        scale = common_scale(form.scale for form in forms)
        sizes = [self._aligned(form, scale, form.denominators).reshape(-1) for form in forms]
        return self._form(node, scale, np.concatenate(sizes), np.concatenate([form.denominators.reshape(-1) for form in forms]))

    def _selected(self, place: int, node: Node, condition: Form, a: Form, b: Form) -> Form:
        scale = common_scale((a.scale, b.scale))
        sizes, numbers = zip(
            *(
                (np.broadcast_to(self._aligned(f, scale, f.denominators), node.shape), np.broadcast_to(f.denominators, node.shape))
                for f in (a, b)
            ),
            strict=True,
        )
        size = larger(*sizes)
        if np.array_equal(*numbers):
            return self._form(node, scale, size, numbers[0])
        bounds = larger(*(self.denominators.bound(number) for number in numbers)).reshape(-1)
        atoms = [Atom(("chosen", place), element, int(bound), False, False, False) for element, bound in enumerate(bounds)]
        chosen = np.array([self.denominators.of(atom) for atom in atoms], dtype=np.int64).reshape(node.shape)
        return self._form(node, scale, size, chosen)

    def _solved(self, place: int, node: Node, a: Form, b: Form) -> Form:
        """(A / m)^-1 (B / k) = adj(A) B m v / (det(A) k v), see ``Denominators.inverted``."""
        matrix = node.args[0]
        common, below = (self.denominators.common_of_all(form.denominators) for form in (a, b))
        right = self._aligned(b, b.scale, below).reshape(len(b.size), -1)
        entry_sizes = self._aligned(a, a.scale, common)
        bound, sizes = cramer_bounds(entry_sizes, right)
        entries = max(1, int(entry_sizes.max()).bit_length(), int(right.max(initial=0)).bit_length())
        system = self.systems.get((matrix, self.depths[place]), System(matrix, (), (), entries, 1))
        self.systems[matrix, self.depths[place]] = system = System(
            matrix,
            system.shared if b.public else (*system.shared, place),
            (*system.known, place) if b.public else system.known,
            max(system.entry_bits, entries),
            max(system.bits, bound.bit_length(), int(sizes.max(initial=0)).bit_length()),
        )
        determinant = self.denominators.of(Atom(("system", system.name), 0, bound, False, True, False))
        self._fit(max(system.bits, system.entry_bits + MASKING))
        factor = self.denominators.inverted(common)
        denominators = self.denominators.product(self.denominators.product(determinant, below), self.denominators.vanishing(common))
        return self._form(node, b.scale / a.scale, sizes.reshape(node.shape) * self.denominators.bound(factor), denominators)

    def _iterated(self, place: int, node: Node) -> Form:
        """What is carried has the bounds that its type declares: a ROUND that would leave them gives 0 and marks all results.

        What a body carries without rounding, such as a count of its rounds, must keep to them by itself.
        """
        loop = node.loop
        assert loop is not None
        body, names = loop.body, loop.carried
        inside = _Analysis(body)
        inside.visit(tuple(body.outputs[name].node for name in (*names, "done")))
        forms = [inside.forms[body.outputs[name].node] for name in names]
        if any(form.denominators.any() for form in forms):
            raise CapabilityError("what an iteration carries must be rounded to its lattice", code="not_on_shares")
        self.bodies[place] = inside.finish(())
        self._fit(inside.bits)
        scale = common_scale((*(form.scale for form in forms), Fraction(1)))
        sizes = [inside._aligned(form, scale, form.denominators).reshape(-1) for form in forms]
        flags = np.array([1, loop.times], dtype=object) * int(1 / scale)
        return self._form(node, scale, np.concatenate([*sizes, flags]), 0)


def reciprocals(node: Node) -> tuple[Fraction, Integers] | None:
    """1 / c as integers on a scale, for constants of which none is 0."""
    if node.op is not Op.CONSTANT or not all(node.data):
        return None
    assert node.scale is not None
    values = [1 / (node.scale * entry) for entry in node.data]
    scale = common_scale(values)
    return scale, np.array([int(value / scale) for value in values], dtype=object).reshape(node.shape)
