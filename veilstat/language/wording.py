"""Formulas: a node of a circuit in words that a person reads in a plan or an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .circuit import Circuit, Node, Op

_SIGNS = {Op.ADD: " + ", Op.SUBTRACT: " - ", Op.EQUAL: " = ", Op.LESS: " < ", Op.DIVIDE: " / "}
_LONGEST = 48
_LONGEST_PART = 4 * _LONGEST

Levels = Mapping[str, tuple[str, ...]]
"""Names of the codes of categorical columns."""


def express(circuit: Circuit, place: int, levels: Levels) -> str:
    """A node as a short formula."""
    phrases: dict[int, _Phrase] = {}
    for below in sorted(circuit.needed((place,))):
        phrases[below] = _phrase(circuit, circuit.nodes[below], [phrases[arg] for arg in circuit.nodes[below].args], levels)
    whole = phrases[place].text
    text = whole if len(whole) <= _LONGEST else whole[: _LONGEST - 1] + "…"
    present = [name for name in phrases[place].present if name != text.removeprefix("Σ ")]
    if not present:
        return text
    condition = "complete rows" if len(present) > 2 else "rows with " + " and ".join(present)
    return f"number of {condition}" if text == "number of rows" else f"{text}, {condition}"


@dataclass(frozen=True, slots=True)
class _Phrase:
    """A formula, and the columns that must be present for a row to count in it."""

    text: str
    present: tuple[str, ...]


def _phrase(circuit: Circuit, node: Node, parts: list[_Phrase], levels: Levels) -> _Phrase:
    text = _text(node, [circuit.nodes[arg] for arg in node.args], [part.text for part in parts], levels)[:_LONGEST_PART]
    match node.op:
        case Op.PRESENT:
            return _Phrase(text, (node.name,))
        case Op.ITERATE:
            return _Phrase(text, ())
    return _Phrase(text, tuple(dict.fromkeys(name for part in parts for name in part.present)))


def _text(node: Node, sources: list[Node], texts: list[str], levels: Levels) -> str:
    match node.op:
        case Op.COLUMN | Op.PUBLIC | Op.STATE:
            return node.name
        case Op.PRESENT | Op.ONES:
            return "1"
        case Op.CONSTANT:
            return _constant_text(node)
        case Op.INNER:
            return _inner_text(node, texts)
        case Op.INDEX | Op.CONCATENATE if len(texts) == 1:
            return texts[0]
        case Op.CONCATENATE:
            return "(" + ", ".join(_without_brackets(text) for text in texts) + ")"
        case Op.EQUAL if sources[0].op is Op.COLUMN and sources[1].op is Op.CONSTANT:
            return _level_text(texts[0], sources[1], levels.get(texts[0], ()))
        case Op.MULTIPLY:
            factors = [text for source, text in zip(sources, texts, strict=True) if text != "1" and source.op is not Op.CONSTANT]
            return "·".join(map(_bracketed, factors)) if len(factors) > 1 else "".join(factors) or "1"
        case Op.MATMUL:
            return "·".join(map(_bracketed, texts))
        case Op.SELECT if "bound" in node.attributes:
            return f"{'max' if node.attributes['bound'] == 'lower' else 'min'}({texts[1]}, {texts[2]})"
        case Op.ADD if node.args[0] == node.args[1]:
            return f"2·{texts[0]}"
        case Op.SUBTRACT if texts == ["1", "1"]:
            return "missing"
        case Op.ITERATE:
            return f"last iterate of ({', '.join(texts)})"
        case Op.SUM:
            return f"sum of {texts[0]}"
        case Op.FUNCTION:
            return f"{node.name}({texts[0]})"
        case _ if node.op in _SIGNS:
            return _SIGNS[node.op].join(texts)
    return f"{node.op}({', '.join(texts)})"


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
        return f"cross-products of {factors[0]}" if node.shape else f"Σ {factors[0]}²"
    return "Σ " + "·".join(factors)


def _constant_text(node: Node) -> str:
    assert node.scale is not None
    if node.size == 1:
        value = node.scale * node.data[0]
        return str(value) if value.denominator == 1 else f"{float(value):g}"
    return f"({node.size} constants)"
