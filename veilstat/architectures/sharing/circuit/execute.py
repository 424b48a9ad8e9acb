"""Three servers compute a circuit on shared totals, from the owners' contributions to the integers that are opened.

Every node is a task that starts as soon as what it needs is there, so the number of rounds is that of the longest
chain. Nothing but a system's solvability and an iteration's end becomes known to the servers; results stay shared.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from veilstat.errors import CapabilityError
from veilstat.language.bounds import objects
from veilstat.language.circuit import Circuit, Node, Op
from veilstat.language.wording import express

from ..protocols.araki16 import Shares, concatenated, constant, multiply, open_masked, product
from ..protocols.division import OUT_OF_RANGE, Quotients, floor_quotients, public_quotients
from ..protocols.prss import Party
from ..protocols.roots import with_roots
from ..protocols.rounds import Protocol
from .arithmetic import aligned, chosen_denominators, compared, computed, denominator, denominators, selected
from .demand import Task, need, on_demand
from .mixed import Value, joined, rearranged, scaled
from .ranges import Ranges, Rounding
from .rational import Places
from .run import Run
from .systems import SingularError, solved, system


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
    run = Run(known, known.field, leaves, public, party)
    try:
        return Executed((yield from _Execution(run, totals).opened()), True)
    except SingularError:
        return Executed((yield from _Execution(run, totals).unsolved()), False)


class _Execution:
    """Tasks of one run, found by their keys (``run.py``), and the openings that they lead to."""

    def __init__(self, run: Run, totals: Totals) -> None:
        self.run, self.totals = run, totals
        self.in_bounds: list[Shares] = []

    def opened(self) -> Protocol[Shares]:
        """The integers of the cut."""
        run = self.run
        results = yield from self.results([("opening", place) for place in range(len(run.known.openings))])
        values = concatenated(results)[self._order]
        if not self.in_bounds:
            return values
        valid = yield from product(run.party, concatenated(self.in_bounds))
        outside = constant(run.party, run.domain, 1) - valid
        return (yield from multiply(run.party, values, valid)) + outside.scaled(OUT_OF_RANGE)

    def unsolved(self) -> Protocol[Shares]:
        """The same where no system is solved: integers that depend on none, and zeros."""
        run, results = self.run, []
        for place, (rounding, positions) in enumerate(run.known.openings):
            if rounding.exact and not run.known.circuit.contains(Op.SOLVE, tuple(part.place for part in rounding.parts)):
                results += yield from self.results([("opening", place)])
            else:
                results.append(constant(run.party, run.domain, np.zeros(len(positions), dtype=object)))
        return concatenated(results)[self._order]

    @property
    def _order(self) -> Places:
        """From the order of openings to that of the cut."""
        return np.argsort(np.concatenate([positions for _, positions in self.run.known.openings]))

    def results(self, keys: list[Hashable]) -> Protocol[list[Any]]:
        """What tasks compute, by their keys."""
        return (yield from on_demand(self._start, keys))

    def _start(self, key: Any) -> Task[Any]:
        match key:
            case ("node", place):
                return self._node(place)
            case ("aligned", place, scale, numbers, shape):
                return aligned(self.run, place, scale, np.frombuffer(numbers, dtype=np.int64).reshape(shape))
            case ("denominators", numbers, shape):
                return denominators(self.run, np.frombuffer(numbers, dtype=np.int64).reshape(shape))
            case ("denominator", number):
                return denominator(self.run, number)
            case ("system", name):
                return system(self.run, name)
            case ("chosen", place):
                return chosen_denominators(self.run, place)
            case ("flag", place):
                return self._flag(place)
        return self._opening(key[1])

    def _node(self, place: int) -> Task[Value]:
        """Numerators of a node."""
        run = self.run
        if place in run.leaves:
            yield from ()
            return run.leaves[place]
        node = run.nodes[place]
        match node.op:
            case Op.CONSTANT:
                return np.array(node.data, dtype=object).reshape(node.shape)
            case Op.PUBLIC:
                return objects(run.public[node.name])
            case Op.EQUAL | Op.LESS:
                return (yield from compared(run, place, node))
            case Op.SELECT:
                return (yield from selected(run, place, node))
            case Op.SOLVE:
                return (yield from solved(run, place, node))
            case Op.ROUND:
                return (yield from self._rounded(place, node))
            case Op.ITERATE:
                return (yield from self._iterated(place, node))
            case Op.INNER | Op.STATE:
                raise CapabilityError(f"no shares were given of {express(run.known.circuit, place, {})!r}", code="missing_leaf")
        return (yield from computed(run, place, node))

    def _flag(self, place: int) -> Task[int]:
        """Whether an iteration ends, which all servers learn as soon as it is computed."""
        (value,) = yield from need(("node", place))
        return int((yield from open_masked(self.run.shares(value))))

    def _rounded(self, place: int, node: Node) -> Task[Value]:
        """The nearest multiple of the node's scale; where it leaves its bounds 0, and all results are marked."""
        rounding = self.run.known.roundings[place]
        result = yield from self._quotients(rounding)
        if isinstance(result, Shares):
            return result.reshape(node.shape)
        if not rounding.precision.bounded or self.run.known.denominators.vanishing(rounding.monomials).any():
            self.in_bounds.append(result.inside)
        return result.values.reshape(node.shape)

    def _opening(self, number: int) -> Task[Shares]:
        run = self.run
        rounding = run.known.openings[number][0]
        result = yield from self._quotients(rounding)
        if isinstance(result, Shares):
            return result
        if rounding.rooted.size:
            result = replace(result, values=(yield from with_roots(run.party, result.values, rounding.rooted, rounding.precision.limit)))
        return result.marked(run.party)

    def _quotients(self, rounding: Rounding) -> Task[Shares | Quotients]:
        run = self.run
        values = yield from need(*(("node", part.place) for part in rounding.parts))
        numerators = concatenated(
            [
                run.shares(value).reshape((-1,))[part.elements].scaled(part.factor)
                for part, value in zip(rounding.parts, values, strict=True)
            ]
        )
        if rounding.exact:
            return numerators
        below = yield from need(*(("denominator", number) for number in rounding.monomials))
        divisors = scaled(joined(run.party, run.domain, below), rounding.divisor)
        halves = rearranged(divisors, lambda part: part[rounding.which])
        numerators = numerators.scaled(2) + run.shares(halves)
        if isinstance(divisors, Shares):
            return (yield from floor_quotients(run.party, numerators, divisors.scaled(2), rounding.which, rounding.precision))
        return (yield from public_quotients(run.party, numerators, (2 * divisors)[rounding.which], rounding.precision))

    def _iterated(self, place: int, node: Node) -> Task[Value]:
        run, loop = self.run, node.loop
        assert loop is not None
        body, carried = loop.body, loop.carried
        values = yield from need(*(("node", arg) for arg in node.args))
        state = {name: run.shares(value) for name, value in zip(loop.names, values, strict=True)}
        wanted: list[Hashable] = [*(("node", body.outputs[name].node) for name in carried), ("flag", body.outputs["done"].node)]
        done, count = 0, 0
        while not done and count < loop.times:
            leaves = {at: state[inside.name] for at, inside in enumerate(body.nodes) if inside.op is Op.STATE}
            leaves |= yield from self.totals(body, leaves)
            execution = _Execution(replace(run, known=run.known.bodies[place], leaves=leaves), self.totals)
            *results, done = yield from execution.results(wanted)
            state |= {name: run.shares(value) for name, value in zip(carried, results, strict=True)}
            self.in_bounds += execution.in_bounds
            count += 1
        form, forms = run.known.forms[place], run.known.bodies[place].forms
        flat = [scaled(state[name], int(forms[body.outputs[name].node].scale / form.scale)) for name in carried]
        flags = np.array([done, count], dtype=object) * int(1 / form.scale)
        return joined(run.party, run.domain, [*flat, flags])
