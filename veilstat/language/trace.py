"""Tracing: ordinary Python arithmetic on ``Value`` objects writes a circuit.

A contribution and a combine are plain functions in this vocabulary. They run once, on symbols, when a plan is
made; what they wrote is then computed by numpy on an owner's rows, by servers on shares, or by a cloud on
ciphertexts. A protected value has no truth value: ``if value:`` is refused, since a branch would reveal it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from math import gcd
from typing import Any, NoReturn, TypeAlias

import numpy as np

from veilstat.errors import CapabilityError
from veilstat.schema.schema import Schema

from .bounds import Interval, objects, summed_products
from .circuit import Attribute, Circuit, Node, Op, Output

Operand: TypeAlias = "Value | int | Fraction | Sequence[Any] | np.ndarray[Any, Any]"


class Value:
    """One node while it is traced; supports ``+ - * @ /``, indexing and the named operations below."""

    __slots__ = ("index", "trace")
    __array_ufunc__ = None

    def __init__(self, trace: Trace, index: int) -> None:
        self.trace, self.index = trace, index

    @property
    def node(self) -> Node:
        return self.trace.nodes[self.index]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.node.shape

    def __bool__(self) -> NoReturn:
        raise CapabilityError("a protected value has no truth value; use less(), equal() and select()", code="protected_bool")

    def __add__(self, other: Operand) -> Value:
        return self.trace.linear(Op.ADD, self, other)

    def __sub__(self, other: Operand) -> Value:
        return self.trace.linear(Op.SUBTRACT, self, other)

    def __mul__(self, other: Operand) -> Value:
        return self.trace.multiply(self, other)

    __rmul__ = __mul__

    def __radd__(self, other: Operand) -> Value:
        return self.trace.value(other) + self

    def __rsub__(self, other: Operand) -> Value:
        return self.trace.value(other) - self

    def __neg__(self) -> Value:
        return self * -1

    def __truediv__(self, other: Operand) -> Value:
        return self.trace.rational(Op.DIVIDE, self, self.trace.value(other))

    def __rtruediv__(self, other: Operand) -> Value:
        return self.trace.rational(Op.DIVIDE, self.trace.value(other), self)

    def __matmul__(self, other: Operand) -> Value:
        return self.trace.matmul(self, self.trace.value(other))

    def __rmatmul__(self, other: Operand) -> Value:
        return self.trace.matmul(self.trace.value(other), self)

    def __getitem__(self, key: Any) -> Value:
        places = np.arange(self.node.size, dtype=np.int64).reshape(self.shape)[key]
        return self.trace.index(self, np.asarray(places))

    @property
    def T(self) -> Value:
        """The transposed matrix."""
        return self.trace.index(self, np.arange(self.node.size).reshape(self.shape).T)

    def sum(self) -> Value:
        """The sum of all elements (of each row, where there are rows)."""
        return self.trace.add_node(Op.SUM, (self,), {}, (), self.node.rows, self.node.scale, _sum_bounds(self.node))

    def inner(self, other: Value) -> Value:
        """The total over all rows and owners of the outer product; shapes (p,) and (q,) give (p, q)."""
        return self.trace.inner(self, other)

    def total(self) -> Value:
        """The total over all rows and owners."""
        return self.trace.inner(self.trace.ones, self)

    def less(self, other: Operand) -> Value:
        """1 where smaller than ``other``, else 0."""
        return self.trace.compare(Op.LESS, self, other)

    def equal(self, other: Operand) -> Value:
        """1 where equal to ``other``, else 0."""
        return self.trace.compare(Op.EQUAL, self, other)

    def select(self, if_one: Operand, if_zero: Operand) -> Value:
        """``if_one`` where this is 1, ``if_zero`` where it is 0."""
        return self.trace.select(self, if_one, if_zero)

    def apply(self, name: str, scale: Fraction, lower: Fraction, upper: Fraction) -> Value:
        """A named function of each element, rounded to ``scale``, with its range."""
        bounds = Interval.of(_floor(lower / scale), -_floor(-upper / scale))
        return self.trace.add_node(Op.FUNCTION, (self,), {"name": name}, self.shape, self.node.rows, scale, bounds)

    def round(self, scale: Fraction, lower: Fraction, upper: Fraction) -> Value:
        """The nearest multiple of ``scale``, half up; refused at run time outside [lower, upper]."""
        bounds = Interval.of(_floor(lower / scale), -_floor(-upper / scale))
        return self.trace.add_node(Op.ROUND, (self,), {}, self.shape, self.node.rows, scale, bounds)

    def clip(self, lower: int, upper: int) -> Value:
        """Each element, moved to the nearest integer within [lower, upper]; for integers."""
        return self.trace.clip(self, lower, upper)

    def solve(self, right: Operand) -> Value:
        """The exact x with ``self @ x = right``."""
        return self.trace.solve(self, right)


def stack(*values: Operand) -> Value:
    """One vector from numbers and vectors, in order; at least one of them is a Value."""
    trace = next(value.trace for value in values if isinstance(value, Value))
    return trace.stack(values)


class Trace:
    """A circuit being written for ``owners`` owners under ``schema``; equal expressions become one node."""

    def __init__(self, schema: Schema, owners: int) -> None:
        self.schema = schema
        self.most_rows = schema.max_rows * owners
        self.owners = owners
        self.nodes: list[Node] = []
        self._known: dict[object, int] = {}

    # inputs

    @property
    def ones(self) -> Value:
        """1 in every row."""
        return self.add_node(Op.ONES, (), {}, (), True, Fraction(1), Interval.of(1, 1))

    def column(self, name: str) -> Value:
        """A column's codes, from 0 to its top; 0 where missing."""
        return self.add_node(Op.COLUMN, (), {"name": name}, (), True, Fraction(1), Interval.of(0, self.schema[name].top))

    def present(self, name: str) -> Value:
        """1 where the column is present, else 0."""
        self.schema[name]
        return self.add_node(Op.PRESENT, (), {"name": name}, (), True, Fraction(1), Interval.of(0, 1))

    def all_present(self, names: Iterable[str]) -> Value:
        """1 where every one of the columns is present: the listwise filter."""
        result = self.ones
        for name in dict.fromkeys(names):
            result = result * self.present(name)
        return result

    def array(self, op: Op, name: str, shape: tuple[int, ...], scale: Fraction, bounds: Interval) -> Value:
        """A named array that is broadcast (PUBLIC), carried (STATE) or brought by each owner (LOCAL; bounds of the sum)."""
        return self.add_node(op, (), {"name": name}, shape, False, scale, bounds)

    def value(self, operand: Operand) -> Value:
        """A constant from integers or Fractions, or the value itself."""
        if isinstance(operand, Value):
            return operand
        array = np.asarray(operand, dtype=object)
        fractions = [Fraction(element) for element in array.reshape(-1)]
        scale = _common_scale(fractions)
        data = tuple(int(element / scale) for element in fractions)
        bounds = objects(np.array(data, dtype=object).reshape(array.shape)) if data else objects(np.zeros(array.shape, dtype=object))
        return self.add_node(Op.CONSTANT, (), {"data": data}, array.shape, False, scale, Interval(bounds, bounds))

    # operations

    def linear(self, op: Op, first: Operand, second: Operand) -> Value:
        """Elementwise sum or difference."""
        a, b = self.value(first), self.value(second)
        shape = _broadcast(a, b)
        if a.node.scale is None or b.node.scale is None:
            return self.rational(op, a, b)
        scale = _gcd(a.node.scale, b.node.scale)
        left, right = _rescaled(a.node, scale), _rescaled(b.node, scale)
        bounds = left.combine(right, (lambda x, y: x + y) if op is Op.ADD else (lambda x, y: x - y))
        return self.add_node(op, (a, b), {}, shape, a.node.rows or b.node.rows, scale, bounds)

    def multiply(self, first: Operand, second: Operand) -> Value:
        """Elementwise product."""
        a, b = self.value(first), self.value(second)
        for one, other in ((a, b), (b, a)):
            if _is_one(one.node) and (other.node.rows or not one.node.rows):
                return other
        if a.index == b.index and _is_flag(a.node):
            return a
        shape = _broadcast(a, b)
        if a.node.scale is None or b.node.scale is None:
            return self.rational(Op.MULTIPLY, a, b)
        assert a.node.bounds is not None and b.node.bounds is not None
        bounds = a.node.bounds.combine(b.node.bounds, lambda x, y: x * y)
        if a.index == b.index:
            bounds = bounds.clipped_below(0)
        return self.add_node(Op.MULTIPLY, (a, b), {}, shape, a.node.rows or b.node.rows, a.node.scale * b.node.scale, bounds)

    def matmul(self, a: Value, b: Value) -> Value:
        """Matrix product within each row, or of totals: shapes (..., m) and (m, ...)."""
        if not a.shape or not b.shape or a.shape[-1] != b.shape[0]:
            raise CapabilityError(f"a matrix product of shapes {a.shape} and {b.shape} is not defined", code="shape")
        shape = a.shape[:-1] + b.shape[1:]
        rows = a.node.rows or b.node.rows
        if a.node.bounds is None or b.node.bounds is None or a.node.scale is None or b.node.scale is None:
            return self.add_node(Op.MATMUL, (a, b), {}, shape, rows, None, None)
        bounds = summed_products(a.node.bounds, a.shape, b.node.bounds, b.shape)
        return self.add_node(Op.MATMUL, (a, b), {}, shape, rows, a.node.scale * b.node.scale, bounds)

    def inner(self, a: Value, b: Value) -> Value:
        """The total over rows of the outer product."""
        if not (a.node.rows and b.node.rows) or len(a.shape) > 1 or len(b.shape) > 1:
            raise CapabilityError("inner and total are sums over rows, of values with at most one further axis", code="shape")
        assert a.node.bounds is not None and b.node.bounds is not None and a.node.scale is not None and b.node.scale is not None
        left, right = a.node.bounds.dense(a.shape), b.node.bounds.dense(b.shape)
        outer = Interval(*(side.reshape(a.shape + (1,) * len(b.shape)) for side in (left.lower, left.upper))).combine(
            right, lambda x, y: x * y
        )
        if a.index == b.index and a.shape == ():
            outer = outer.clipped_below(0)
        total = self.add_node(Op.INNER, (a, b), {}, a.shape + b.shape, False, a.node.scale * b.node.scale, outer.totalled(self.most_rows))
        if a.index == b.index and a.shape:
            places = np.arange(total.node.size).reshape(total.shape)
            return self.index(total, np.minimum(places, places.T))
        return total

    def index(self, value: Value, places: np.ndarray[Any, Any]) -> Value:
        """The elements of ``value`` at flat ``places``, in the shape of ``places``."""
        node, flat = value.node, places.reshape(-1).astype(np.int64)
        if places.shape == node.shape and np.array_equal(flat, np.arange(node.size)):
            return value
        if node.op is Op.INDEX:
            return self.index(Value(self, node.args[0]), node.places[flat].reshape(places.shape))
        bounds = None if node.bounds is None else node.bounds.take(node.shape, flat, places.shape)
        return self.add_node(Op.INDEX, (value,), {"flat": flat.tobytes()}, places.shape, node.rows, node.scale, bounds)

    def stack(self, values: Sequence[Operand]) -> Value:
        """One vector from numbers and vectors, in order."""
        parts = [self.value(value) for value in values]
        rows = any(part.node.rows for part in parts)
        flat = [self.index(part, np.arange(part.node.size).reshape(-1)) for part in parts]
        shape = (sum(part.node.size for part in flat),)
        if any(part.node.scale is None for part in flat):
            return self.add_node(Op.CONCATENATE, tuple(flat), {}, shape, rows, None, None)
        scale = Fraction(0)
        for part in flat:
            assert part.node.scale is not None
            scale = _gcd(scale, part.node.scale)
        sides = [_rescaled(part.node, scale).dense(part.shape) for part in flat]
        bounds = Interval(np.concatenate([side.lower for side in sides]), np.concatenate([side.upper for side in sides]))
        return self.add_node(Op.CONCATENATE, tuple(flat), {}, shape, rows, scale, bounds)

    def compare(self, op: Op, first: Operand, second: Operand) -> Value:
        """1 or 0, elementwise."""
        a, b = self.value(first), self.value(second)
        return self.add_node(op, (a, b), {}, _broadcast(a, b), a.node.rows or b.node.rows, Fraction(1), Interval.of(0, 1))

    def select(self, condition: Value, if_one: Operand, if_zero: Operand) -> Value:
        """Elementwise choice."""
        a, b = self.value(if_one), self.value(if_zero)
        shape = np.broadcast_shapes(condition.shape, a.shape, b.shape)
        rows = condition.node.rows or a.node.rows or b.node.rows
        if a.node.scale is None or b.node.scale is None:
            return self.add_node(Op.SELECT, (condition, a, b), {}, shape, rows, None, None)
        scale = _gcd(a.node.scale, b.node.scale)
        bounds = _rescaled(a.node, scale).joined(_rescaled(b.node, scale))
        return self.add_node(Op.SELECT, (condition, a, b), {}, shape, rows, scale, bounds)

    def clip(self, value: Value, lower: int, upper: int) -> Value:
        """The nearest integers within [lower, upper], whose bounds are known to be those."""
        if value.node.scale != 1 or lower > upper:
            raise CapabilityError("only integers are clipped, to a lower and an upper bound in this order", code="not_integers")
        raised = self._replaced((value - lower).less(0), lower, value, np.maximum)
        return self._replaced((upper - raised).less(0), upper, raised, np.minimum)

    def _replaced(self, beyond: Value, bound: int, value: Value, nearer: Callable[[Any, Any], Any]) -> Value:
        """``bound`` where a value lies beyond it; the interval moves as the value does."""
        assert value.node.bounds is not None
        bounds = value.node.bounds.combine(Interval.of(bound, bound), nearer)
        attributes = {"bound": "lower" if nearer is np.maximum else "upper"}
        return self.add_node(Op.SELECT, (beyond, self.value(bound), value), attributes, value.shape, value.node.rows, Fraction(1), bounds)

    def rational(self, op: Op, *args: Value) -> Value:
        """An operation whose result is a general rational."""
        shape = np.broadcast_shapes(*(arg.shape for arg in args))
        return self.add_node(op, args, {}, shape, any(arg.node.rows for arg in args), None, None)

    def solve(self, matrix: Value, right: Operand) -> Value:
        """The exact x with matrix x = right."""
        b = self.value(right)
        return self.add_node(Op.SOLVE, (matrix, b), {}, b.shape, False, None, None)

    def iterate(self, body: Circuit, inputs: Mapping[str, Value], times: int) -> Value:
        """The state after repeating ``body`` up to ``times`` times: what it returns of its inputs, flattened in order of
        name, then whether it was done, then how many times it ran.
        """
        names = tuple(sorted(inputs))
        attributes: dict[str, Attribute] = {"body": body, "times": times, "names": " ".join(names)}
        size = sum(body.nodes[body.outputs[name].node].size for name in names if name in body.outputs) + 2
        return self.add_node(Op.ITERATE, tuple(inputs[name] for name in names), attributes, (size,), False, None, None)

    def add_node(
        self,
        op: Op,
        args: tuple[Value, ...],
        attributes: Mapping[str, Attribute],
        shape: tuple[int, ...],
        rows: bool,
        scale: Fraction | None,
        bounds: Interval | None,
    ) -> Value:
        """Append a node, or find the equal one that is there."""
        for arg in args:
            if arg.trace is not self:
                raise CapabilityError("a value of one step was used in another; pass it on as a public value", code="foreign_value")
        places = tuple(arg.index for arg in args)
        plain = tuple((key, id(value) if isinstance(value, Circuit) else value) for key, value in sorted(attributes.items()))
        key = (op, places, plain, shape, rows, scale)
        if key not in self._known:
            self._known[key] = len(self.nodes)
            self.nodes.append(Node(op, places, dict(attributes), shape, rows, scale, None if bounds is None else bounds.compact(shape)))
        return Value(self, self._known[key])

    def finish(self, outputs: Mapping[str, Output]) -> Circuit:
        """The circuit, with only the nodes that the outputs need."""
        whole = Circuit(tuple(self.nodes), outputs)
        kept = sorted(whole.needed(tuple(output.node for output in outputs.values())))
        place = {old: new for new, old in enumerate(kept)}
        nodes = tuple(
            Node(n.op, tuple(place[arg] for arg in n.args), n.attributes, n.shape, n.rows, n.scale, n.bounds)
            for n in (self.nodes[old] for old in kept)
        )
        return Circuit(nodes, {name: replace(o, node=place[o.node]) for name, o in outputs.items()})


def _broadcast(a: Value, b: Value) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise CapabilityError(f"shapes {a.shape} and {b.shape} do not fit together", code="shape") from None


def _is_one(node: Node) -> bool:
    return node.op is Op.ONES or (node.op is Op.CONSTANT and node.shape == () and node.scale == 1 and node.data == (1,))


def _is_flag(node: Node) -> bool:
    return node.scale == 1 and node.bounds is not None and node.bounds.low >= 0 and node.bounds.high <= 1


def _rescaled(node: Node, scale: Fraction) -> Interval:
    assert node.bounds is not None and node.scale is not None
    factor = node.scale / scale
    return node.bounds if factor == 1 else node.bounds.scaled(int(factor))


def _sum_bounds(node: Node) -> Interval | None:
    if node.bounds is None:
        return None
    dense = node.bounds.dense(node.shape)
    return Interval.of(int(dense.lower.sum()), int(dense.upper.sum()))


def _common_scale(fractions: Sequence[Fraction]) -> Fraction:
    scale = Fraction(0)
    for fraction in fractions:
        scale = _gcd(scale, fraction)
    return scale or Fraction(1)


def _gcd(a: Fraction, b: Fraction) -> Fraction:
    denominator = a.denominator * b.denominator // gcd(a.denominator, b.denominator)
    return Fraction(gcd(int(a * denominator), int(b * denominator)), denominator)


def _floor(value: Fraction) -> int:
    return value.numerator // value.denominator
