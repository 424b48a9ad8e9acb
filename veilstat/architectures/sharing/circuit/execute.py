"""Three servers compute a circuit on shared totals, from the owners' contributions to the integers that are opened.

Every node is a task that starts as soon as what it needs is there, so the number of rounds is that of the longest
chain. Nothing but a system's solvability and an iteration's end becomes known to the servers; results stay shared.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from veilstat.errors import CapabilityError
from veilstat.language.bounds import objects
from veilstat.language.circuit import Circuit, Node, Op

from ..protocols.araki16 import Shares, beside, concatenated, constant, multiply, open_masked, product, split, stacked
from ..protocols.division import OUT_OF_RANGE, Quotients, floor_quotients, public_quotients
from ..protocols.field import Field
from ..protocols.floor import MASKING, equal_to_zero, less_than_zero, moved, select
from ..protocols.prss import Party
from ..protocols.roots import with_roots
from ..protocols.rounds import Protocol, gather
from ..protocols.solve import Solution, solve
from .analysis import reciprocals
from .demand import Task, need, on_demand
from .mixed import Value, added, as_shares, joined, matrix_times, rearranged, scaled, times, total
from .ranges import Ranges, Rounding
from .rational import Atom, Places


@dataclass(frozen=True, slots=True)
class Executed:
    """A server's shares of the opened integers in the cut's order; where a system was not ``solvable`` those that need no
    solution and no rounding, such as counts, and zeros in place of the others.
    """

    values: Shares = field(repr=False)
    solvable: bool


Totals: TypeAlias = "Callable[[Circuit, Mapping[int, Shares]], Protocol[Mapping[int, Shares]]]"
"""From an iteration's body and its state, by place, to the totals over rows that depend on it."""


def no_totals(body: Circuit, state: Mapping[int, Shares]) -> Protocol[Mapping[int, Shares]]:
    """For iterations without rows."""
    yield from ()
    return {}


def execute(
    known: Ranges, leaves: Mapping[int, Value], public: Mapping[str, npt.NDArray[Any]], party: Party, totals: Totals = no_totals
) -> Protocol[Executed]:
    """Run a cut on shares.

    Args:
        known: the cut's ranges; ``known.field`` is the field of all shares.
        leaves: shares of nodes' integers on their scales, by place; what is below them is not computed.
        public: broadcast values by name, integers on their scales.
        party: this server, with keys that are used for nothing else.
        totals: computes what every round of an iteration needs of the rows.

    Rationals are rounded half up to their resolution, roots towards zero; they become ``division.UNDEFINED`` where a divisor is 0 and
    ``division.OUT_OF_RANGE`` beyond 2^128. Where a ROUND left its bounds all results are ``OUT_OF_RANGE``.
    """
    execution = _Execution(known, known.field, leaves, public, party, totals)
    try:
        return Executed((yield from execution.opened()), True)
    except _SingularError:
        return Executed((yield from _Execution(known, known.field, leaves, public, party, totals).unsolved()), False)


class _SingularError(Exception):
    """A system has no unique solution, which all servers know at the same time."""


class _Execution:
    """One run of a circuit; results of tasks are kept by key: a kind of task and what it works on."""

    def __init__(
        self,
        known: Ranges,
        domain: Field,
        leaves: Mapping[int, Value],
        public: Mapping[str, npt.NDArray[Any]],
        party: Party,
        totals: Totals,
    ) -> None:
        self.known, self.domain, self.leaves, self.public, self.party, self.totals = known, domain, leaves, public, party, totals
        self.nodes = known.circuit.nodes
        self.in_bounds: list[Shares] = []

    def opened(self) -> Protocol[Shares]:
        """The integers of the cut."""
        results = yield from self.run([("opening", place) for place in range(len(self.known.openings))])
        values = concatenated(results)[self._order]
        if not self.in_bounds:
            return values
        valid = yield from product(self.party, concatenated(self.in_bounds))
        outside = constant(self.party, self.domain, 1) - valid
        return (yield from multiply(self.party, values, valid)) + outside.scaled(OUT_OF_RANGE)

    def unsolved(self) -> Protocol[Shares]:
        """The same where no system is solved: integers that depend on none, and zeros."""
        circuit, results = self.known.circuit, []
        for place, (rounding, positions) in enumerate(self.known.openings):
            if rounding.exact and not circuit.contains(Op.SOLVE, tuple(part.place for part in rounding.parts)):
                results += yield from self.run([("opening", place)])
            else:
                results.append(constant(self.party, self.domain, np.zeros(len(positions), dtype=object)))
        return concatenated(results)[self._order]

    @property
    def _order(self) -> Places:
        """From the order of openings to that of the cut."""
        return np.argsort(np.concatenate([positions for _, positions in self.known.openings]))

    def run(self, keys: list[Hashable]) -> Protocol[list[Any]]:
        """Results of tasks."""
        return (yield from on_demand(self._start, keys))

    def _start(self, key: Any) -> Task[Any]:
        match key:
            case ("node", place):
                return self._node(place)
            case ("aligned", place, scale, numbers, shape):
                return self._aligned(place, scale, np.frombuffer(numbers, dtype=np.int64).reshape(shape))
            case ("denominators", numbers, shape):
                return self._denominators(np.frombuffer(numbers, dtype=np.int64).reshape(shape))
            case ("denominator", number):
                return self._denominator(number)
            case ("system", name):
                return self._system(name)
            case ("chosen", place):
                return self._chosen_denominators(place)
            case ("flag", place):
                return self._flag(place)
        return self._opening(key[1])

    def _node(self, place: int) -> Task[Value]:
        """Numerators of a node."""
        if place in self.leaves:
            yield from ()
            return self.leaves[place]
        node = self.nodes[place]
        match node.op:
            case Op.CONSTANT:
                return np.array(node.data, dtype=object).reshape(node.shape)
            case Op.PUBLIC:
                return objects(self.public[node.name])
            case Op.INDEX:
                (value,) = yield from need(("node", node.args[0]))
                return rearranged(value, lambda part: part.reshape(-1)[node.places].reshape(node.shape))
            case Op.EQUAL | Op.LESS:
                return (yield from self._compared(place, node))
            case Op.SELECT:
                return (yield from self._selected(place, node))
            case Op.SOLVE:
                return (yield from self._solved(place, node))
            case Op.ROUND:
                return (yield from self._rounded(place, node))
            case Op.ITERATE:
                return (yield from self._iterated(place, node))
            case Op.INNER | Op.LOCAL | Op.STATE:
                raise CapabilityError(f"no shares were given of {self.known.circuit.express(place, {})!r}", code="missing_leaf")
        return (yield from self._arithmetic(place, node))

    def _arithmetic(self, place: int, node: Node) -> Task[Value]:
        form = self.known.forms[place]
        match node.op:
            case Op.ADD | Op.SUBTRACT:
                a, b = yield from need(*(self._on(arg, form.scale, form.denominators) for arg in node.args))
                return added(self.party, a, b if node.op is Op.ADD else scaled(b, -1))
            case Op.MULTIPLY:
                a, b = yield from need(*(("node", arg) for arg in node.args))
                return (yield from times(self.party, a, b))
            case Op.DIVIDE:
                return (yield from self._divided(node))
            case Op.MATMUL:
                a, b = yield from need(*(self._uniform(arg) for arg in node.args))
                shapes = [self.nodes[arg].shape for arg in node.args]
                a = rearranged(a, lambda part: part.reshape(-1, shapes[0][-1]))
                b = rearranged(b, lambda part: part.reshape(shapes[1][0], -1))
                result = yield from matrix_times(self.party, a, b)
                return rearranged(result, lambda part: part.reshape(node.shape))
            case Op.SUM:
                (value,) = yield from need(self._uniform(node.args[0]))
                return total(value)
        parts = yield from need(*(self._on(arg, form.scale, self.known.forms[arg].denominators) for arg in node.args))
        return joined(self.party, self.domain, parts)

    def _on(self, place: int, scale: Fraction, common: Places) -> Hashable:
        """The task of a node's numerators on a finer scale and over multiples of its denominators."""
        return ("aligned", place, scale, common.tobytes(), common.shape)

    def _uniform(self, place: int) -> Hashable:
        """The task of a node's numerators over one denominator for all elements."""
        form = self.known.forms[place]
        return self._on(place, form.scale, np.full(form.shape, self.known.denominators.common_of_all(form.denominators)))

    def _below(self, numbers: Places) -> Hashable:
        """The task of values of denominators."""
        return ("denominators", numbers.tobytes(), numbers.shape)

    def _aligned(self, place: int, scale: Fraction, common: Places) -> Task[Value]:
        form = self.known.forms[place]
        factor = self.known.denominators.quotient(common, form.denominators)
        value, factors = yield from need(("node", place), self._below(factor))
        if scale != form.scale:
            value = scaled(value, int(form.scale / scale))
        return (yield from times(self.party, value, factors)) if factor.any() else value

    def _divided(self, node: Node) -> Task[Value]:
        above, below = node.args
        factor = self.known.denominators.inverted(self.known.forms[below].denominators)
        value, factors = yield from need(("node", above), self._below(factor))
        value = rearranged(value, lambda part: np.broadcast_to(part, node.shape))
        inverted = reciprocals(self.nodes[below])
        if inverted is not None:
            return scaled(value, inverted[1])
        return (yield from times(self.party, value, factors))

    def _denominators(self, numbers: Places) -> Task[Value]:
        """Values of denominators, one for each element, or one for all where all are the same."""
        distinct = {number: place for place, number in enumerate(dict.fromkeys(numbers.reshape(-1).tolist()))}
        values: list[Value] = yield from need(*(("denominator", number) for number in distinct))
        if len(distinct) == 1:
            return values[0]
        inverse = np.array([distinct[number] for number in numbers.reshape(-1).tolist()])
        return rearranged(joined(self.party, self.domain, values), lambda part: part[inverse].reshape(numbers.shape))

    def _denominator(self, number: int) -> Task[Value]:
        """The product of atoms."""
        public, hidden = np.array(1, dtype=object), []
        monomial = self.known.denominators.monomials[number]
        sources = yield from need(*(atom.source for atom, _ in monomial))
        for (atom, power), source in zip(monomial, sources, strict=True):
            value = _element(source, atom)
            if isinstance(value, Shares):
                hidden += [value] * power
            else:
                public = np.asarray(public * value**power, dtype=object)
        return scaled((yield from product(self.party, stacked(hidden))), public) if hidden else public

    def _compared(self, place: int, node: Node) -> Task[Value]:
        """The sign of a difference over a common denominator; 0 where that is 0, as for values that are undefined."""
        known = self.known.comparisons[place]
        a, b, sign = yield from need(*(self._on(arg, known.scale, known.common) for arg in node.args), self._below(known.sign))
        difference = as_shares(self.party, self.domain, added(self.party, a, scaled(b, -1)))
        if node.op is Op.LESS:
            signed = yield from times(self.party, difference, sign)
            return (yield from less_than_zero(self.party, as_shares(self.party, self.domain, signed), known.bits))
        if not known.sign.any():
            return (yield from equal_to_zero(self.party, difference, known.bits))
        divisor = as_shares(self.party, self.domain, sign)
        equal, undefined = yield from gather([equal_to_zero(self.party, part, known.bits) for part in (difference, divisor)])
        return added(self.party, equal, scaled((yield from multiply(self.party, equal, undefined)), -1))

    def _selected(self, place: int, node: Node) -> Task[Value]:
        form = self.known.forms[place]
        sides = [self._on(arg, form.scale, self.known.forms[arg].denominators) for arg in node.args[1:]]
        condition, a, b = yield from need(("node", node.args[0]), *sides)
        return (yield from select(self.party, *(as_shares(self.party, self.domain, value) for value in (condition, a, b))))

    def _chosen_denominators(self, place: int) -> Task[Value]:
        """Denominators of a SELECT between values with different ones."""
        node = self.nodes[place]
        sides = [self._below(self.known.forms[arg].denominators) for arg in node.args[1:]]
        condition, a, b = yield from need(("node", node.args[0]), *sides)
        chosen = yield from select(self.party, *(as_shares(self.party, self.domain, value) for value in (condition, a, b)))
        return rearranged(chosen, lambda part: np.broadcast_to(part, node.shape))

    def _flag(self, place: int) -> Task[int]:
        """Whether an iteration ends, which all servers learn as soon as it is computed."""
        (value,) = yield from need(("node", place))
        return int((yield from open_masked(as_shares(self.party, self.domain, value))))

    def _system(self, name: int) -> Task[Solution]:
        system = self.known.systems[name]
        places = [system.matrix, *(self.nodes[place].args[1] for place in system.shared + system.known)]
        values = yield from need(*(self._uniform(place) for place in places))
        size = self.nodes[system.matrix].shape[0]
        columns = [rearranged(value, lambda part: part.reshape(size, -1)) for value in values]
        first = 1 + len(system.shared)
        shared = reduce(beside, [as_shares(self.party, self.domain, value) for value in columns[:first]])
        known = np.hstack([np.zeros((size, 0), dtype=object), *(value for value in columns[first:] if not isinstance(value, Shares))])
        small = Field.for_bits(system.bits + MASKING)
        if small.exponent >= self.domain.exponent:
            return (yield from self._solution(shared, known, self.domain))
        entering = yield from moved(self.party, shared, system.entry_bits, small)
        solution = yield from self._solution(entering, known, small)
        leaving = concatenated([solution.numerators, solution.determinant])
        numerators, determinant = split((yield from moved(self.party, leaving, system.bits, self.domain)), [solution.numerators.shape, ()])
        return Solution(numerators, determinant)

    def _solution(self, shared: Shares, known: Any, domain: Field) -> Protocol[Solution]:
        size = shared.shape[0]
        solution = yield from solve(self.party, shared[:, :size], shared[:, size:], known, domain)
        if solution is None:
            raise _SingularError
        return solution

    def _solved(self, place: int, node: Node) -> Task[Value]:
        system = self.known.systems[place]
        common = self.known.denominators.common_of_all(self.known.forms[system.matrix].denominators)
        solution, factor = yield from need(("system", system.name), self._below(self.known.denominators.inverted(common)))
        nodes = system.shared + system.known
        before = nodes[: nodes.index(place)]
        start = sum(self.nodes[other].size for other in before) // node.shape[0]
        columns = solution.numerators[:, start : start + node.size // node.shape[0]].reshape(node.shape)
        return (yield from times(self.party, columns, factor))

    def _rounded(self, place: int, node: Node) -> Task[Value]:
        """The nearest multiple of the node's scale; where it leaves its bounds 0, and all results are marked."""
        rounding = self.known.roundings[place]
        result = yield from self._quotients(rounding)
        if isinstance(result, Shares):
            return result.reshape(node.shape)
        if not rounding.precision.bounded or self.known.denominators.vanishing(rounding.monomials).any():
            self.in_bounds.append(result.inside)
        return result.values.reshape(node.shape)

    def _opening(self, number: int) -> Task[Shares]:
        rounding = self.known.openings[number][0]
        result = yield from self._quotients(rounding)
        if isinstance(result, Shares):
            return result
        if rounding.rooted.size:
            result = replace(result, values=(yield from with_roots(self.party, result.values, rounding.rooted, rounding.precision.limit)))
        return result.marked(self.party)

    def _quotients(self, rounding: Rounding) -> Task[Shares | Quotients]:
        values = yield from need(*(("node", part.place) for part in rounding.parts))
        numerators = concatenated(
            [
                as_shares(self.party, self.domain, value).reshape((-1,))[part.elements].scaled(part.factor)
                for part, value in zip(rounding.parts, values, strict=True)
            ]
        )
        if rounding.exact:
            return numerators
        denominators = yield from need(*(("denominator", number) for number in rounding.monomials))
        divisors = scaled(joined(self.party, self.domain, denominators), rounding.divisor)
        halves = rearranged(divisors, lambda part: part[rounding.which])
        numerators = numerators.scaled(2) + as_shares(self.party, self.domain, halves)
        if isinstance(divisors, Shares):
            return (yield from floor_quotients(self.party, numerators, divisors.scaled(2), rounding.which, rounding.precision))
        return (yield from public_quotients(self.party, numerators, (2 * divisors)[rounding.which], rounding.precision))

    def _iterated(self, place: int, node: Node) -> Task[Value]:
        loop = node.loop
        assert loop is not None
        body, carried = loop.body, loop.carried
        values = yield from need(*(("node", arg) for arg in node.args))
        state = {name: as_shares(self.party, self.domain, value) for name, value in zip(loop.names, values, strict=True)}
        wanted: list[Hashable] = [*(("node", body.outputs[name].node) for name in carried), ("flag", body.outputs["done"].node)]
        done, count = 0, 0
        while not done and count < loop.times:
            leaves = {at: state[inside.name] for at, inside in enumerate(body.nodes) if inside.op is Op.STATE}
            leaves |= yield from self.totals(body, leaves)
            execution = _Execution(self.known.bodies[place], self.domain, leaves, self.public, self.party, self.totals)
            *results, done = yield from execution.run(wanted)
            state |= {name: as_shares(self.party, self.domain, value) for name, value in zip(carried, results, strict=True)}
            self.in_bounds += execution.in_bounds
            count += 1
        form, forms = self.known.forms[place], self.known.bodies[place].forms
        flat = [scaled(state[name], int(forms[body.outputs[name].node].scale / form.scale)) for name in carried]
        flags = np.array([done, count], dtype=object) * int(1 / form.scale)
        return joined(self.party, self.domain, [*flat, flags])


def _element(value: Value | Solution, atom: Atom) -> Value:
    if isinstance(value, Solution):
        return value.determinant
    return rearranged(value, lambda part: part.reshape(-1)[atom.element])
