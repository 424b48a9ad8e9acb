"""Tracing: ordinary Python arithmetic on ``Value`` objects writes a circuit.

A contribution and a combine are plain functions in this vocabulary. They run once, on symbols, when a plan is
made; what they wrote is then computed by numpy on an owner's rows, by servers on shares, or by a cloud on
ciphertexts. A protected value has no truth value: ``if value:`` is refused, since a branch would reveal it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, NoReturn, TypeAlias

import numpy as np

from veilstat.errors import CapabilityError
from veilstat.schema.schema import Schema

from .bounds import Interval, common_scale, summed_products
from .circuit import ROW_INPUTS, Attribute, Circuit, Node, Op, Output

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
        return _linear(Op.ADD, self, self.trace.value(other))

    def __radd__(self, other: Operand) -> Value:
        return self.trace.value(other) + self

    def __sub__(self, other: Operand) -> Value:
        return _linear(Op.SUBTRACT, self, self.trace.value(other))

    def __rsub__(self, other: Operand) -> Value:
        return self.trace.value(other) - self

    def __neg__(self) -> Value:
        return self * -1

    def __mul__(self, other: Operand) -> Value:
        return _product(self, self.trace.value(other))

    __rmul__ = __mul__

    def __truediv__(self, other: Operand) -> Value:
        divisor = self.trace.value(other)
        return self.trace.add_node(Op.DIVIDE, (self, divisor), {}, _broadcast(self, divisor))

    def __rtruediv__(self, other: Operand) -> Value:
        return self.trace.value(other) / self

    def __matmul__(self, other: Operand) -> Value:
        """The matrix product within each row, or of totals: shapes (..., m) and (m, ...)."""
        return _matrix_product(self, self.trace.value(other))

    def __rmatmul__(self, other: Operand) -> Value:
        return self.trace.value(other) @ self

    def __getitem__(self, key: Any) -> Value:
        return self.take(np.asarray(self._places[key]))

    @property
    def T(self) -> Value:
        """The transposed matrix."""
        return self.take(self._places.T)

    @property
    def _places(self) -> np.ndarray[Any, Any]:
        return np.arange(self.node.size, dtype=np.int64).reshape(self.shape)

    def take(self, places: np.ndarray[Any, Any]) -> Value:
        """The elements at flat ``places``, in the shape of ``places``."""
        node, flat = self.node, places.reshape(-1).astype(np.int64)
        if places.shape == node.shape and np.array_equal(flat, np.arange(node.size)):
            return self
        if node.op is Op.INDEX:
            return Value(self.trace, node.args[0]).take(node.places[flat].reshape(places.shape))
        bounds = None if node.bounds is None else node.bounds.take(node.shape, flat, places.shape)
        return self.trace.add_node(Op.INDEX, (self,), {"flat": flat.tobytes()}, places.shape, node.scale, bounds)

    def sum(self) -> Value:
        """The sum of all elements (of each row, where there are rows)."""
        bounds = None if self.node.bounds is None else self.node.bounds.summed(self.shape)
        return self.trace.add_node(Op.SUM, (self,), {}, (), self.node.scale, bounds)

    def inner(self, other: Value) -> Value:
        """The total over all rows and owners of the outer product; shapes (p,) and (q,) give (p, q)."""
        a, b = self.node, other.node
        if not (a.rows and b.rows) or len(a.shape) > 1 or len(b.shape) > 1:
            raise CapabilityError("inner and total are sums over rows, of values with at most one further axis", code="shape")
        assert a.bounds is not None and b.bounds is not None and a.scale is not None and b.scale is not None
        outer = a.bounds.outer(a.shape, b.bounds, b.shape)
        if a is b and a.shape == ():
            outer = outer.clipped_below(0)
        bounds = outer.totalled(self.trace.most_rows)
        total = self.trace.add_node(Op.INNER, (self, other), {}, a.shape + b.shape, a.scale * b.scale, bounds)
        return total.take(np.minimum(total._places, total._places.T)) if a is b else total

    def total(self) -> Value:
        """The total over all rows and owners."""
        return self.trace.ones.inner(self)

    def less(self, other: Operand) -> Value:
        """1 where smaller than ``other``, else 0."""
        return _comparison(Op.LESS, self, self.trace.value(other))

    def equal(self, other: Operand) -> Value:
        """1 where equal to ``other``, else 0."""
        return _comparison(Op.EQUAL, self, self.trace.value(other))

    def select(self, if_one: Operand, if_zero: Operand) -> Value:
        """``if_one`` where this is 1, ``if_zero`` where it is 0."""
        choices = self.trace.value(if_one), self.trace.value(if_zero)
        shape = _broadcast(self, *choices)
        scale, sides = _on_one_lattice(choices)
        bounds = sides[0].joined(sides[1]) if sides else None
        return self.trace.add_node(Op.SELECT, (self, *choices), {}, shape, scale, bounds)

    def apply(self, name: str, scale: Fraction, lower: Fraction, upper: Fraction) -> Value:
        """A named function of each element, rounded to ``scale``, with its range."""
        return self.trace.add_node(Op.FUNCTION, (self,), {"name": name}, self.shape, scale, Interval.between(lower, upper, scale))

    def round(self, scale: Fraction, lower: Fraction, upper: Fraction) -> Value:
        """The nearest multiple of ``scale``, half up; refused at run time outside [lower, upper]."""
        return self.trace.add_node(Op.ROUND, (self,), {}, self.shape, scale, Interval.between(lower, upper, scale))

    def clip(self, lower: int, upper: int) -> Value:
        """Each element, moved to the nearest integer within [lower, upper]; for integers."""
        if self.node.scale != 1 or lower > upper:
            raise CapabilityError("only integers are clipped, to a lower and an upper bound in this order", code="not_integers")
        raised = self._replaced((self - lower).less(0), lower, "lower", np.maximum)
        return raised._replaced((upper - raised).less(0), upper, "upper", np.minimum)

    def _replaced(self, beyond: Value, bound: int, side: str, nearer: Callable[[Any, Any], Any]) -> Value:
        """``bound`` where this lies beyond it; the interval moves as the value does."""
        assert self.node.bounds is not None
        bounds = self.node.bounds.combine(Interval.of(bound, bound), nearer)
        args = (beyond, self.trace.value(bound), self)
        return self.trace.add_node(Op.SELECT, args, {"bound": side}, self.shape, Fraction(1), bounds)

    def solve(self, right: Operand) -> Value:
        """The exact x with ``self @ x = right``."""
        b = self.trace.value(right)
        return self.trace.add_node(Op.SOLVE, (self, b), {}, b.shape)


def stack(*values: Operand) -> Value:
    """One vector from numbers and vectors, in order; at least one of them is a Value."""
    trace = next(value.trace for value in values if isinstance(value, Value))
    parts = [trace.value(value) for value in values]
    flat = tuple(part.take(part._places.reshape(-1)) for part in parts)
    scale, sides = _on_one_lattice(flat)
    bounds = Interval.joint([side.dense(part.shape) for side, part in zip(sides, flat, strict=True)]) if sides else None
    return trace.add_node(Op.CONCATENATE, flat, {}, (sum(part.node.size for part in flat),), scale, bounds)


class Trace:
    """A circuit being written for ``owners`` owners under ``schema``; equal expressions become one node."""

    def __init__(self, schema: Schema, owners: int) -> None:
        self.schema = schema
        self.owners = owners
        self.nodes: list[Node] = []
        self._known: dict[object, int] = {}

    @property
    def most_rows(self) -> int:
        """Of all owners together."""
        return self.schema.max_rows * self.owners

    @property
    def ones(self) -> Value:
        """1 in every row."""
        return self.add_node(Op.ONES, (), {}, (), Fraction(1), Interval.of(1, 1))

    def column(self, name: str) -> Value:
        """A column's codes, from 0 to its top; 0 where missing."""
        return self.add_node(Op.COLUMN, (), {"name": name}, (), Fraction(1), Interval.of(0, self.schema[name].top))

    def present(self, name: str) -> Value:
        """1 where the column is present, else 0."""
        self.schema[name]
        return self.add_node(Op.PRESENT, (), {"name": name}, (), Fraction(1), Interval.of(0, 1))

    def all_present(self, names: Iterable[str]) -> Value:
        """1 where every one of the columns is present: the listwise filter."""
        result = self.ones
        for name in dict.fromkeys(names):
            result = result * self.present(name)
        return result

    def array(self, op: Op, name: str, shape: tuple[int, ...], scale: Fraction, bounds: Interval) -> Value:
        """A named array that is broadcast (PUBLIC) or carried (STATE)."""
        return self.add_node(op, (), {"name": name}, shape, scale, bounds)

    def value(self, operand: Operand) -> Value:
        """A constant from integers or Fractions, or the value itself."""
        if isinstance(operand, Value):
            return operand
        array = np.asarray(operand, dtype=object)
        fractions = [Fraction(element) for element in array.reshape(-1)]
        scale = common_scale(fractions)
        data = tuple(int(element / scale) for element in fractions)
        bounds = np.array(data, dtype=object).reshape(array.shape)
        return self.add_node(Op.CONSTANT, (), {"data": data}, array.shape, scale, Interval(bounds, bounds))

    def iterate(self, body: Circuit, inputs: Mapping[str, Value], times: int) -> Value:
        """The state after repeating ``body`` up to ``times`` times: what it returns of its inputs, flattened in order of
        name, then whether it was done, then how many times it ran.
        """
        names = tuple(sorted(inputs))
        attributes: dict[str, Attribute] = {"body": body, "times": times, "names": " ".join(names)}
        size = sum(body.nodes[body.outputs[name].node].size for name in names if name in body.outputs) + 2
        return self.add_node(Op.ITERATE, tuple(inputs[name] for name in names), attributes, (size,))

    def add_node(
        self,
        op: Op,
        args: tuple[Value, ...],
        attributes: Mapping[str, Attribute],
        shape: tuple[int, ...],
        scale: Fraction | None = None,
        bounds: Interval | None = None,
    ) -> Value:
        """Append a node, or find the equal one that is there; a general rational has neither scale nor bounds."""
        for arg in args:
            if arg.trace is not self:
                raise CapabilityError("a value of one step was used in another; pass it on as a public value", code="foreign_value")
        places = tuple(arg.index for arg in args)
        rows = op in ROW_INPUTS or (op is not Op.INNER and any(arg.node.rows for arg in args))
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
        nodes = tuple(replace(node, args=tuple(place[arg] for arg in node.args)) for node in (self.nodes[old] for old in kept))
        return Circuit(nodes, {name: replace(output, node=place[output.node]) for name, output in outputs.items()})


def _linear(op: Op, a: Value, b: Value) -> Value:
    """The elementwise sum or difference."""
    scale, sides = _on_one_lattice((a, b))
    bounds = sides[0].combine(sides[1], (lambda x, y: x + y) if op is Op.ADD else (lambda x, y: x - y)) if sides else None
    return a.trace.add_node(op, (a, b), {}, _broadcast(a, b), scale, bounds)


def _product(a: Value, b: Value) -> Value:
    """The elementwise product."""
    for one, other in ((a, b), (b, a)):
        if one.node.is_one and (other.node.rows or not one.node.rows):
            return other
    if a.index == b.index and a.node.is_flag:
        return a
    shape = _broadcast(a, b)
    if a.node.scale is None or b.node.scale is None:
        return a.trace.add_node(Op.MULTIPLY, (a, b), {}, shape)
    assert a.node.bounds is not None and b.node.bounds is not None
    bounds = a.node.bounds.combine(b.node.bounds, lambda x, y: x * y)
    if a.index == b.index:
        bounds = bounds.clipped_below(0)
    return a.trace.add_node(Op.MULTIPLY, (a, b), {}, shape, a.node.scale * b.node.scale, bounds)


def _matrix_product(a: Value, b: Value) -> Value:
    if not a.shape or not b.shape or a.shape[-1] != b.shape[0]:
        raise CapabilityError(f"a matrix product of shapes {a.shape} and {b.shape} is not defined", code="shape")
    shape = a.shape[:-1] + b.shape[1:]
    if a.node.bounds is None or b.node.bounds is None or a.node.scale is None or b.node.scale is None:
        return a.trace.add_node(Op.MATMUL, (a, b), {}, shape)
    bounds = summed_products(a.node.bounds, a.shape, b.node.bounds, b.shape)
    return a.trace.add_node(Op.MATMUL, (a, b), {}, shape, a.node.scale * b.node.scale, bounds)


def _comparison(op: Op, a: Value, b: Value) -> Value:
    return a.trace.add_node(op, (a, b), {}, _broadcast(a, b), Fraction(1), Interval.of(0, 1))


def _on_one_lattice(values: Sequence[Value]) -> tuple[Fraction | None, list[Interval]]:
    """The coarsest scale that all values are multiples of, and their bounds on it; None and no bounds where one is a general rational."""
    scales = [value.node.scale for value in values if value.node.scale is not None]
    if len(scales) < len(values):
        return None, []
    scale = common_scale(scales)
    return scale, [value.node.bounds_at(scale) for value in values]


def _broadcast(*values: Value) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*(value.shape for value in values))
    except ValueError:
        shapes = " and ".join(str(value.shape) for value in values)
        raise CapabilityError(f"shapes {shapes} do not fit together", code="shape") from None
