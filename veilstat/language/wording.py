"""Formulas for people: what a node of a circuit is, as plans and refusals say it.

A vector is written by its elements, of which a long one shows the first and the last. Which rows count stands at the end, and
so does "rescaled", in place of the public factors and shifts of a vector's elements. Names of columns and levels come from a
schema that somebody wrote: those that could be read as a formula, or as words of one, are quoted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

from veilstat.schema.quoting import PLAIN, quoted

from .circuit import Circuit, Node, Op

Levels: TypeAlias = "Mapping[str, tuple[str, ...]]"
"""Names of the codes of categorical columns."""

_LONGEST = 72
_LONGEST_PART = 3 * _LONGEST
_MOST_ELEMENTS = 1 << 12
_SHOWN = 4
_CUT = "…"
_MISSING = "(missing)"
"""No name of a column."""
_WORDS = frozenset({"number", "of", "rows", "with", "and", "each", "level", "where", "missing", "complete", "rescaled", "noise"})
"""Those of the sentences below that a column could be called; "sum" and "clipped" never stand alone."""
_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_TERMS = re.compile(rf"(=?)({_QUOTED}|{PLAIN})")
_BELOW = re.compile(r"(.+) < ([^'\"]+)")


@dataclass(frozen=True, slots=True)
class _Phrase:
    """A formula.

    Args:
        elements: of a vector whose elements are known one by one, else empty; then ``text`` is the whole.
        present: columns that must be present for a row to count. counts: whether each element is 1 or 0 in a row.
        rescaled: whether public factors or shifts were left out. others: whether rows that lack a value are told apart.
    """

    text: str
    elements: tuple[str, ...] = ()
    present: tuple[str, ...] = ()
    counts: bool = False
    rescaled: bool = False
    others: bool = False


def express(circuit: Circuit, place: int, levels: Levels, chosen: Sequence[int] = ()) -> str:
    """A node as a short formula.

    Args:
        levels: names of the codes of categorical columns. chosen: flat places of the elements that are meant; all where empty.
    """
    known: dict[int, _Phrase] = {}
    for below in sorted(circuit.needed((place,))):
        known[below] = _shortened(_composed(circuit, below, levels, [known[arg] for arg in circuit.nodes[below].args], known))
    phrase = known[place]
    if chosen and circuit.nodes[place].op is Op.INNER:
        phrase = _part_of_total(circuit, place, chosen, known)
    text = phrase.text if len(phrase.text) <= _LONGEST else phrase.text[: _LONGEST - 1] + _CUT
    said = {term for level, term in _TERMS.findall(text) if phrase.counts and not level}
    named = [name for name in phrase.present if name != text.removeprefix("Σ ") and name not in said]
    if named:
        condition = "complete rows" if len(named) > 2 else "rows with " + " and ".join(named)
        text = f"number of {condition}" if text == "number of rows" else f"{text}, {condition}"
    return text + (", and where missing" if phrase.others else "") + (", rescaled" if phrase.rescaled else "")


def written(name: str) -> str:
    """A column's name as formulas have it: quoted where it could be taken for something else."""
    return name if name.isidentifier() and "·" not in name and name not in _WORDS else repr(name)


def is_cut_short(formula: str) -> bool:
    """Whether a formula was too long to be written to its end."""
    return f"{_CUT}," in f"{formula},"


def _shortened(phrase: _Phrase) -> _Phrase:
    return replace(phrase, text=phrase.text[:_LONGEST_PART], elements=tuple(part[:_LONGEST_PART] for part in phrase.elements))


def _composed(circuit: Circuit, place: int, levels: Levels, args: list[_Phrase], known: dict[int, _Phrase]) -> _Phrase:
    node = circuit.nodes[place]
    sources = [circuit.nodes[arg] for arg in node.args]
    match node.op:
        case Op.COLUMN | Op.PUBLIC | Op.STATE:
            return _Phrase(written(node.name))
        case Op.PRESENT:
            return _Phrase("1", present=(written(node.name),), counts=True)
        case Op.ONES:
            return _Phrase("1", counts=True)
        case Op.CONSTANT:
            return _constant(node)
        case Op.INNER:
            return _inner(node, args[0], args[1], True)
        case Op.INDEX if sources[0].op is Op.INNER:
            return _part_of_total(circuit, node.args[0], node.places.tolist(), known)
        case Op.INDEX:
            return _taken(args[0], sources[0], node.places.tolist())
        case Op.CONCATENATE:
            return _listed(args, [part for arg, source in zip(args, sources, strict=True) for part in _elements(arg, source)])
        case Op.EQUAL if sources[0].op is Op.COLUMN and sources[1].op is Op.CONSTANT:
            return _levels(sources[1], args[0].text, levels.get(sources[0].name, ()))
        case Op.ADD | Op.SUBTRACT | Op.MULTIPLY | Op.LESS | Op.EQUAL | Op.DIVIDE:
            return _elementwise(node, sources, args)
        case Op.MATMUL:
            factors = [_bracketed(arg.text) for arg in args if arg.text != "1"]
            return _joined(args, "·".join(factors) or "1")
        case Op.SELECT if "bound" in node.attributes:
            return args[2] if args[2].text.startswith("clipped(") else _joined(args, f"clipped({args[2].text})")
        case Op.SUM:
            return _joined(args, f"sum of {args[0].text}")
        case Op.FUNCTION:
            return _joined(args, f"{node.name}({args[0].text})")
    return _joined(args, f"{node.op}({', '.join(arg.text for arg in args)})")


def _joined(args: Sequence[_Phrase], text: str, elements: tuple[str, ...] = ()) -> _Phrase:
    present = tuple(dict.fromkeys(name for arg in args for name in arg.present))
    rescaled, others = any(arg.rescaled for arg in args), any(arg.others for arg in args)
    return _Phrase(text, elements, present, rescaled=rescaled, others=others)


def _listed(args: Sequence[_Phrase], elements: Sequence[str]) -> _Phrase:
    """A vector by its elements; what is the same as the one before is said once."""
    shown = [part for place, part in enumerate(elements) if part != _MISSING and (place == 0 or part != elements[place - 1])]
    if len(shown) > _SHOWN:
        shown = [*shown[: _SHOWN - 2], f"… {shown[-1]}"]
    text = shown[0] if len(shown) == 1 else f"({', '.join(shown)})"
    return replace(
        _joined(args, text, tuple(elements)),
        counts=all(arg.counts for arg in args),
        others=_MISSING in elements or any(arg.others for arg in args),
    )


def _elements(phrase: _Phrase, node: Node) -> tuple[str, ...]:
    """One text for each element; the same for all where they are not known one by one."""
    return phrase.elements or (phrase.text,) * (node.size if node.size <= _MOST_ELEMENTS else 1)


def _taken(phrase: _Phrase, node: Node, places: Sequence[int]) -> _Phrase:
    """The elements at ``places``."""
    if len(phrase.elements) != node.size or list(places) == list(range(node.size)):
        return phrase
    elements = [phrase.elements[place] for place in places]
    counts = phrase.counts or set(elements) == {"1"}
    return _listed([replace(phrase, counts=counts, others=False)], elements)


def _elementwise(node: Node, sources: Sequence[Node], args: Sequence[_Phrase]) -> _Phrase:
    """Of numbers and vectors. Public factors and shifts of a vector's elements are left out, and factors that are not whole."""
    for own, source in ((args[0], sources[1]), (args[1], sources[0])):
        if source.op is Op.CONSTANT and _only_rescales(node, source):
            return replace(own, rescaled=True)
    squares = node.op is Op.MULTIPLY and node.args[0] == node.args[1]
    write = (lambda first, _: f"{_bracketed(first)}²") if squares else _WRITTEN[node.op]
    columns = [arg.elements if source.size > 1 else (arg.text,) * node.size for arg, source in zip(args, sources, strict=True)]
    if not any(arg.elements for arg in args) or any(len(column) != node.size for column in columns):
        result = _joined(args, write(args[0].text, args[1].text))
    else:
        result = _listed(args, [write(a, b) for a, b in zip(*columns, strict=True)])
        if node.op is Op.MULTIPLY and not all(arg.counts for arg in args):
            result = replace(result, text=write(args[0].text, args[1].text))
    return replace(result, counts=_counts(node.op, args, result.text), others=result.others or result.text == _MISSING)


def _only_rescales(node: Node, constant: Node) -> bool:
    assert constant.scale is not None
    if constant.size > 1:
        return node.op in (Op.ADD, Op.SUBTRACT, Op.MULTIPLY)
    return node.op is Op.MULTIPLY and (constant.scale.denominator != 1 or not node.rows)


def _counts(op: Op, args: Sequence[_Phrase], text: str) -> bool:
    if op in (Op.LESS, Op.EQUAL):
        return True
    return all(arg.counts for arg in args) and (op is Op.MULTIPLY or (op is Op.SUBTRACT and " - " not in text))


def _sum_text(first: str, second: str) -> str:
    if first == second:
        return f"2·{first}"
    return f"{first} - {second[1:]}" if second.startswith("-") and " " not in second else f"{first} + {second}"


def _difference_text(first: str, second: str) -> str:
    if (first, second) == ("1", "1"):
        return _MISSING
    below = _BELOW.fullmatch(second)
    if below and first == "1":
        return f"{below[1]} ≥ {below[2]}"
    if below and first.startswith(f"{below[1]} < "):
        return f"{below[2]} ≤ {first}"
    if second == "0":
        return first
    return f"{first} - ({second})" if " + " in second or " - " in second else f"{first} - {second}"


def _product_text(first: str, second: str) -> str:
    if "1" in (first, second):
        return second if first == "1" else first
    if second.lstrip("-").isdigit():
        first, second = second, first
    return f"{_bracketed(first)}·{_bracketed(second)}"


_WRITTEN: Mapping[Op, Callable[[str, str], str]] = {
    Op.ADD: _sum_text,
    Op.SUBTRACT: _difference_text,
    Op.MULTIPLY: _product_text,
    Op.LESS: lambda first, second: f"{first} < {second}",
    Op.EQUAL: lambda first, second: f"{first} = {second}",
    Op.DIVIDE: lambda first, second: f"{_bracketed(first)} / {_bracketed(second)}",
}


def _inner(node: Node, first: _Phrase, second: _Phrase, is_square: bool) -> _Phrase:
    """A total: a number of rows where rows count or do not, cross-products of a vector with itself, or a sum."""
    args, factors = (first, second), [phrase for phrase in (first, second) if phrase.text != "1"]
    if all(phrase.counts for phrase in args):
        conditions = " and ".join(dict.fromkeys(phrase.text for phrase in factors))
        return replace(_joined(args, f"number of rows with {conditions}" if conditions else "number of rows"), counts=bool(conditions))
    if is_square and node.args[0] == node.args[1]:
        own = _bracketed(first.text)
        return _joined(args, f"cross-products of {own}" if first.elements and len(set(first.elements)) > 1 else f"Σ {own}²")
    levels = [phrase.text for phrase in factors if phrase.text.startswith(_EACH)]
    sums = [_bracketed(phrase.text) for phrase in factors if not phrase.text.startswith(_EACH)]
    return _joined(args, f"Σ {'·'.join(sums)}" + "".join(f" for {level}" for level in levels))


def _part_of_total(circuit: Circuit, place: int, chosen: Sequence[int], known: dict[int, _Phrase]) -> _Phrase:
    """Chosen elements of a total: of the outer product, the rows and columns that hold them."""
    node = circuit.nodes[place]
    first, second = (circuit.nodes[arg] for arg in node.args)
    rows, columns = (sorted(set(places)) for places in zip(*(divmod(element, second.size) for element in chosen), strict=True))
    return _inner(node, _taken(known[node.args[0]], first, rows), _taken(known[node.args[1]], second, columns), rows == columns)


_EACH = "each level of "


def _levels(constant: Node, column: str, names: tuple[str, ...]) -> _Phrase:
    assert constant.scale is not None
    if constant.size > 1:
        return _Phrase(f"{_EACH}{column}", counts=True)
    code = int(constant.data[0] * constant.scale)
    level = names[code] if code < len(names) else str(code)
    return _Phrase(f"{column}={quoted(level)}", counts=True)


def _constant(node: Node) -> _Phrase:
    assert node.scale is not None
    values = [node.scale * value for value in node.data[:_MOST_ELEMENTS]]
    texts = [str(value) if value.denominator == 1 else f"{float(value):g}" for value in values]
    if node.size == 1:
        return _Phrase(texts[0], counts=texts[0] in ("0", "1"))
    elements = tuple(texts) if len(node.shape) == 1 and node.size <= _MOST_ELEMENTS else ()
    return _Phrase(f"({prod(node.shape)} constants)", elements)


def _bracketed(text: str) -> str:
    """A factor of a product: in brackets where it is a sum, a comparison or several words."""
    depth = 0
    for character in re.sub(_QUOTED, "_", text):
        depth += (character == "(") - (character == ")")
        if character == " " and depth == 0:
            return f"({text})"
    return text
