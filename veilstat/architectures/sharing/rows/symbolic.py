"""From the row nodes of a circuit to polynomials over what one owner uploaded: no share is touched, nothing is sent.

An indicator of a level is uploaded, so that equality with a public code needs no comparison; what is not polynomial
(signs, functions, sums weighted by shared numbers) becomes a factor of its own, with what defines it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from veilstat.architectures.polynomials import Polynomials, RowValues, objects_of, single
from veilstat.errors import CapabilityError
from veilstat.language.circuit import Circuit, Node, Op

from ..protocols.araki16 import Shares
from ..protocols.piecewise import UNITS
from ..uploads import CODES, LEVEL, PRESENT, Plane
from .polynomials import REAL, Factor, Polynomial, Term


@dataclass(frozen=True, slots=True)
class Sign:
    """1 where ``operand`` < 0, else 0; |operand| < 2^bits."""

    operand: Polynomial
    bits: int


@dataclass(frozen=True, slots=True)
class Function:
    """A named function in its units, of x = operand * scale, |operand| < 2^bits."""

    name: str
    operand: Polynomial
    scale: Fraction
    bits: int


@dataclass(frozen=True, slots=True)
class Weighted:
    """The sum of operands times numbers that are shared, not public: one per operand."""

    operands: tuple[Polynomial, ...]
    weights: Shares = field(repr=False)


Definition: TypeAlias = "Plane | Sign | Function | Weighted"


class Symbols:
    """The factors of one owner's rows; the first are its planes."""

    def __init__(self, planes: tuple[Plane, ...]) -> None:
        self.planes = planes
        self.definitions: list[Definition] = list(planes)
        self._places = {plane: place for place, plane in enumerate(planes)}
        self._functions: dict[object, Polynomial] = {}
        self._levels: dict[str, list[Plane]] = {}
        for plane in planes:
            if plane.kind == LEVEL:
                self._levels.setdefault(plane.column, []).append(plane)

    def flags(self, column: str) -> frozenset[str]:
        """What holds where a column is present; nothing more than a real row where it is declared complete."""
        return REAL | {column} if Plane(PRESENT, column) in self._places else REAL

    def codes(self, column: str) -> Polynomial:
        """A column's codes, 0 where missing."""
        if column in self._levels:
            return sum((self._factor(plane) * plane.code for plane in self._levels[column]), start=Polynomial({}))
        return self._factor(Plane(CODES, column), indicator=False)

    def equal(self, column: str, code: int, top: int) -> Polynomial | None:
        """1 where a column's code is this one; None where that takes comparisons."""
        if column in self._levels:
            others = [self._factor(plane) for plane in self._levels[column]]
            if code == 0:
                return 1 - sum(others, start=Polynomial({}))
            return others[code - 1] if 0 < code <= top else Polynomial({})
        if top == 1:
            codes = self.codes(column)
            return codes if code == 1 else 1 - codes if code == 0 else Polynomial({})
        return None

    def defined(self, definition: Definition, *, indicator: bool = False) -> Polynomial:
        """A new factor."""
        self.definitions.append(definition)
        return Polynomial.of(Factor(len(self.definitions) - 1, indicator=indicator))

    def less(self, operand: Polynomial, low: int, high: int) -> Polynomial:
        """1 where an operand between ``low`` and ``high`` is below 0."""
        if low >= 0 or high < 0:
            return Polynomial.lifted(int(high < 0))
        bits = max(abs(low), abs(high)).bit_length()
        if bits > 62:
            raise CapabilityError(f"rows are compared up to 62 bits, not {bits}; coarsen the columns' steps", code="too_wide")
        return self.defined(Sign(operand, bits), indicator=True)

    def function(self, function: Function) -> Polynomial:
        """A function of an operand; the same factor wherever both are the same."""
        key = (function.name, frozenset(function.operand.terms.items()), function.scale)
        if key not in self._functions:
            self._functions[key] = self.defined(function)
        return self._functions[key]

    def _factor(self, plane: Plane, *, indicator: bool = True) -> Polynomial:
        level_of = plane.column if plane.kind == LEVEL else ""
        return Polynomial.of(Factor(self._places[plane], self.flags(plane.column), indicator, level_of))


def row_values(
    circuit: Circuit,
    wanted: tuple[int, ...],
    symbols: Symbols,
    public: Mapping[int, npt.NDArray[Any]],
    shared: Mapping[int, Shares],
) -> dict[int, Polynomials]:
    """The polynomials of row nodes.

    Args:
        wanted: places of row nodes. public: integers of nodes without rows that depend on no data.
        shared: shares, in the wide ring, of nodes without rows that do.

    Raises:
        CapabilityError: an operation that servers do not compute on rows.
    """
    evaluation = _Symbolic(circuit, symbols, public, shared)
    # in the circuit's order, so that every server numbers factors alike
    for place in sorted(circuit.needed(wanted, stop=frozenset((*public, *shared)))):
        if circuit.nodes[place].rows:
            evaluation.value(place)
    return {place: evaluation.value(place) for place in wanted}


class _Symbolic(RowValues[Polynomial]):
    def __init__(self, circuit: Circuit, symbols: Symbols, public: Mapping[int, npt.NDArray[Any]], shared: Mapping[int, Shares]) -> None:
        super().__init__(circuit, Polynomial({}), public)
        self.symbols, self.shared = symbols, shared

    def other(self, node: Node) -> Polynomials:
        match node.op:
            case Op.COLUMN:
                return single(self.symbols.codes(node.name))
            case Op.PRESENT:
                return single(Polynomial({Term((), self.symbols.flags(node.name)): 1}))
            case Op.ONES:
                return single(Polynomial({Term((), REAL): 1}))
            case Op.EQUAL | Op.LESS:
                return self._compared(node)
            case Op.FUNCTION if node.name in UNITS:
                return self._function(node, node.name)
        raise CapabilityError(
            f"this query needs {node.op.value!r} of rows, which is not computed on shared rows; use entry='totals'", code="not_on_rows"
        )

    def product(self, node: Node) -> Polynomials:
        shared = [arg for arg in node.args if arg in self.shared]
        if not shared:
            return super().product(node)
        weights = self.shared[shared[0]]
        values = next(self.value(arg) for arg in node.args if arg not in self.shared)
        if node.op is Op.MATMUL and values.ndim == weights.own.ndim == 1:
            return single(self.symbols.defined(Weighted(tuple(map(Polynomial.lifted, values)), weights)))
        raise CapabilityError(
            "on shared rows numbers of rows are combined with protected numbers as vector @ vector only", code="not_on_rows"
        )

    def _compared(self, node: Node) -> Polynomials:
        nodes = [self.circuit.nodes[arg] for arg in node.args]
        sides = [np.broadcast_to(self.value(arg), node.shape).reshape(-1) for arg in node.args]
        bounds = [_bounds(side, node.shape) for side in nodes]
        result = [self._compare(node.op, nodes, *sides_and_bounds) for sides_and_bounds in zip(*sides, *bounds, strict=True)]
        return objects_of(result, node.shape)

    def _compare(self, op: Op, nodes: list[Node], a: Any, b: Any, a_bounds: tuple[int, int], b_bounds: tuple[int, int]) -> Polynomial:
        """One comparison, of operands on their own scales."""
        scales = [side.scale for side in nodes]
        assert scales[0] is not None and scales[1] is not None
        common = Fraction(1, scales[0].denominator * scales[1].denominator)
        left, right = (int(scale / common) for scale in (scales[0], scales[1]))
        low, high = left * a_bounds[0] - right * b_bounds[1], left * a_bounds[1] - right * b_bounds[0]
        if op is Op.EQUAL and nodes[0].op is Op.COLUMN and nodes[1].op is Op.CONSTANT and a_bounds[0] == 0:
            if right * int(b) % left:
                return Polynomial({})
            found = self.symbols.equal(nodes[0].name, right * int(b) // left, a_bounds[1])
            if found is not None:
                return found
        difference = Polynomial.lifted(left * a - right * b)
        if op is Op.LESS:
            return self.symbols.less(difference, low, high)
        return self.symbols.less(difference - 1, low - 1, high - 1) - self.symbols.less(difference, low, high)

    def _function(self, node: Node, name: str) -> Polynomials:
        operand = self.circuit.nodes[node.args[0]]
        assert operand.scale is not None and operand.bits is not None and node.scale is not None
        units = UNITS[name] / node.scale
        if units.denominator != 1:
            raise CapabilityError(
                f"on shared rows {name} is computed in multiples of {UNITS[name]}, and the step declares coarser ones", code="not_on_rows"
            )
        values = self.value(node.args[0]).reshape(-1)
        results = [self.symbols.function(Function(name, Polynomial.lifted(x), operand.scale, operand.bits)) * int(units) for x in values]
        return objects_of(results, node.shape)


def _bounds(node: Node, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    assert node.bounds is not None
    dense = node.bounds.dense(node.shape)
    return [
        (int(low), int(high))
        for low, high in zip(*(np.broadcast_to(side, shape).reshape(-1) for side in (dense.lower, dense.upper)), strict=True)
    ]
