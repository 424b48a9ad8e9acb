"""What the files of a deployment's processes (TOML) have in common: which keys there are, and their values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from veilstat.errors import SchemaError


def check_keys(where: str, plain: Mapping[str, Any], needed: tuple[str, ...], optional: tuple[str, ...]) -> None:
    """Refuse a key that is not among these, and a needed one that is missing or is no text: SchemaError.

    Args:
        where: the file, and the table in it if it has several.
    """
    unknown = sorted(set(plain) - {*needed, *optional})
    if unknown:
        raise SchemaError(f"{where}: unknown key {unknown[0]!r}; there are {', '.join((*needed, *optional))}", code="unknown_key")
    for key in needed:
        if not isinstance(plain.get(key), str):
            raise SchemaError(f"{where}: {key} is missing, or is no text", code="missing_key")


def whole_number(where: str, plain: Mapping[str, Any], key: str, default: int, least: int, most: int) -> int:
    """The value of a key, or its default; SchemaError if it is no whole number from ``least`` to ``most``."""
    value = plain.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise SchemaError(f"{where}: {key} is a whole number from {least} to {most}", code="bad_value")
    return value


def seconds(where: str, plain: Mapping[str, Any], key: str, default: float) -> float:
    """The value of a key, or its default; SchemaError if it is no number above 0."""
    value = plain.get(key, default)
    if not isinstance(value, int | float | Decimal) or isinstance(value, bool) or not 0 < float(value) < math.inf:
        raise SchemaError(f"{where}: {key} is a number of seconds, above 0", code="bad_value")
    return float(value)


def beside(path: Path, plain: Mapping[str, Any], key: str) -> Path | None:
    """The path under a key, which is relative to the file; None where the key is missing."""
    return path.parent / str(plain[key]) if key in plain else None
