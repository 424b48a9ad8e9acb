"""Disclosures: what becomes clear, to whom and how often, computed from the cut."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from veilstat.language.circuit import Circuit, Op
from veilstat.language.cut import Cut, Opening
from veilstat.language.wording import Levels, express, is_cut_short

_SEALING = frozenset({Op.EQUAL, Op.LESS, Op.SELECT, Op.ROUND, Op.ITERATE, Op.SOLVE, Op.DIVIDE})
"""Operations behind which a total does not follow from what is opened."""
_NAMES = {"done": "whether the iteration has ended by itself", "iterations": "the number of iterations"}
"""What every iteration gives back beside its state."""
_SHORT = 40


@dataclass(frozen=True, slots=True)
class Disclosure:
    """Numbers that become clear together.

    Args:
        step: the step that opens them. formula: what they are. count: how many numbers, per opening.
        bits: of the widest; lower, upper: bounds of the integers; resolution: of a rounded rational, else None.
        recipients: who learns them. at_most: how many times.
        control: they say how the computation went, and are not among the opened numbers of the step.
    """

    step: str
    formula: str
    count: int
    bits: int
    lower: int
    upper: int
    resolution: Fraction | None
    recipients: tuple[str, ...]
    at_most: int
    control: bool = False


def disclosures(
    step: str, cut: Cut, levels: Levels, recipients: tuple[str, ...], computing: tuple[str, ...], at_most: int
) -> tuple[Disclosure, ...]:
    """One entry for every node of the cut; ``levels`` names the codes of categorical columns, ``computing`` are those
    who compute behind the wall and see how it goes.
    """
    found, start = [], 0
    for opening in cut.openings:
        stop = start + len(opening.elements)
        low, high = min(cut.lower[start:stop]), max(cut.upper[start:stop])
        formula = describe(cut, opening, levels)
        count = stop - start
        bits = (high - low).bit_length()
        found.append(Disclosure(step, formula, count, bits, low, high, opening.resolution, recipients, at_most))
        start = stop
    everybody = (*recipients, *computing)
    if cut.solves:
        most = max(node.shape[0] for node in cut.circuit.nodes if node.op is Op.SOLVE)
        text = "whether the system has a unique solution, or else its rank"
        found.append(Disclosure(step, text, 1, most.bit_length(), 0, most, None, everybody, at_most, control=True))
    if cut.iterates and computing:
        found.append(Disclosure(step, "how many iterations ran", 1, 32, 0, (1 << 32) - 1, None, everybody, at_most, control=True))
    return tuple(found)


def describe(cut: Cut, opening: Opening, levels: Levels) -> str:
    """What an opening is: the formula of a total; an answer that is computed behind the wall goes by its name."""
    names = [_NAMES.get(name, name) for name, output in cut.circuit.outputs.items() if _gives(cut.circuit, output.node, opening)]
    formula = express(cut.circuit, opening.node, levels, opening.elements)
    if not names:
        return formula
    if _is_total(cut.circuit, opening):
        return f"{names[0]}: {formula[:_SHORT]}…" if is_cut_short(formula) else formula
    return ", ".join(map(_root, names) if opening.rooted else names)


def _root(name: str) -> str:
    """The root of what is squared is the thing itself."""
    return name.removeprefix("squared ") if name.startswith("squared ") else f"square root of {name}"


def is_sealed(cut: Cut) -> bool:
    """Whether answers are opened in place of some of the totals that they follow from."""
    return not all(_is_total(cut.circuit, opening) for opening in cut.openings)


def behind(cut: Cut, levels: Levels) -> tuple[str, ...]:
    """The totals that answers are computed from and that are opened to nobody."""
    computed = tuple(opening.node for opening in cut.openings if not _is_total(cut.circuit, opening))
    below = cut.circuit.needed(computed, stop=_totals(cut.circuit)) & _totals(cut.circuit)
    opened = [describe(cut, opening, levels) for opening in cut.openings]
    return tuple(dict.fromkeys(total for place in sorted(below) if (total := express(cut.circuit, place, levels)) not in opened))


def _totals(circuit: Circuit) -> frozenset[int]:
    return frozenset(place for place, node in enumerate(circuit.nodes) if node.op is Op.INNER)


def _is_total(circuit: Circuit, opening: Opening) -> bool:
    """Whether totals are opened as they are, or added up."""
    totals = _totals(circuit)
    above = circuit.needed((opening.node,), stop=totals) - totals
    return circuit.nodes[opening.node].scale is not None and not any(circuit.nodes[place].op in _SEALING for place in above)


def _gives(circuit: Circuit, place: int, opening: Opening) -> bool:
    """Whether an output is made of what is opened, in any order."""
    node = circuit.nodes[place]
    if place == opening.node:
        return True
    if node.op is Op.INDEX and node.args[0] == opening.node:
        return not set(node.places.tolist()).isdisjoint(opening.elements)
    return node.op in (Op.INDEX, Op.CONCATENATE) and any(_gives(circuit, arg, opening) for arg in node.args)
