"""Tasks of a circuit's arithmetic on shares: numerators of sums, products, quotients and choices, and their denominators."""

from __future__ import annotations

from collections.abc import Hashable
from fractions import Fraction

import numpy as np

from veilstat.language.circuit import Node, Op

from ..protocols.araki16 import Shares, multiply, product, stacked
from ..protocols.floor import equal_to_zero, less_than_zero, select
from ..protocols.rounds import gather
from ..protocols.solve import Solution
from .analysis import reciprocals
from .demand import Task, need
from .mixed import Value, added, joined, matrix_times, rearranged, scaled, times, total
from .rational import Atom, Places
from .run import Run


def computed(run: Run, place: int, node: Node) -> Task[Value]:
    """Numerators of a node that is made of others by arithmetic."""
    form = run.known.forms[place]
    match node.op:
        case Op.INDEX:
            (value,) = yield from need(("node", node.args[0]))
            return rearranged(value, lambda part: part.reshape(-1)[node.places].reshape(node.shape))
        case Op.ADD | Op.SUBTRACT:
            a, b = yield from need(*(run.on(arg, form.scale, form.denominators) for arg in node.args))
            return added(run.party, a, b if node.op is Op.ADD else scaled(b, -1))
        case Op.MULTIPLY:
            a, b = yield from need(*(("node", arg) for arg in node.args))
            return (yield from times(run.party, a, b))
        case Op.DIVIDE:
            return (yield from _divided(run, node))
        case Op.MATMUL:
            a, b = yield from need(*(run.uniform(arg) for arg in node.args))
            shapes = [run.nodes[arg].shape for arg in node.args]
            a = rearranged(a, lambda part: part.reshape(-1, shapes[0][-1]))
            b = rearranged(b, lambda part: part.reshape(shapes[1][0], -1))
            result = yield from matrix_times(run.party, a, b)
            return rearranged(result, lambda part: part.reshape(node.shape))
        case Op.SUM:
            (value,) = yield from need(run.uniform(node.args[0]))
            return total(value)
    parts = yield from need(*(run.on(arg, form.scale, run.known.forms[arg].denominators) for arg in node.args))
    return joined(run.party, run.domain, parts)


def _divided(run: Run, node: Node) -> Task[Value]:
    above, below = node.args
    factor = run.known.denominators.inverted(run.known.forms[below].denominators)
    value, factors = yield from need(("node", above), run.below(factor))
    value = rearranged(value, lambda part: np.broadcast_to(part, node.shape))
    inverted = reciprocals(run.nodes[below])
    if inverted is not None:
        return scaled(value, inverted[1])
    return (yield from times(run.party, value, factors))


def aligned(run: Run, place: int, scale: Fraction, common: Places) -> Task[Value]:
    """Numerators of a node on a finer scale and over multiples of its denominators."""
    form = run.known.forms[place]
    factor = run.known.denominators.quotient(common, form.denominators)
    value, factors = yield from need(("node", place), run.below(factor))
    if scale != form.scale:
        value = scaled(value, int(form.scale / scale))
    return (yield from times(run.party, value, factors)) if factor.any() else value


def denominators(run: Run, numbers: Places) -> Task[Value]:
    """Values of denominators, one for each element, or one for all where all are the same."""
    distinct = {number: place for place, number in enumerate(dict.fromkeys(numbers.reshape(-1).tolist()))}
    values: list[Value] = yield from need(*(("denominator", number) for number in distinct))
    if len(distinct) == 1:
        return values[0]
    inverse = np.array([distinct[number] for number in numbers.reshape(-1).tolist()])
    return rearranged(joined(run.party, run.domain, values), lambda part: part[inverse].reshape(numbers.shape))


def denominator(run: Run, number: int) -> Task[Value]:
    """The product of atoms."""
    public, hidden = np.array(1, dtype=object), []
    monomial = run.known.denominators.monomials[number]
    sources = yield from need(*(atom.source for atom, _ in monomial))
    for (atom, power), source in zip(monomial, sources, strict=True):
        value = _element(source, atom)
        if isinstance(value, Shares):
            hidden += [value] * power
        else:
            public = np.asarray(public * value**power, dtype=object)
    return scaled((yield from product(run.party, stacked(hidden))), public) if hidden else public


def _element(value: Value | Solution, atom: Atom) -> Value:
    if isinstance(value, Solution):
        return value.determinant
    return rearranged(value, lambda part: part.reshape(-1)[atom.element])


def compared(run: Run, place: int, node: Node) -> Task[Value]:
    """The sign of a difference over a common denominator; 0 where that is 0, as for values that are undefined."""
    known = run.known.comparisons[place]
    a, b, sign = yield from need(*(run.on(arg, known.scale, known.common) for arg in node.args), run.below(known.sign))
    difference = run.shares(added(run.party, a, scaled(b, -1)))
    if node.op is Op.LESS:
        signed = yield from times(run.party, difference, sign)
        return (yield from less_than_zero(run.party, run.shares(signed), known.bits))
    if not known.sign.any():
        return (yield from equal_to_zero(run.party, difference, known.bits))
    divisor = run.shares(sign)
    equal, undefined = yield from gather([equal_to_zero(run.party, part, known.bits) for part in (difference, divisor)])
    return added(run.party, equal, scaled((yield from multiply(run.party, equal, undefined)), -1))


def selected(run: Run, place: int, node: Node) -> Task[Shares]:
    """Numerators of a choice."""
    scale = run.known.forms[place].scale
    return (yield from _chosen(run, node, [run.on(arg, scale, run.known.forms[arg].denominators) for arg in node.args[1:]]))


def chosen_denominators(run: Run, place: int) -> Task[Value]:
    """Denominators of a choice between values with different ones."""
    node = run.nodes[place]
    chosen = yield from _chosen(run, node, [run.below(run.known.forms[arg].denominators) for arg in node.args[1:]])
    return rearranged(chosen, lambda part: np.broadcast_to(part, node.shape))


def _chosen(run: Run, node: Node, sides: list[Hashable]) -> Task[Shares]:
    values = yield from need(("node", node.args[0]), *sides)
    return (yield from select(run.party, *map(run.shares, values)))
