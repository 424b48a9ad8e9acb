"""Clear evaluation of circuits: by an owner on its own rows, and by everyone on what was opened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import chain
from typing import Protocol, TypeAlias

import numpy as np

from veilstat.schema.columns import Codes

from .circuit import Circuit, Node, Op
from .inner_products import inner
from .operations import Array, apply, rational

Solver: TypeAlias = "Callable[[Array, Array], Array]"
"""Exact solution of A x = B for object arrays of Fractions; raises ``SingularMatrix``."""


_MOST_ELEMENTS = 1 << 22


class SingularMatrix(ArithmeticError):
    """A system has no unique solution; ``column`` is the first column that depends on those before it, -1 where that is not known.

    ``answers`` are those of the step that need no solution.
    """

    def __init__(self, column: int, answers: Mapping[str, Array] | None = None) -> None:
        super().__init__(column)
        self.column = column
        self.answers = answers or {}


class Rows(Protocol):
    """An owner's rows, encoded: read in blocks (how many rows, their codes), so that a table may be larger than memory."""

    def __len__(self) -> int: ...

    def blocks(self) -> Iterator[tuple[int, Mapping[str, Codes]]]: ...


class NoRows:
    """The rows of a party that has none."""

    def __len__(self) -> int:
        return 0

    def blocks(self) -> Iterator[tuple[int, Mapping[str, Codes]]]:
        return iter(())


def no_solver(matrix: Array, right: Array) -> Array:
    """For evaluations below the exit wall, where no system is solved."""
    raise RuntimeError("a circuit with SOLVE was evaluated without a solver")


def evaluate(
    circuit: Circuit,
    wanted: tuple[int, ...],
    *,
    rows: Rows,
    inputs: Mapping[str, Array],
    known: Mapping[int, Array],
    solve: Solver = no_solver,
) -> dict[int, Array]:
    """The values of ``wanted`` nodes.

    Args:
        circuit: the circuit; ``wanted``: places of nodes in it.
        rows: the owner's encoded rows; totals are over these rows.
        inputs: PUBLIC and STATE arrays by name, as integers on their scales (Fractions where they have none).
        known: values already there, by place: what was opened.
        solve: exact solver for SOLVE.

    Raises:
        RangeError: a ROUND left its declared bounds. SingularMatrix: SOLVE had no unique solution.
    """
    return _Evaluation(circuit, rows, inputs, known, solve).run(wanted)


def evaluate_rows(circuit: Circuit, place: int, block: Mapping[str, Codes], count: int) -> Array:
    """What a node that depends on nothing but rows is in each of ``count`` rows: shape (count, *node.shape), integers on its scale."""
    evaluation = _Evaluation(circuit, NoRows(), {}, {}, no_solver)
    for below in sorted(circuit.needed((place,))):
        node = circuit.nodes[below]
        evaluation.values[below] = evaluation._row_value(node, block, count) if node.rows else evaluation._apply(node)
    return evaluation.values[place]


class _Evaluation:
    def __init__(self, circuit: Circuit, rows: Rows, inputs: Mapping[str, Array], known: Mapping[int, Array], solve: Solver) -> None:
        self.circuit, self.rows, self.inputs, self.solve = circuit, rows, inputs, solve
        self.values: dict[int, Array] = dict(known)

    def run(self, wanted: tuple[int, ...]) -> dict[int, Array]:
        nodes = self.circuit.nodes
        needed = sorted(self.circuit.needed(wanted, stop=frozenset(self.values)).difference(self.values))
        totals = [place for place in needed if nodes[place].op is Op.INNER]
        others = [place for place in needed if not nodes[place].rows and nodes[place].op is not Op.INNER]
        behind = set(totals)
        for place in others:
            if behind.intersection(nodes[place].args):
                behind.add(place)
        self._compute(place for place in others if place not in behind)
        self._stream([place for place in needed if nodes[place].rows], totals)
        self._compute(place for place in others if place in behind)
        return {place: self.values[place] for place in wanted}

    def _stream(self, row_level: list[int], totals: list[int]) -> None:
        if not totals:
            return
        nodes = self.circuit.nodes
        sums = {place: np.zeros(nodes[place].shape, dtype=object) for place in totals}
        widest = max((nodes[place].size for place in row_level), default=1)
        for count, block in _narrowed(self.rows, max(1, _MOST_ELEMENTS // widest)):
            local = _Evaluation(self.circuit, self.rows, self.inputs, self.values, self.solve)
            for place in row_level:
                local.values[place] = local._row_value(nodes[place], block, count)
            for place in totals:
                a, b = (_matrix(local.values[arg]) for arg in nodes[place].args)
                sums[place] = sums[place] + inner(a, b).reshape(nodes[place].shape)
        for place, total in sums.items():
            self.values[place] = np.asarray(total, dtype=object)

    def _row_value(self, node: Node, block: Mapping[str, Codes], count: int) -> Array:
        match node.op:
            case Op.COLUMN:
                return block[node.name][0]
            case Op.PRESENT:
                return block[node.name][1].astype(np.int64)
            case Op.ONES:
                return np.ones(count, dtype=np.int64)
            case _:
                return self._apply(node)

    def _compute(self, places: Iterable[int]) -> None:
        for place in places:
            self.values[place] = self._apply(self.circuit.nodes[place])

    def _apply(self, node: Node) -> Array:
        sources, values = [self.circuit.nodes[arg] for arg in node.args], [self.values[arg] for arg in node.args]
        match node.op:
            case Op.PUBLIC | Op.STATE:
                return self.inputs[node.name]
            case Op.SOLVE:
                return self.solve(*map(rational, sources, values))
            case Op.ITERATE:
                return self._iterate(node)
        return apply(node, sources, values)

    def _iterate(self, node: Node) -> Array:
        loop = node.loop
        assert loop is not None
        body, carried = loop.body, loop.carried
        state = {name: self.values[arg] for name, arg in zip(loop.names, node.args, strict=True)}
        done, count = 0, 0
        while not done and count < loop.times:
            wanted = tuple(body.outputs[name].node for name in (*carried, "done"))
            values = evaluate(body, wanted, rows=self.rows, inputs={**self.inputs, **state}, known={}, solve=self.solve)
            state |= {name: values[body.outputs[name].node] for name in carried}
            done, count = int(values[body.outputs["done"].node]), count + 1
        flat = [rational(body.nodes[body.outputs[name].node], state[name]).reshape(-1) for name in carried]
        return np.array([*chain(*flat), Fraction(done), Fraction(count)], dtype=object)


def _narrowed(rows: Rows, most: int) -> Iterator[tuple[int, Mapping[str, Codes]]]:
    """Blocks of at most ``most`` rows, so that a wide value of each row does not fill the memory."""
    for count, block in rows.blocks():
        for start in range(0, count, most):
            part = slice(start, min(count, start + most))
            yield part.stop - start, {name: (codes[part], present[part]) for name, (codes, present) in block.items()}


def _matrix(value: Array) -> Array:
    return value.reshape(len(value), -1)
