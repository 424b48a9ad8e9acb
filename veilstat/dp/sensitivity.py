"""Sensitivity: how far one row, or one owner, can move what is opened, from the circuit and the schema's bounds alone.

A total over rows is a sum of outer products a(row) b(row)', so a row that is added or removed moves it by exactly
|a| |b| in the Euclidean norm. The norms' suprema are bounded through the row-level part of the circuit; where a value
depends on few columns through comparisons and presence alone (levels, bins), it is evaluated at every point where it
can change. A row that is replaced moves it by the distance of two such products.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import prod

import numpy as np

from veilstat.errors import CapabilityError
from veilstat.language.circuit import Circuit, Node, Op
from veilstat.language.cut import Cut, Opening
from veilstat.language.evaluate import evaluate_rows
from veilstat.language.wording import express

ADD_REMOVE, REPLACE_ONE = "add_remove", "replace_one"
NEIGHBOURS = (ADD_REMOVE, REPLACE_ONE)
_COMPARISONS = (Op.EQUAL, Op.LESS)
_MOST_VALUES = 1 << 24
_MOST_COMBINATIONS = 1 << 12
"""Of codes of several columns, at which a value is evaluated."""


@dataclass(frozen=True, slots=True)
class Block:
    """Numbers that are opened together and get noise of one size.

    Args:
        size: how many. squared_sensitivity: the most that one unit's data moves them between neighbouring tables, as the
            square of an L2 norm of integers. steps: for each number an integer that it, and so its noise, is a multiple of;
            empty where that is 1 for all.
    """

    size: int
    squared_sensitivity: int
    steps: tuple[int, ...] = ()

    @property
    def coarsest(self) -> int:
        """The largest step."""
        return max(self.steps, default=1)


@dataclass(frozen=True, slots=True)
class _Reach:
    """Squared norms: the largest of one row's part of a total, and the largest distance between two rows' parts."""

    moved: int
    apart: int


def row_blocks(cut: Cut, neighbours: str = ADD_REMOVE) -> tuple[Block, ...]:
    """One block for each node of the cut, for one row; their bounds hold jointly.

    Args:
        neighbours: "add_remove": one table has a row more; "replace_one": one row differs.

    Raises:
        CapabilityError: something other than a total over rows is opened.
    """
    reaches = [_reach(cut.circuit, opening) for opening in cut.openings]
    squares = [reach.moved if neighbours == ADD_REMOVE else reach.apart for reach in reaches]
    return tuple(Block(len(opening.elements), square) for opening, square in zip(cut.openings, squares, strict=True))


def owner_blocks(cut: Cut, most_rows: int, neighbours: str = ADD_REMOVE) -> tuple[Block, ...]:
    """The same for all rows of one owner, at most ``most_rows``: each norm is at most ``most_rows`` times a row's.

    An owner whose table is replaced may have more or fewer rows than before: each is replaced, added or removed.
    """
    reaches = [_reach(cut.circuit, opening) for opening in cut.openings]
    squares = [reach.moved if neighbours == ADD_REMOVE else max(reach.moved, reach.apart) for reach in reaches]
    return tuple(Block(len(opening.elements), square * most_rows**2) for opening, square in zip(cut.openings, squares, strict=True))


def _reach(circuit: Circuit, opening: Opening) -> _Reach:
    node = circuit.nodes[opening.node]
    if node.op is not Op.INNER:
        raise CapabilityError(
            f"{express(circuit, opening.node, {})!r} is no total over rows with a known sensitivity, so noise cannot be calibrated for it",
            code="no_sensitivity",
        )
    assert node.scale is not None
    lower, upper = _element_bounds(circuit, opening)
    whole = int(_squared_norm(circuit, node.args[0]) * _squared_norm(circuit, node.args[1]) / node.scale**2)
    moved = min(whole, sum(max(low**2, high**2) for low, high in zip(lower, upper, strict=True)))
    apart = [4 * moved, sum((high - low) ** 2 for low, high in zip(lower, upper, strict=True))]
    if min(lower) >= 0 or all(_is_nonnegative(circuit, arg) for arg in node.args):
        apart.append(2 * moved)  # |f - g|^2 = |f|^2 + |g|^2 - 2 f'g, and f'g >= 0
    if _is_triangle(node, opening):
        apart.append(whole)
    return _Reach(moved, min(apart))


def _is_triangle(node: Node, opening: Opening) -> bool:
    """Whether the elements are of x x', each pair of factors at most once.

    Two such triangles are at most |x|^2 apart: their squared distance is (|x|^4 + |z|^4 - 2 (x'z)^2 + sum (x_i^2 - z_i^2)^2) / 2,
    which is convex in the squares, and largest where all of them are.
    """
    width = prod(node.shape[1:])
    pairs = {tuple(sorted(divmod(element, width))) for element in opening.elements}
    return node.args[0] == node.args[1] and len(pairs) == len(opening.elements)


def _element_bounds(circuit: Circuit, opening: Opening) -> tuple[list[int], list[int]]:
    """The least and the largest that one row adds to each opened element."""
    node = circuit.nodes[opening.node]
    first, second = (circuit.nodes[arg] for arg in node.args)
    assert first.bounds is not None and second.bounds is not None
    lower, upper = (side.reshape(-1) for side in first.bounds.outer(first.shape, second.bounds, second.shape).sides)
    if node.args[0] == node.args[1]:
        squares = slice(None, None, first.size + 1)
        lower[squares] = np.maximum(lower[squares], 0)
    places = list(opening.elements)
    return lower[places].tolist(), upper[places].tolist()


def _squared_norm(circuit: Circuit, place: int) -> Fraction:
    """An upper bound on a row value's squared Euclidean norm, over all rows that the schema allows."""
    node = circuit.nodes[place]
    assert node.scale is not None
    bounds = [node.scale**2 * int(_squares(node).sum())]
    match node.op:
        case Op.CONCATENATE:
            bounds.append(_stacked_norm(circuit, node.args))
        case Op.MULTIPLY:
            bounds += [_scaled_norm(circuit, node, *node.args), _scaled_norm(circuit, node, *reversed(node.args))]
        case Op.INDEX if len(set(node.places.tolist())) == node.size:
            bounds.append(_squared_norm(circuit, node.args[0]))
    values = _all_values(circuit, place)
    if values is not None:
        bounds.append(node.scale**2 * int((values**2).sum(axis=1).max()))
    return min(bounds)


def _stacked_norm(circuit: Circuit, parts: tuple[int, ...]) -> Fraction:
    """Of values one after the other; a flag of 0 or 1 and one less that flag are 1 together."""
    total, alone = Fraction(0), [_source(circuit, part) for part in parts]
    for place in tuple(alone):
        flag = _complement(circuit, place)
        if flag in alone and place in alone:
            alone.remove(place)
            alone.remove(flag)
            total += 1
    return sum((_squared_norm(circuit, place) for place in alone), total)


def _source(circuit: Circuit, place: int) -> int:
    """The number that a vector of one element holds, else the value itself."""
    node = circuit.nodes[place]
    return node.args[0] if node.op is Op.INDEX and circuit.nodes[node.args[0]].shape == () else place


def _complement(circuit: Circuit, place: int) -> int | None:
    """The flag f of a value 1 - f; None where it is none."""
    node = circuit.nodes[place]
    if node.op is not Op.SUBTRACT or node.shape != ():
        return None
    one, flag = (circuit.nodes[arg] for arg in node.args)
    return node.args[1] if one.is_one and flag.is_flag else None


def _is_nonnegative(circuit: Circuit, place: int) -> bool:
    bounds, values = circuit.nodes[place].bounds, _all_values(circuit, place)
    return (bounds is not None and bounds.low >= 0) or (values is not None and bool((values >= 0).all()))


def _scaled_norm(circuit: Circuit, product: Node, factor: int, flag: int) -> Fraction:
    """Of an elementwise product: the norm of one factor times the largest magnitude of the other."""
    node = circuit.nodes[flag]
    assert node.scale is not None
    if circuit.nodes[factor].size != product.size:
        return product.size * _squared_norm(circuit, factor) * _squared_norm(circuit, flag)
    return _squared_norm(circuit, factor) * node.scale**2 * int(_squares(node).max(initial=0))


def _changes(circuit: Circuit, place: int) -> dict[str, list[int]] | None:
    """The columns that a value depends on, with codes that show all its values; None where that is not known."""
    nodes = circuit.nodes
    below = circuit.needed((place,))
    codes = {nodes[index].name: {0} for index in below if nodes[index].op in (Op.COLUMN, Op.PRESENT)}
    for index in below:
        if nodes[index].op is Op.PUBLIC:
            return None
        for argument in (nodes[arg] for arg in nodes[index].args):
            if argument.op is Op.COLUMN:
                others = [nodes[arg] for arg in nodes[index].args if nodes[arg].op is Op.CONSTANT]
                if nodes[index].op not in _COMPARISONS or not others:
                    return None
                codes[argument.name] |= _around(others[0], argument)
    points = prod(len(values) + 1 for values in codes.values())
    if not codes or nodes[place].op is Op.COLUMN or points * nodes[place].size > _MOST_VALUES:
        return None
    if len(codes) > 1 and points > _MOST_COMBINATIONS:
        return None
    return {name: sorted(values) for name, values in codes.items()}


def _around(constants: Node, column: Node) -> set[int]:
    """Codes on both sides of every constant that a column is compared with."""
    scale, bounds = constants.scale, column.bounds
    assert scale is not None and bounds is not None
    near = {int(value * scale // 1) + offset for value in constants.data for offset in (-1, 0, 1)}
    return {code for code in near | {bounds.low, bounds.high} if bounds.low <= code <= bounds.high}


def _all_values(circuit: Circuit, place: int) -> np.ndarray[tuple[int, int], np.dtype[np.object_]] | None:
    """A value at every combination of codes that may change it, each column missing in turn: (points, elements), or None."""
    codes = _changes(circuit, place)
    if codes is None:
        return None
    choices = np.meshgrid(*(np.arange(len(values) + 1) for values in codes.values()), indexing="ij")
    block = {
        name: (np.array([0, *values], dtype=np.int64)[choice.reshape(-1)], choice.reshape(-1) > 0)
        for (name, values), choice in zip(codes.items(), choices, strict=True)
    }
    count = choices[0].size
    return evaluate_rows(circuit, place, block, count).reshape(count, -1).astype(object)


def _squares(node: Node) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
    """The largest square of each element."""
    assert node.bounds is not None
    pairs = zip(*(side.reshape(-1) for side in node.bounds.dense(node.shape).sides), strict=True)
    return np.array([max(int(low) ** 2, int(high) ** 2) for low, high in pairs], dtype=object)
