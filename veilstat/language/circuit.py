"""The circuit: a statistic as data, a small graph over arrays that is printed, hashed, costed and executed.

A node holds an array of exact rationals. Where ``scale`` is not None every element is an integer multiple of it
and ``bounds`` limits those integers; where it is None the node is a general rational (behind a division), which
only clear evaluation, or a protocol with a declared resolution, can hold. A node with ``rows`` has one such array
for every row of every owner; ``INNER`` sums over rows and owners and is where totals are born.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    LOCAL = "local"  # name: an array that an owner brings instead of rows; summed over owners
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
            state.update(_canonical(node))
        for name, output in sorted(self.outputs.items()):
            state.update(repr((name, output)).encode())
        return state.digest()

    def node_digests(self) -> tuple[bytes, ...]:
        """For each node the digest of the whole expression below it, whatever circuit it stands in."""
        digests: list[bytes] = []
        for node in self.nodes:
            below = b"".join(digests[arg] for arg in node.args)
            digests.append(hashlib.sha256(_canonical(node, with_args=False) + below).digest())
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

    def express(self, place: int, levels: Mapping[str, tuple[str, ...]]) -> str:
        """A node as a short formula, for people; ``levels`` names the codes of categorical columns."""
        phrase = _phrase(self, place, levels, {})
        text = phrase.text if len(phrase.text) <= _LONGEST else phrase.text[: _LONGEST - 1] + "…"
        present = [name for name in phrase.present if name != text.removeprefix("Σ ")]
        if not present:
            return text
        condition = "complete rows" if len(present) > 2 else "rows with " + " and ".join(present)
        return f"number of {condition}" if text == "number of rows" else f"{text}, {condition}"


def _canonical(node: Node, *, with_args: bool = True) -> bytes:
    attributes = tuple((key, value.digest if isinstance(value, Circuit) else value) for key, value in sorted(node.attributes.items()))
    return repr((str(node.op), node.args if with_args else (), attributes, node.shape, node.rows, node.scale)).encode()


_SIGNS = {Op.ADD: " + ", Op.SUBTRACT: " - ", Op.EQUAL: " = ", Op.LESS: " < ", Op.DIVIDE: " / "}
_LONGEST = 48
_LONGEST_PART = 4 * _LONGEST


@dataclass(frozen=True, slots=True)
class _Phrase:
    """A formula, and the columns that must be present for a row to count in it."""

    text: str
    present: tuple[str, ...] = ()


def _phrase(circuit: Circuit, place: int, levels: Mapping[str, tuple[str, ...]], known: dict[int, _Phrase]) -> _Phrase:
    if place not in known:
        phrase = _composed(circuit, place, levels, [_phrase(circuit, arg, levels, known) for arg in circuit.nodes[place].args])
        known[place] = replace(phrase, text=phrase.text[:_LONGEST_PART])
    return known[place]


def _composed(circuit: Circuit, place: int, levels: Mapping[str, tuple[str, ...]], parts: list[_Phrase]) -> _Phrase:
    node = circuit.nodes[place]
    present = tuple(dict.fromkeys(name for part in parts for name in part.present))
    texts = [part.text for part in parts]
    sources = [circuit.nodes[arg] for arg in node.args]
    match node.op:
        case Op.COLUMN | Op.PUBLIC | Op.STATE | Op.LOCAL:
            return _Phrase(node.name)
        case Op.PRESENT:
            return _Phrase("1", (node.name,))
        case Op.ONES:
            return _Phrase("1")
        case Op.CONSTANT:
            return _Phrase(_constant_text(node))
        case Op.INNER:
            return _Phrase(_inner_text(node, texts), present)
        case Op.INDEX:
            return parts[0]
        case Op.EQUAL if sources[0].op is Op.COLUMN and sources[1].op is Op.CONSTANT:
            return _Phrase(_level_text(texts[0], sources[1], levels.get(texts[0], ())))
        case Op.CONCATENATE if len(texts) > 1:
            return _Phrase("(" + ", ".join(_without_brackets(text) for text in texts) + ")", present)
        case Op.MULTIPLY:
            factors = [text for source, text in zip(sources, texts, strict=True) if text != "1" and source.op is not Op.CONSTANT]
            return _Phrase("·".join(map(_bracketed, factors)) if len(factors) > 1 else "".join(factors) or "1", present)
        case Op.MATMUL:
            return _Phrase("·".join(map(_bracketed, texts)), present)
        case Op.SELECT if "bound" in node.attributes:
            return _Phrase(f"{'max' if node.attributes['bound'] == 'lower' else 'min'}({texts[1]}, {texts[2]})", present)
        case Op.ADD if node.args[0] == node.args[1]:
            return _Phrase(f"2·{texts[0]}", present)
        case Op.SUBTRACT if texts == ["1", "1"]:
            return _Phrase("missing", present)
        case Op.ITERATE:
            return _Phrase(f"last iterate of ({', '.join(texts)})")
        case Op.CONCATENATE:
            return parts[0]
        case Op.SUM:
            return _Phrase(f"sum of {texts[0]}", present)
        case Op.FUNCTION:
            return _Phrase(f"{node.name}({texts[0]})", present)
        case _ if node.op in _SIGNS:
            return _Phrase(_SIGNS[node.op].join(texts), present)
    return _Phrase(f"{node.op}({', '.join(texts)})", present)


def _without_brackets(text: str) -> str:
    inner = text[1:-1]
    return inner if text == f"({inner})" and "(" not in inner else text


def _bracketed(text: str) -> str:
    """A factor of a product: in brackets where it is a sum, a comparison or several words."""
    depth = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == " " and depth == 0:
            return f"({text})"
    return text


def _level_text(column: str, constant: Node, names: tuple[str, ...]) -> str:
    assert constant.scale is not None
    if constant.size > 1:
        return f"each level of {column}"
    code = int(constant.data[0] * constant.scale)
    return f"{column}={names[code] if code < len(names) else code}"


def _inner_text(node: Node, texts: list[str]) -> str:
    factors = [_bracketed(text) for text in texts if text != "1"]
    if not factors:
        return "number of rows"
    if len(factors) == 2 and node.args[0] == node.args[1]:
        if node.shape:
            return f"cross-products of {factors[0]}"
        return f"Σ {factors[0]}²"
    return "Σ " + "·".join(factors)


def _constant_text(node: Node) -> str:
    assert node.bounds is not None and node.scale is not None
    if node.size == 1:
        value = node.scale * node.bounds.low
        return str(value) if value.denominator == 1 else f"{float(value):g}"
    return f"({node.size} constants)"
