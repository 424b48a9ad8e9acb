"""Clear evaluation of circuits: by an owner on its own rows, and by everyone on what was opened.

Nodes with a scale are held as integers (the value divided by the scale), int64 where they fit and Python
integers beyond; general rationals are object arrays of Fractions, where nan marks what is undefined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from veilstat.errors import RangeError
from veilstat.schema.columns import Codes
from veilstat.schema.encoding import round_half_up

from .circuit import Circuit, Node, Op
from .exact import inner

Array: TypeAlias = "npt.NDArray[Any]"
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
        needed = sorted(self.circuit.needed(wanted, stop=frozenset(self.values)))
        row_level = [place for place in needed if nodes[place].rows]
        totals = [place for place in needed if nodes[place].op is Op.INNER and place not in self.values]
        behind = set(totals)
        for place in needed:
            if behind.intersection(nodes[place].args) and not nodes[place].rows:
                behind.add(place)
        for place in needed:
            if not nodes[place].rows and place not in behind:
                self._compute(place)
        self._stream(row_level, totals)
        for place in needed:
            if not nodes[place].rows:
                self._compute(place)
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

    def _compute(self, place: int) -> None:
        if place not in self.values:
            self.values[place] = self._apply(self.circuit.nodes[place])

    def _apply(self, node: Node) -> Array:
        match node.op:
            case Op.CONSTANT:
                return _fit(np.array(node.data, dtype=object).reshape(node.shape), node)
            case Op.PUBLIC | Op.STATE:
                return self.inputs[node.name]
            case Op.INDEX:
                return self._take(node)
            case Op.FUNCTION:
                return _function(node, self._floats(node.args[0]))
            case Op.ROUND:
                return _round(node, self._rational(node.args[0]))
            case Op.EQUAL | Op.LESS:
                return self._compare(node)
            case Op.SELECT:
                condition, a, b = self._aligned(node, [self.values[node.args[0]], *self._scaled(node, node.args[1:])])
                return np.asarray(np.where(condition.astype(bool), a, b))
            case Op.SOLVE:
                return self.solve(self._rational(node.args[0]), self._rational(node.args[1]))
            case Op.ITERATE:
                return self._iterate(node)
            case _:
                return _fit(self._arithmetic(node), node)

    def _arithmetic(self, node: Node) -> Array:
        if node.op in (Op.MULTIPLY, Op.MATMUL) and node.scale is not None:
            operands = [self._wide(arg, node) for arg in node.args]
        else:
            operands = self._scaled(node, node.args)
        match node.op:
            case Op.MATMUL:
                return np.asarray(operands[0] @ operands[1])
            case Op.SUM:
                return np.asarray(operands[0].sum(axis=tuple(range(1 if node.rows else 0, operands[0].ndim))))
            case Op.CONCATENATE:
                return self._concatenate(node, operands)
        a, *rest = self._aligned(node, operands)
        match node.op:
            case Op.ADD:
                return np.asarray(a + rest[0])
            case Op.SUBTRACT:
                return np.asarray(a - rest[0])
            case Op.MULTIPLY:
                return np.asarray(a * rest[0])
            case Op.DIVIDE:
                return _elementwise(_divide, a, rest[0])
        raise AssertionError(node.op)

    def _wide(self, place: int, node: Node) -> Array:
        value = self.values[place]
        return value if value.dtype == object or (node.bits or 0) <= 62 else value.astype(object)

    def _scaled(self, node: Node, args: tuple[int, ...]) -> list[Array]:
        if node.scale is None:
            return [self._rational(arg) for arg in args]
        scaled = []
        for arg in args:
            scale = self.circuit.nodes[arg].scale
            assert scale is not None
            factor = int(scale / node.scale)
            value = self._wide(arg, node)
            scaled.append(value if factor == 1 else value * factor)
        return scaled

    def _rational(self, place: int) -> Array:
        scale = self.circuit.nodes[place].scale
        value = self.values[place]
        if scale is None:
            return value
        return _elementwise(lambda element: scale * int(element), value)

    def _floats(self, place: int) -> npt.NDArray[np.float64]:
        scale = self.circuit.nodes[place].scale
        assert scale is not None
        return self.values[place].astype(np.float64) * float(scale)

    def _aligned(self, node: Node, operands: list[Array]) -> list[Array]:
        if not node.rows:
            return operands
        aligned = []
        for arg, value in zip(node.args, operands, strict=True):
            source = self.circuit.nodes[arg]
            missing = len(node.shape) - len(source.shape)
            aligned.append(value.reshape(len(value), *([1] * missing), *source.shape) if source.rows else value)
        return aligned

    def _take(self, node: Node) -> Array:
        value = self.values[node.args[0]]
        if node.rows:
            return np.asarray(value.reshape(len(value), -1)[:, node.places].reshape(len(value), *node.shape))
        return np.asarray(value.reshape(-1)[node.places].reshape(node.shape))

    def _concatenate(self, node: Node, operands: list[Array]) -> Array:
        if not node.rows:
            return np.concatenate([part.reshape(-1) for part in operands])
        sources = [self.circuit.nodes[arg] for arg in node.args]
        count = next(len(part) for part, source in zip(operands, sources, strict=True) if source.rows)
        columns = [
            part.reshape(count, -1) if source.rows else np.broadcast_to(part.reshape(1, -1), (count, part.size))
            for part, source in zip(operands, sources, strict=True)
        ]
        return np.concatenate(columns, axis=1)

    def _compare(self, node: Node) -> Array:
        scales = [self.circuit.nodes[arg].scale for arg in node.args]
        if None in scales or scales[0] != scales[1]:
            operands = [self._rational(arg) for arg in node.args]
        else:
            operands = [self.values[arg] for arg in node.args]
        a, b = self._aligned(node, operands)
        return np.asarray(a == b if node.op is Op.EQUAL else a < b).astype(np.int64)

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
        flat = [Fraction(int(element)) * _scale(body, name) for name in carried for element in state[name].reshape(-1)]
        return np.array([*flat, Fraction(done), Fraction(count)], dtype=object)


def _narrowed(rows: Rows, most: int) -> Iterator[tuple[int, Mapping[str, Codes]]]:
    """Blocks of at most ``most`` rows, so that a wide value of each row does not fill the memory."""
    for count, block in rows.blocks():
        for start in range(0, count, most):
            part = slice(start, min(count, start + most))
            yield part.stop - start, {name: (codes[part], present[part]) for name, (codes, present) in block.items()}


def _scale(body: Circuit, name: str) -> Fraction:
    scale = body.nodes[body.outputs[name].node].scale
    assert scale is not None
    return scale


def _fit(value: Array, node: Node) -> Array:
    """In words where the node's bounds say that they do; what was opened with noise may lie beyond its bounds."""
    if value.dtype != object or node.bits is None or node.bits > 62:
        return value
    try:
        return value.astype(np.int64)
    except OverflowError:
        return value


def _matrix(value: Array) -> Array:
    return value.reshape(len(value), -1)


def _elementwise(function: Callable[..., Any], *arrays: Array) -> Array:
    broadcast = np.broadcast_arrays(*arrays)
    result = np.empty(broadcast[0].shape, dtype=object)
    for place in np.ndindex(result.shape):
        result[place] = function(*(array[place] for array in broadcast))
    return result


def _divide(a: Any, b: Any) -> Any:
    return math.nan if b == 0 or b != b else a / b


def _function(node: Node, x: npt.NDArray[np.float64]) -> Array:
    assert node.scale is not None and node.bounds is not None
    with np.errstate(over="ignore", under="ignore"):
        tail = np.exp(-np.abs(x))
        if node.name == "logistic":
            result = np.where(x >= 0, 1.0, tail) / (1.0 + tail)
        else:
            result = np.maximum(x, 0.0) + np.log1p(tail)
    integers = np.rint(result / float(node.scale))
    _require_range(node, integers.min(initial=0), integers.max(initial=0))
    return integers.astype(np.int64)


def _round(node: Node, value: Array) -> Array:
    scale = node.scale
    assert scale is not None
    if any(element != element for element in value.reshape(-1)):
        raise RangeError("an iteration divided by zero; a column may be constant, or have no values", code="undefined")
    rounded = _elementwise(lambda element: round_half_up(element / scale), value)
    _require_range(node, rounded.min(initial=0), rounded.max(initial=0))
    return _fit(rounded, node)


def _require_range(node: Node, low: Any, high: Any) -> None:
    assert node.bounds is not None and node.scale is not None
    if low < min(node.bounds.low, 0) or high > max(node.bounds.high, 0):
        low, high = (float(node.scale * bound) for bound in (node.bounds.low, node.bounds.high))
        raise RangeError(
            f"a value left its declared range, {low:g} to {high:g}: the iteration diverges; use a smaller rate",
            code="diverged",
        )
