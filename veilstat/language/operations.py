"""Operations in the clear: the value of one node from those of its arguments.

Nodes with a scale are held as integers (the value divided by the scale), int64 where they fit and Python
integers beyond; general rationals are object arrays of Fractions, where nan marks what is undefined. A node with
rows has an array of shape (rows, *shape).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from veilstat.errors import RangeError
from veilstat.schema.encoding import round_half_up

from .circuit import Node, Op

Array: TypeAlias = "npt.NDArray[Any]"

_WORD_BITS = 62


def apply(node: Node, sources: Sequence[Node], values: Sequence[Array]) -> Array:
    """The value of a node whose arguments are ``sources`` with these ``values``; of a CONSTANT too.

    Raises:
        RangeError: a ROUND or FUNCTION left its declared bounds.
    """
    match node.op:
        case Op.CONSTANT:
            return _fit(np.array(node.data, dtype=object).reshape(node.shape), node)
        case Op.INDEX:
            return _taken(node, values[0])
        case Op.FUNCTION:
            assert sources[0].scale is not None
            return _function(node, values[0].astype(np.float64) * float(sources[0].scale))
        case Op.ROUND:
            return _rounded(node, rational(sources[0], values[0]))
        case Op.EQUAL | Op.LESS:
            if None in (sources[0].scale, sources[1].scale) or sources[0].scale != sources[1].scale:
                values = [rational(source, value) for source, value in zip(sources, values, strict=True)]
            a, b = _aligned(node, sources, values)
            return np.asarray(a == b if node.op is Op.EQUAL else a < b).astype(np.int64)
        case Op.SELECT:
            condition, a, b = _aligned(node, sources, [values[0], *_scaled(node, sources[1:], values[1:])])
            return np.asarray(np.where(condition.astype(bool), a, b))
    return _fit(_arithmetic(node, sources, values), node)


def rational(source: Node, value: Array) -> Array:
    """A value as exact rationals."""
    scale = source.scale
    return value if scale is None else _elementwise(lambda element: scale * int(element), value)


def _arithmetic(node: Node, sources: Sequence[Node], values: Sequence[Array]) -> Array:
    if node.op in (Op.MULTIPLY, Op.MATMUL) and node.scale is not None:
        operands = [_wide(value, node) for value in values]
    else:
        operands = _scaled(node, sources, values)
    match node.op:
        case Op.MATMUL:
            return np.asarray(operands[0] @ operands[1])
        case Op.SUM:
            return np.asarray(operands[0].sum(axis=tuple(range(1 if node.rows else 0, operands[0].ndim))))
        case Op.CONCATENATE:
            return _concatenated(node, sources, operands)
    a, b = _aligned(node, sources, operands)
    match node.op:
        case Op.ADD:
            return np.asarray(a + b)
        case Op.SUBTRACT:
            return np.asarray(a - b)
        case Op.MULTIPLY:
            return np.asarray(a * b)
        case Op.DIVIDE:
            return _elementwise(_divided, a, b)
    raise AssertionError(node.op)


def _wide(value: Array, node: Node) -> Array:
    """Python integers where words would not hold the result."""
    return value if value.dtype == object or (node.bits or 0) <= _WORD_BITS else value.astype(object)


def _fit(value: Array, node: Node) -> Array:
    """In words where the node's bounds say that they do; what was opened with noise may lie beyond its bounds."""
    if value.dtype != object or node.bits is None or node.bits > _WORD_BITS:
        return value
    try:
        return value.astype(np.int64)
    except OverflowError:
        return value


def _scaled(node: Node, sources: Sequence[Node], values: Sequence[Array]) -> list[Array]:
    """Values on the scale of the result."""
    if node.scale is None:
        return [rational(source, value) for source, value in zip(sources, values, strict=True)]
    scaled = []
    for source, value in zip(sources, values, strict=True):
        assert source.scale is not None
        factor = int(source.scale / node.scale)
        scaled.append(_wide(value, node) if factor == 1 else _wide(value, node) * factor)
    return scaled


def _aligned(node: Node, sources: Sequence[Node], values: Sequence[Array]) -> list[Array]:
    """With axes of length 1 between the rows and the shape, where a shape is shorter than the result's."""
    return [
        value.reshape(len(value), *([1] * (len(node.shape) - len(source.shape))), *source.shape) if source.rows else value
        for source, value in zip(sources, values, strict=True)
    ]


def _taken(node: Node, value: Array) -> Array:
    if node.rows:
        return np.asarray(value.reshape(len(value), -1)[:, node.places].reshape(len(value), *node.shape))
    return np.asarray(value.reshape(-1)[node.places].reshape(node.shape))


def _concatenated(node: Node, sources: Sequence[Node], values: Sequence[Array]) -> Array:
    if not node.rows:
        return np.concatenate([part.reshape(-1) for part in values])
    count = next(len(part) for part, source in zip(values, sources, strict=True) if source.rows)
    columns = [
        part.reshape(count, -1) if source.rows else np.broadcast_to(part.reshape(1, -1), (count, part.size))
        for part, source in zip(values, sources, strict=True)
    ]
    return np.concatenate(columns, axis=1)


def _elementwise(function: Callable[..., Any], *arrays: Array) -> Array:
    broadcast = np.broadcast_arrays(*arrays)
    result = np.empty(broadcast[0].shape, dtype=object)
    for place in np.ndindex(result.shape):
        result[place] = function(*(array[place] for array in broadcast))
    return result


def _divided(a: Any, b: Any) -> Any:
    return math.nan if b == 0 or b != b else a / b


def _function(node: Node, x: npt.NDArray[np.float64]) -> Array:
    assert node.scale is not None
    with np.errstate(over="ignore", under="ignore"):
        tail = np.exp(-np.abs(x))
        if node.name == "logistic":
            result = np.where(x >= 0, 1.0, tail) / (1.0 + tail)
        else:
            result = np.maximum(x, 0.0) + np.log1p(tail)
    integers = np.rint(result / float(node.scale))
    _require_range(node, integers)
    return integers.astype(np.int64)


def _rounded(node: Node, value: Array) -> Array:
    scale = node.scale
    assert scale is not None
    if any(element != element for element in value.reshape(-1)):
        raise RangeError("an iteration divided by zero: a column is constant, or has no values; leave it out", code="undefined")
    rounded = _elementwise(lambda element: round_half_up(element / scale), value)
    _require_range(node, rounded)
    return _fit(rounded, node)


def _require_range(node: Node, integers: Array) -> None:
    assert node.bounds is not None and node.scale is not None
    if integers.min(initial=0) < min(node.bounds.low, 0) or integers.max(initial=0) > max(node.bounds.high, 0):
        low, high = (float(node.scale * bound) for bound in (node.bounds.low, node.bounds.high))
        raise RangeError(
            f"a value left its declared range, {low:g} to {high:g}: the iteration diverges; use a smaller rate",
            code="diverged",
        )
