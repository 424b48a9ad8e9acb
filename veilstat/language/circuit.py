"""The circuit: a statistic as data, a small graph over arrays that is printed, hashed, costed and executed.

A node holds an array of exact rationals. Where ``scale`` is not None every element is an integer multiple of it
and ``bounds`` limits those integers; where it is None the node is a general rational (behind a division), which
only clear evaluation, or a protocol with a declared resolution, can hold. A node with ``rows`` has one such array
for every row of every owner; ``INNER`` sums over rows and owners and is where totals are born.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .bounds import Interval

Shape: TypeAlias = "tuple[int, ...]"
Attribute: TypeAlias = "str | int | bytes | Fraction | tuple[int, ...] | Circuit"


class Op(StrEnum):
    """Every operation; arguments are nodes, the rest is in ``Node.attributes``."""

    COLUMN = "column"  # name: an owner's codes, 0 where missing
    PRESENT = "present"  # name: 1 where the column is present, else 0
    ONES = "ones"  # 1 in every row
    PUBLIC = "public"  # name: an array that is broadcast when the step runs
    STATE = "state"  # name: what an ITERATE body receives from the round before
    CONSTANT = "constant"  # data: integers, known before anything runs
    ADD = "add"
    SUBTRACT = "subtract"
    MULTIPLY = "multiply"  # elementwise
    MATMUL = "matmul"
    SUM = "sum"  # over all elements
    INDEX = "index"  # flat: which elements of the argument, in which order
    CONCATENATE = "concatenate"  # of vectors
    INNER = "inner"  # sum over all rows of the outer product of two row values: the totals
    EQUAL = "equal"  # 1 or 0
    LESS = "less"  # 1 or 0
    SELECT = "select"  # condition, if 1, if 0; bound: where this clips, which bound, for people
    FUNCTION = "function"  # name: logistic or softplus, rounded per element to the node's scale
    DIVIDE = "divide"  # exact; undefined (nan) where the divisor is 0
    SOLVE = "solve"  # A x = B, exact
    ROUND = "round"  # to the node's scale, half up; refused outside the node's bounds
    ITERATE = "iterate"  # body: repeat on the state until done or `times`, then hold it; inputs that it does not return stay


ROW_INPUTS = frozenset({Op.COLUMN, Op.PRESENT, Op.ONES})
"""Operations that give every row a value."""

LINEAR = frozenset({Op.ADD, Op.SUBTRACT, Op.SUM, Op.INDEX, Op.CONCATENATE})
"""Operations that are linear in all their arguments together."""

PRODUCTS = frozenset({Op.MULTIPLY, Op.MATMUL, Op.INNER})
"""Operations that are linear in each argument by itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation; ``shape`` leaves out the rows axis."""

    op: Op
    args: tuple[int, ...]
    attributes: Mapping[str, Attribute]
    shape: Shape
    rows: bool
    scale: Fraction | None
    bounds: Interval | None

    @property
    def size(self) -> int:
        """Elements per row, or in all where there are no rows."""
        count = 1
        for extent in self.shape:
            count *= extent
        return count

    @property
    def name(self) -> str:
        """What the node is called: a column, an input, or a function."""
        return str(self.attributes["name"])

    @property
    def data(self) -> tuple[int, ...]:
        """The integers of a CONSTANT, in flat order."""
        data = self.attributes["data"]
        assert isinstance(data, tuple)
        return data

    @property
    def places(self) -> npt.NDArray[np.int64]:
        """Which elements of its argument an INDEX takes, in flat order."""
        flat = self.attributes["flat"]
        assert isinstance(flat, bytes)
        return np.frombuffer(flat, dtype=np.int64)

    @property
    def loop(self) -> Loop | None:
        """What an ITERATE repeats; None for every other operation."""
        body, times = self.attributes.get("body"), self.attributes.get("times")
        if not isinstance(body, Circuit):
            return None
        assert isinstance(times, int)
        return Loop(body, times, tuple(str(self.attributes["names"]).split()))

    @property
    def bits(self) -> int | None:
        """Bits of the integers in this node, sign included; None where it holds general rationals."""
        return None if self.bounds is None else self.bounds.magnitude_bits

    @property
    def is_one(self) -> bool:
        """Whether this is the number 1, here or in every row."""
        return self.op is Op.ONES or (self.op is Op.CONSTANT and self.shape == () and self.scale == 1 and self.data == (1,))

    @property
    def is_flag(self) -> bool:
        """Whether every element is 0 or 1."""
        return self.scale == 1 and self.bounds is not None and self.bounds.low >= 0 and self.bounds.high <= 1

    def bounds_at(self, scale: Fraction) -> Interval:
        """Bounds of the integers on a finer lattice."""
        assert self.bounds is not None and self.scale is not None
        return self.bounds if scale == self.scale else self.bounds.scaled(int(self.scale / scale))


@dataclass(frozen=True, slots=True)
class Loop:
    """A body, how often it may run, and the names of its inputs in the order of the node's arguments."""

    body: Circuit
    times: int
    names: tuple[str, ...]

    @property
    def carried(self) -> tuple[str, ...]:
        """The inputs that the body returns; the others stay as they are."""
        return tuple(name for name in self.names if name in self.body.outputs)


@dataclass(frozen=True, slots=True)
class Output:
    """What a step gives back under a name.

    ``resolution``: when a protocol still protects a non-integer value here, it opens the nearest multiple of this;
    ``rooted``: or that of its signed square root, rounded towards zero, which tells less of the value than itself would.
    ``determined``: given only if it follows from what is opened anyway; never opened for its own sake.
    ``guarded``: nothing below it may be opened in its place.
    """

    node: int
    resolution: Fraction | None = None
    rooted: bool = False
    determined: bool = False
    guarded: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Circuit:
    """Nodes in order of computation, and named outputs."""

    nodes: tuple[Node, ...]
    outputs: Mapping[str, Output]

    @property
    def digest(self) -> bytes:
        """SHA-256 over operations, attributes, shapes, scales and outputs: equal circuits, equal digests."""
        state = hashlib.sha256(b"veilstat/circuit/1")
        for node in self.nodes:
            state.update(_canonical(node, node.args))
        for name, output in sorted(self.outputs.items()):
            state.update(repr((name, output)).encode())
        return state.digest()

    def node_digests(self) -> tuple[bytes, ...]:
        """For each node the digest of the whole expression below it, whatever circuit it stands in."""
        digests: list[bytes] = []
        for node in self.nodes:
            below = b"".join(digests[arg] for arg in node.args)
            digests.append(hashlib.sha256(_canonical(node, ()) + below).digest())
        return tuple(digests)

    def needed(self, roots: tuple[int, ...], stop: frozenset[int] = frozenset()) -> frozenset[int]:
        """All nodes that ``roots`` depend on, not looking below ``stop``."""
        seen: set[int] = set()
        stack = list(roots)
        while stack:
            place = stack.pop()
            if place not in seen:
                seen.add(place)
                if place not in stop:
                    stack.extend(self.nodes[place].args)
        return frozenset(seen)

    def contains(self, op: Op, roots: tuple[int, ...]) -> bool:
        """Whether anything that ``roots`` depend on is such an operation."""
        return any(self.nodes[place].op is op for place in self.needed(roots))


def _canonical(node: Node, args: tuple[int, ...]) -> bytes:
    attributes = tuple((key, value.digest if isinstance(value, Circuit) else value) for key, value in sorted(node.attributes.items()))
    return repr((str(node.op), args, attributes, node.shape, node.rows, node.scale)).encode()
