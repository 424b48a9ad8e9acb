"""What is opened among linear forms that share terms: the forms, or the terms where these follow from the forms anyway.

See decision 0006: owners apply what is linear before they protect it, and no redundant number travels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import reduce
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .circuit import LINEAR, Circuit, Node, Op

_Form: TypeAlias = "dict[tuple[int, int], Fraction | None]"
"""A linear form of elements (node, element); None for a coefficient that is known only when the step runs."""

_MOST_FORMS = 1 << 12
_PRIME = (1 << 61) - 1


class LinearForms:
    """Elements of a circuit as linear forms of elements that are not sums themselves."""

    def __init__(self, circuit: Circuit, private: Sequence[bool], protected: Sequence[bool]) -> None:
        self.circuit, self.private, self.protected = circuit, private, protected
        self.known: dict[int, list[_Form]] = {}

    def choose(self, wanted: Mapping[int, set[int]]) -> dict[int, set[int]]:
        """Linear forms as they are, unless together they determine every term: then the terms, which are narrower."""
        forms = {place: self._forms(place, elements) for place, elements in wanted.items()}
        chosen: dict[int, set[int]] = {}
        for group in _connected(forms):
            rows = [form for place in group for form in forms[place]]
            atoms = sorted({atom for form in rows for atom in form})
            known = [form for form in rows if None not in form.values()]
            if len(known) >= len(atoms) and _rank(known, atoms) == len(atoms):
                for place, element in atoms:
                    chosen.setdefault(place, set()).update(wanted[place] if element < 0 else {element})
            else:
                for place in group:
                    chosen.setdefault(place, set()).update(wanted[place])
        return chosen

    def _forms(self, place: int, elements: set[int]) -> list[_Form]:
        if len(elements) > _MOST_FORMS:
            return [{(place, -1): Fraction(1)}]
        whole = self._form(place)
        return [whole[element] for element in sorted(elements)]

    def _form(self, place: int) -> list[_Form]:
        if place not in self.known:
            self.known[place] = self._written(place)
        return self.known[place]

    def _written(self, place: int) -> list[_Form]:
        """Each element as a linear form of elements that are not sums themselves; None for factors that are broadcast."""
        node = self.circuit.nodes[place]
        itself: list[_Form] = [{(place, element): Fraction(1)} for element in range(node.size)]
        private = [arg for arg in node.args if self.private[arg]]
        if node.size > _MOST_FORMS or any(not self.protected[arg] or self.circuit.nodes[arg].scale is None for arg in private):
            return itself
        if node.op in (Op.MULTIPLY, Op.MATMUL) and len(private) == 1:
            factors = self._factors(next(arg for arg in node.args if arg != private[0]))
            return _multiplied(node, self.circuit, private[0], self._form(private[0]), factors)
        if node.op not in LINEAR or len(private) < len(node.args):
            return itself
        parts = [self._form(arg) for arg in node.args]
        match node.op:
            case Op.ADD | Op.SUBTRACT:
                sign = Fraction(1 if node.op is Op.ADD else -1)
                places = [_broadcast(self.circuit.nodes[arg].shape, node.shape) for arg in node.args]
                return [_added(parts[0][i], parts[1][j], sign) for i, j in zip(*places, strict=True)]
            case Op.SUM:
                return [_total(parts[0])]
            case Op.INDEX:
                return [parts[0][int(i)] for i in node.places]
        return [form for part in parts for form in part]

    def _factors(self, place: int) -> list[Fraction | None]:
        node = self.circuit.nodes[place]
        if node.op is not Op.CONSTANT or node.scale is None:
            return [None] * node.size
        return [node.scale * value for value in node.data]


def _broadcast(shape: tuple[int, ...], target: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """For each element of the target, which element of a smaller shape it takes."""
    return np.broadcast_to(np.arange(int(np.prod(shape, dtype=np.int64))).reshape(shape), target).reshape(-1)


def _multiplied(node: Node, circuit: Circuit, private: int, forms: list[_Form], factors: list[Fraction | None]) -> list[_Form]:
    """Forms of a product with something public."""
    shapes = [circuit.nodes[arg].shape for arg in node.args]
    if node.op is Op.MULTIPLY:
        first, second = (_broadcast(shape, node.shape) for shape in shapes)
        own, other = (first, second) if node.args[0] == private else (second, first)
        return [_scaled(forms[i], factors[j]) for i, j in zip(own, other, strict=True)]
    left, right = (np.arange(int(np.prod(shape, dtype=np.int64))).reshape(shape) for shape in shapes)
    result = []
    for row in left.reshape(-1, shapes[0][-1]):
        for column in right.reshape(shapes[1][0], -1).T:
            own, other = (row, column) if node.args[0] == private else (column, row)
            result.append(_total([_scaled(forms[i], factors[j]) for i, j in zip(own, other, strict=True)]))
    return result


def _scaled(form: _Form, factor: Fraction | None) -> _Form:
    if factor is None:
        return dict.fromkeys(form)
    return {atom: None if value is None else value * factor for atom, value in form.items() if factor}


def _added(first: _Form, second: _Form, sign: Fraction) -> _Form:
    total = dict(first)
    for atom, factor in second.items():
        before = total.get(atom, Fraction(0))
        total[atom] = None if before is None or factor is None else before + sign * factor
    return {atom: factor for atom, factor in total.items() if factor != 0}


def _total(forms: list[_Form]) -> _Form:
    return reduce(lambda total, form: _added(total, form, Fraction(1)), forms, {})


def _connected(forms: dict[int, list[_Form]]) -> list[list[int]]:
    groups: list[tuple[set[tuple[int, int]], list[int]]] = []
    for place in sorted(forms):
        atoms = {atom for form in forms[place] for atom in form}
        touching = [group for group in groups if group[0] & atoms]
        merged = (atoms.union(*(group[0] for group in touching)), [p for group in touching for p in group[1]] + [place])
        groups = [group for group in groups if group not in touching] + [merged]
    return [group[1] for group in groups]


def _rank(forms: list[_Form], atoms: list[tuple[int, int]]) -> int:
    """Rank modulo a prime, which never exceeds the true rank."""
    rows = [{atom: f.numerator * pow(f.denominator, -1, _PRIME) % _PRIME for atom, f in form.items() if f is not None} for form in forms]
    rank = 0
    for atom in atoms:
        pivot = next((row for row in rows if row.get(atom)), None)
        if pivot is None:
            continue
        rows.remove(pivot)
        rank += 1
        inverse = pow(pivot[atom], -1, _PRIME)
        for row in rows:
            factor = row.get(atom, 0) * inverse % _PRIME
            if factor:
                for other, value in pivot.items():
                    row[other] = (row.get(other, 0) - factor * value) % _PRIME
    return rank
