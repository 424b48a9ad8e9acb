"""A schema's columns as the plain values that TOML holds, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar

from veilstat.errors import SchemaError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def toml_number(value: Fraction) -> int | Decimal | str:
    """A number as TOML holds it exactly; text such as "1/3" where no decimal does."""
    decimal = Decimal(value.numerator) / Decimal(value.denominator)
    return int(value) if value.denominator == 1 else decimal if Fraction(decimal) == value else str(value)


def column_from_dict(plain: Mapping[str, Any], kinds: Mapping[str, type[T]]) -> T:
    """The column that ``to_dict`` wrote.

    Raises:
        SchemaError: an unknown kind or key.
    """
    if not isinstance(plain, Mapping):
        raise SchemaError("a column of a schema must be a table such as {kind = 'binary', name = 'smoker'}", code="bad_schema")
    rest = dict(plain)
    kind = rest.pop("kind", None)
    if not isinstance(kind, str) or kind not in kinds:
        raise SchemaError(f"unknown kind of column {kind!r}; there are: {', '.join(sorted(kinds))}", code="unknown_kind")
    known = {entry.name for entry in fields(kinds[kind])}
    unknown = sorted(set(rest) - known)
    if unknown:
        raise SchemaError(
            f"column {rest.get('name')!r}: unknown key {unknown[0]!r}; there are: {', '.join(sorted(known))}", code="unknown_key"
        )
    try:
        return kinds[kind](**rest)
    except TypeError:
        needed = ", ".join(entry.name for entry in fields(kinds[kind]) if entry.name not in rest)
        raise SchemaError(f"column {rest.get('name')!r}: a key is missing, one of: {needed}", code="missing_key") from None
