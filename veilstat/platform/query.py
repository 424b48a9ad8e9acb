"""A query as it travels: the name of a statistic and its parameters, never code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from veilstat.language.errors import SchemaError
from veilstat.language.step import Statistic

LONGEST_QUERY = 1 << 16


def encode_query(statistic: Statistic[Any]) -> bytes:
    """Canonical JSON of a statistic: equal queries, equal bytes."""
    parameters = {entry.name: _plain(getattr(statistic, entry.name)) for entry in fields(statistic)}  # type: ignore[arg-type]
    text = json.dumps(
        {"statistic": statistic.name, "parameters": parameters}, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    encoded = text.encode()
    if len(encoded) > LONGEST_QUERY:
        raise SchemaError(f"the query has {len(encoded):,} bytes, at most {LONGEST_QUERY:,} are possible", code="query_too_long")
    return encoded


def decode_query(encoded: bytes, registry: Mapping[str, type[Statistic[Any]]]) -> Statistic[Any]:
    """The statistic that ``encode_query`` wrote.

    Raises:
        SchemaError: malformed, an unknown statistic, or parameters that do not fit.
    """
    try:
        plain = json.loads(encoded)
        name, parameters = plain["statistic"], dict(plain["parameters"])
    except (ValueError, KeyError, TypeError):
        raise SchemaError("the query could not be read", code="bad_query") from None
    return build(name, parameters, registry)


def build(name: str, parameters: Mapping[str, Any], registry: Mapping[str, type[Statistic[Any]]]) -> Statistic[Any]:
    """A statistic by name; SchemaError where the name or a parameter is unknown."""
    if name not in registry:
        raise SchemaError(f"there is no statistic {name!r}; there are: {', '.join(sorted(registry))}", code="unknown_statistic")
    known = {entry.name for entry in fields(registry[name])}  # type: ignore[arg-type]
    unknown = sorted(set(parameters) - known)
    if unknown:
        raise SchemaError(f"{name} has no option {unknown[0]!r}; it has: {', '.join(sorted(known))}", code="unknown_option")
    try:
        return registry[name](**parameters)
    except TypeError:
        raise SchemaError(f"{name} needs more than it was given; it takes: {', '.join(sorted(known))}", code="missing_option") from None


def describe_query(statistic: Statistic[Any]) -> str:
    """A query as a person would write it: ``mean('age')``."""
    parts = []
    for place, entry in enumerate(fields(statistic)):  # type: ignore[arg-type]
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
