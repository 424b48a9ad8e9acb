"""A query as it travels: the name of a statistic and its parameters, never code."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import Field, asdict, fields
from typing import Any

from veilstat.dp.mechanism import Gaussian
from veilstat.errors import SchemaError
from veilstat.statistics.interface import Statistic

_LONGEST_QUERY = 1 << 16


def encode_query(statistic: Statistic[Any], privacy: Gaussian | None = None) -> bytes:
    """Canonical JSON of a statistic and the privacy that is promised: equal queries, equal bytes."""
    parameters = {entry.name: _plain(getattr(statistic, entry.name)) for entry in parameters_of(statistic)}
    plain = {"statistic": statistic.name, "parameters": parameters, **({} if privacy is None else {"privacy": asdict(privacy)})}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    encoded = text.encode()
    if len(encoded) > _LONGEST_QUERY:
        raise SchemaError(
            f"the query has {len(encoded):,} bytes, at most {_LONGEST_QUERY:,} are possible; ask for less at once", code="query_too_long"
        )
    return encoded


def decode_query(encoded: bytes, registry: Mapping[str, type[Statistic[Any]]]) -> tuple[Statistic[Any], Gaussian | None]:
    """The statistic and the privacy that ``encode_query`` wrote.

    Raises:
        SchemaError: malformed, an unknown statistic, or parameters that do not fit. CapabilityError: no promise that can be kept.
    """
    try:
        plain = json.loads(encoded)
        name, parameters, promise = str(plain["statistic"]), dict(plain["parameters"]), plain.get("privacy")
        privacy = None if promise is None else Gaussian(**promise)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise SchemaError("the query could not be read; install the same version on both sides", code="bad_query") from None
    return build(name, parameters, registry), privacy


def parameters_of(statistic: Statistic[Any] | type[Statistic[Any]]) -> tuple[Field[Any], ...]:
    """What a statistic is asked with: the fields of its dataclass."""
    return fields(statistic)  # type: ignore[arg-type]  # the registry refuses what is no dataclass; a Protocol cannot


def build(name: str, parameters: Mapping[str, Any], registry: Mapping[str, type[Statistic[Any]]]) -> Statistic[Any]:
    """A statistic by name; SchemaError where the name or a parameter is unknown."""
    if name not in registry:
        raise SchemaError(f"there is no statistic {name!r}; there are: {', '.join(sorted(registry))}", code="unknown_statistic")
    known = {entry.name for entry in parameters_of(registry[name])}
    unknown = sorted(set(parameters) - known)
    if unknown:
        raise SchemaError(f"{name} has no option {unknown[0]!r}; it has: {', '.join(sorted(known))}", code="unknown_option")
    try:
        return registry[name](**parameters)
    except TypeError:
        raise SchemaError(f"{name} needs more than it was given; it takes: {', '.join(sorted(known))}", code="missing_option") from None


def parse_query(text: str, registry: Mapping[str, type[Statistic[Any]]]) -> Statistic[Any]:
    """A query as a person writes it: ``mean("age")``, ``groupby("sex").mean("bp")``. Parsed, never evaluated.

    Raises:
        SchemaError: it is no call of a statistic with plain values.
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        node = ast.Constant(value=None)
    match node:
        case ast.Call(func=ast.Name(id=name)):
            return build(name, _arguments(node, name, registry), registry)
        case ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Name(id="groupby"), args=[ast.Constant(value=str(by))]), attr="mean")):
            return build("mean_by", {**_arguments(node, "mean_by", registry), "by": by}, registry)
    raise SchemaError(f'a query looks like mean("age") or linear_regression("y ~ x"); {text!r} does not', code="bad_query")


def _arguments(call: ast.Call, name: str, registry: Mapping[str, type[Statistic[Any]]]) -> dict[str, Any]:
    names = [entry.name for entry in parameters_of(registry[name])] if name in registry else []
    try:
        values = {names[place]: ast.literal_eval(argument) for place, argument in enumerate(call.args)}
        return values | {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (ValueError, IndexError, TypeError, SyntaxError):
        if name not in registry:
            return {}
        raise SchemaError(f"the arguments of {name} are text, numbers and lists: {', '.join(names)}", code="bad_query") from None


def describe_query(statistic: Statistic[Any]) -> str:
    """A query as a person would write it: ``mean('age')``."""
    parts = []
    for place, entry in enumerate(parameters_of(statistic)):
        value = getattr(statistic, entry.name)
        if value != entry.default:
            text = repr(_plain(value)) if not (isinstance(value, tuple) and len(value) == 1) else repr(value[0])
            parts.append(text if place == 0 else f"{entry.name}={text}")
    return f"{statistic.name}({', '.join(parts)})"


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(entry) for entry in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise SchemaError(f"a query is made of text, numbers and lists, not of {type(value).__name__}", code="bad_parameter")
