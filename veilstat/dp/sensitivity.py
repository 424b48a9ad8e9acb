"""Sensitivity: how far one row, or one owner, can move what is opened, from the circuit and the schema's bounds alone.

A total over rows is a sum of outer products a(row) b(row)', so a row that is added or removed moves it by exactly
|a| |b| in the Euclidean norm. The norms' suprema are bounded through the row-level part of the circuit; where a value
depends on one column through comparisons alone (levels, bins), it is evaluated at every point where it can change.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from veilstat.language.circuit import Circuit, Node, Op
from veilstat.language.cut import Cut, Opening
from veilstat.language.errors import CapabilityError
from veilstat.language.evaluate import evaluate_rows

_COMPARISONS = (Op.EQUAL, Op.LESS)
_MOST_VALUES = 1 << 24


@dataclass(frozen=True, slots=True)
class Block:
    """Numbers that are opened together and get noise of one size.

    Args:
        size: how many. squared_sensitivity: the most that adding or removing one unit's data moves them, as the square
            of an L2 norm of integers.
    """

    size: int
    squared_sensitivity: int


def row_blocks(cut: Cut) -> tuple[Block, ...]:
    """One block for each node of the cut, for one row that is added or removed; their bounds hold jointly.

    Raises:
        CapabilityError: something other than a total over rows is opened.
    """
    return tuple(_block(cut.circuit, opening) for opening in cut.openings)


def owner_blocks(cut: Cut, most_rows: int) -> tuple[Block, ...]:
    """The same for all ``most_rows`` rows of one owner: each norm is at most ``most_rows`` times a row's."""
    return tuple(Block(block.size, block.squared_sensitivity * most_rows**2) for block in row_blocks(cut))


def _block(circuit: Circuit, opening: Opening) -> Block:
    node = circuit.nodes[opening.node]
    if node.op is not Op.INNER or any(circuit.nodes[place].op in (Op.PUBLIC, Op.LOCAL) for place in circuit.needed((opening.node,))):
        raise CapabilityError(
            f"{circuit.express(opening.node, {})!r} is no total over rows with a known sensitivity, so noise cannot be calibrated for it",
            code="no_sensitivity",
        )
    assert node.scale is not None
    first, second = (circuit.nodes[arg] for arg in node.args)
    whole = _squared_norm(circuit, node.args[0]) * _squared_norm(circuit, node.args[1]) / node.scale**2
    squares = np.multiply.outer(_squares(first), _squares(second)).reshape(-1)
    opened = sum(int(squares[element]) for element in opening.elements)
    return Block(len(opening.elements), min(int(whole), opened))


def _squared_norm(circuit: Circuit, place: int) -> Fraction:
    """An upper bound on a row value's squared Euclidean norm, over all rows that the schema allows."""
    node = circuit.nodes[place]
    assert node.scale is not None
    bounds = [node.scale**2 * int(_squares(node).sum())]
    match node.op:
        case Op.CONCATENATE:
            bounds.append(sum((_squared_norm(circuit, arg) for arg in node.args), Fraction(0)))
        case Op.MULTIPLY:
            bounds += [_scaled_norm(circuit, node, *node.args), _scaled_norm(circuit, node, *reversed(node.args))]
        case Op.INDEX if len(set(np.frombuffer(_bytes(node), dtype=np.int64).tolist())) == node.size:
            bounds.append(_squared_norm(circuit, node.args[0]))
    changes = _changes(circuit, place)
    if changes is not None:
        bounds.append(_evaluated_norm(circuit, place, *changes))
    return min(bounds)


def _scaled_norm(circuit: Circuit, product: Node, factor: int, flag: int) -> Fraction:
    """Of an elementwise product: the norm of one factor times the largest magnitude of the other."""
    node = circuit.nodes[flag]
    assert node.scale is not None
    if circuit.nodes[factor].size != product.size:
        return product.size * _squared_norm(circuit, factor) * _squared_norm(circuit, flag)
    return _squared_norm(circuit, factor) * node.scale**2 * int(_squares(node).max(initial=0))


def _changes(circuit: Circuit, place: int) -> tuple[str, list[int]] | None:
    """The only column that a value depends on, and codes that show all its values; None where that is not known."""
    nodes = circuit.nodes
    below = circuit.needed((place,))
    names = {str(nodes[index].attributes["name"]) for index in below if nodes[index].op in (Op.COLUMN, Op.PRESENT)}
    codes = {0}
    for index in below:
        for argument in (nodes[arg] for arg in nodes[index].args):
            if argument.op is Op.COLUMN:
                others = [nodes[arg] for arg in nodes[index].args if nodes[arg].op is Op.CONSTANT]
                if nodes[index].op not in _COMPARISONS or not others:
                    return None
                codes |= _around(others[0], argument)
    if len(names) != 1 or nodes[place].op is Op.COLUMN or len(codes) * nodes[place].size > _MOST_VALUES:
        return None
    return names.pop(), sorted(codes)


def _around(constants: Node, column: Node) -> set[int]:
    """Codes on both sides of every constant that a column is compared with."""
    data, scale, bounds = constants.attributes["data"], constants.scale, column.bounds
    assert isinstance(data, tuple) and scale is not None and bounds is not None
    near = {int(value * scale // 1) + offset for value in data for offset in (-1, 0, 1)}
    return {code for code in near | {bounds.low, bounds.high} if bounds.low <= code <= bounds.high}


def _evaluated_norm(circuit: Circuit, place: int, name: str, codes: list[int]) -> Fraction:
    node = circuit.nodes[place]
    points = np.array([0, *codes], dtype=np.int64)
    present = np.arange(len(points)) > 0
    values = evaluate_rows(circuit, place, {name: (points, present)}, len(points)).reshape(len(points), -1)
    assert node.scale is not None
    return node.scale**2 * max(sum(int(value) ** 2 for value in row if value) for row in values)


def _squares(node: Node) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
    """The largest square of each element."""
    assert node.bounds is not None
    bounds = node.bounds.dense(node.shape)
    pairs = zip(bounds.lower.reshape(-1), bounds.upper.reshape(-1), strict=True)
    return np.array([max(int(low) ** 2, int(high) ** 2) for low, high in pairs], dtype=object)


def _bytes(node: Node) -> bytes:
    flat = node.attributes["flat"]
    assert isinstance(flat, bytes)
    return flat
