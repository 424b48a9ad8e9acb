"""Clipping: values are moved to agreed bounds before they are used, so that one row can change less.

Bounds are public values on the schema's lattice. They travel with the query, so that plan and digest hold them, and each
row is clipped as an integer by its owner.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from veilstat.errors import CapabilityError, SchemaError
from veilstat.language.trace import Trace, Value
from veilstat.schema.encoding import exact
from veilstat.schema.quoting import quoted
from veilstat.schema.schema import Schema

Clip: TypeAlias = "tuple[tuple[str, float, float], ...]"
"""(column, lower, upper) in the schema's units."""


class RowColumns(Protocol):
    """What a contribution reads of each row."""

    @property
    def ones(self) -> Value: ...

    def column(self, name: str) -> Value: ...

    def present(self, name: str) -> Value: ...

    def all_present(self, names: Iterable[str]) -> Value: ...


@dataclass(frozen=True, slots=True)
class Clipped:
    """Rows whose columns are clipped to codes; ``codes`` holds the columns that are narrower than the schema."""

    rows: Trace
    codes: Mapping[str, tuple[int, int]]

    @property
    def ones(self) -> Value:
        return self.rows.ones

    def column(self, name: str) -> Value:
        return self.rows.column(name).clip(*self.codes[name]) if name in self.codes else self.rows.column(name)

    def present(self, name: str) -> Value:
        return self.rows.present(name)

    def all_present(self, names: Iterable[str]) -> Value:
        return self.rows.all_present(names)


def as_clip(clip: Any, names: Sequence[str]) -> Clip | None:
    """Bounds as a query holds them.

    Args:
        clip: {column: (lower, upper)}, or (lower, upper) where ``names`` is one column, or None.

    Raises:
        SchemaError: it is neither.
    """
    if clip is None:
        return None
    try:
        if isinstance(clip, Mapping):
            entries = [(name, *bounds) for name, bounds in clip.items()]
        elif len(names) == 1 and len(clip) == 2 and not isinstance(clip[0], (str, tuple, list)):
            entries = [(names[0], *clip)]
        else:
            entries = [tuple(entry) for entry in clip]
        found = tuple(sorted((name, plain_number(lower), plain_number(upper)) for name, lower, upper in entries))
    except (TypeError, ValueError):
        raise _bad_clip("a mapping from column to its lower and upper bound, such as {'age': (18, 90)}") from None
    if not found or len({name for name, _, _ in found}) < len(found) or not all(isinstance(name, str) for name, _, _ in found):
        raise _bad_clip("a mapping that names each column once, such as {'age': (18, 90)}")
    return found


def plain_number(value: Any) -> float:
    """A bound as a query writes it; TypeError for what is no number."""
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(value)
    return int(value) if float(value).is_integer() else float(value)


def clip_codes(clip: Clip | None, schema: Schema, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """For each column that is clipped more narrowly than the schema bounds it: its least and its largest code.

    Raises:
        SchemaError: a column is not used, or its bounds are not increasing values of the schema's lattice.
    """
    codes = {}
    for name, *bounds in clip or ():
        if name not in names:
            raise SchemaError(
                f"clip= names {name!r}, which the query does not use; it uses: {', '.join(map(quoted, names))}", code="bad_clip"
            )
        column = schema.numeric(name)
        low, high = ((exact(bound) - column.origin) / column.lattice_step for bound in bounds)
        if low.denominator != 1 or high.denominator != 1 or not 0 <= low < high <= column.top:
            raise SchemaError(f"clip= of {name!r} must be two increasing values of its lattice: {column.describe()}", code="bad_clip")
        if low > 0 or high < column.top:
            codes[name] = (int(low), int(high))
    return codes


def refuse_clip(clip: Clip | None) -> None:
    """For exact answers: nothing is clipped without privacy."""
    if clip is not None:
        raise CapabilityError(
            "clip= bounds what one row can change under differential privacy; ask with privacy=, or without clip=",
            code="clip_without_privacy",
        )


def clipped_reason(codes: Mapping[str, tuple[int, int]]) -> str | None:
    """Why there is no interval where clipping may have happened; None where it cannot have."""
    return f"{', '.join(map(quoted, codes))} may have been clipped, by how much is not known" if codes else None


def _bad_clip(wanted: str) -> SchemaError:
    return SchemaError(f"clip= must be {wanted}", code="bad_clip")
