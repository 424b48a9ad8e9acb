"""Tasks of linear systems on shares: each is solved once, over the smallest field that it fits, for all its right sides."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from veilstat.language.circuit import Node

from ..protocols.araki16 import Shares, beside, concatenated, split
from ..protocols.field import Field
from ..protocols.floor import MASKING, moved
from ..protocols.rounds import Protocol
from ..protocols.solve import Solution, solve
from .demand import Task, need
from .mixed import Value, rearranged, times
from .run import Run


class SingularError(Exception):
    """A system has no unique solution, which all servers know at the same time."""


def system(run: Run, name: int) -> Task[Solution]:
    """The solution of a system, as shares in the run's field.

    Raises:
        SingularError: there is none, or more than one.
    """
    its = run.known.systems[name]
    places = [its.matrix, *(run.nodes[place].args[1] for place in its.shared + its.known)]
    values = yield from need(*(run.uniform(place) for place in places))
    size = run.nodes[its.matrix].shape[0]
    columns = [rearranged(value, lambda part: part.reshape(size, -1)) for value in values]
    first = 1 + len(its.shared)
    shared = reduce(beside, [run.shares(value) for value in columns[:first]])
    known = np.hstack([np.zeros((size, 0), dtype=object), *(value for value in columns[first:] if not isinstance(value, Shares))])
    small = Field.for_bits(its.bits + MASKING)
    if small.exponent >= run.domain.exponent:
        return (yield from _solution(run, shared, known, run.domain))
    entering = yield from moved(run.party, shared, its.entry_bits, small)
    solution = yield from _solution(run, entering, known, small)
    leaving = concatenated([solution.numerators, solution.determinant])
    numerators, determinant = split((yield from moved(run.party, leaving, its.bits, run.domain)), [solution.numerators.shape, ()])
    return Solution(numerators, determinant)


def _solution(run: Run, shared: Shares, known: Any, domain: Field) -> Protocol[Solution]:
    size = shared.shape[0]
    solution = yield from solve(run.party, shared[:, :size], shared[:, size:], known, domain)
    if solution is None:
        raise SingularError
    return solution


def solved(run: Run, place: int, node: Node) -> Task[Value]:
    """Numerators of one of the system's nodes: its columns of the solution."""
    its = run.known.systems[place]
    common = run.known.denominators.common_of_all(run.known.forms[its.matrix].denominators)
    solution, factor = yield from need(("system", its.name), run.below(run.known.denominators.inverted(common)))
    nodes = its.shared + its.known
    before = nodes[: nodes.index(place)]
    start = sum(run.nodes[other].size for other in before) // node.shape[0]
    columns = solution.numerators[:, start : start + node.size // node.shape[0]].reshape(node.shape)
    return (yield from times(run.party, columns, factor))
