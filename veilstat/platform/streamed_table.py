"""An owner's table that stays where it is: read in blocks whenever a query needs it, and never whole in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import pandas as pd

from veilstat.errors import RangeError, SchemaError
from veilstat.protocol.context import digest
from veilstat.schema.columns import Codes
from veilstat.schema.derived import Derived
from veilstat.schema.schema import Schema

from .table import require_most_rows

_LABEL = "veilstat/table/2"


class Source(Protocol):
    """Where the rows are. Every reading gives the same rows in the same order as long as nobody changes them."""

    @property
    def columns(self) -> Sequence[str]:
        """The names of all columns that are there."""
        ...

    def blocks(self, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        """The rows, with ``columns`` and no others, in blocks that fit into memory; SchemaError where they cannot be read."""
        ...


@dataclass(frozen=True, slots=True)
class Content:
    """What a table held when it was read: how many rows, and a keyed digest of every column.

    ``version`` names the whole for the record of openings; nobody without the key can check a guess at the rows by it.
    """

    rows: int
    digests: Mapping[str, bytes]

    @property
    def version(self) -> str:
        parts = [part for name in sorted(self.digests) for part in (name.encode(), self.digests[name])]
        return digest(_LABEL, self.rows.to_bytes(8, "little"), *parts).hex()[:16]


class _Reading:
    """Counts rows and digests columns as blocks go by."""

    def __init__(self, columns: Sequence[str], key: bytes) -> None:
        self.rows = 0
        self._states = {name: hashlib.blake2b(key=digest(_LABEL, key, name.encode())) for name in columns}

    def update(self, frame: pd.DataFrame) -> None:
        for name, state in self._states.items():
            try:
                state.update(pd.util.hash_pandas_object(frame[name], index=False).to_numpy().data)
            except TypeError:
                raise SchemaError(
                    f"column {name!r} holds lists or other objects; numbers, text or days are needed", code="wrong_type"
                ) from None
        self.rows += len(frame)

    def content(self) -> Content:
        return Content(self.rows, {name: state.digest() for name, state in self._states.items()})


@dataclass(frozen=True)
class StreamedRows:
    """Codes of some columns, encoded block by block at each reading.

    Reading ends with a SchemaError where the rows are no longer those that ``content`` names: the difference of answers
    over two contents would be the changed rows.
    """

    owner: str
    source: Source = field(repr=False)
    schema: Schema = field(repr=False)
    names: tuple[str, ...]
    content: Content = field(repr=False)
    key: bytes = field(repr=False)

    def __len__(self) -> int:
        return self.content.rows

    def blocks(self) -> Iterator[tuple[int, Mapping[str, Codes]]]:
        """Blocks of the rows: how many, and their codes.

        Raises:
            SchemaError, RangeError: the data do not fit the schema, cannot be read, or have changed.
        """
        stored = _stored(self.schema, self.names) or list(self.content.digests)[:1]
        reading = _Reading(stored, self.key)
        try:
            for frame in self.source.blocks(stored):
                reading.update(frame)
                yield len(frame), {name: self._encode(frame, name, reading.rows) for name in self.names}
        except (SchemaError, RangeError) as error:
            raise error.at(f"data owner {self.owner!r}") from None
        if reading.content() != Content(self.content.rows, {name: self.content.digests[name] for name in stored}):
            raise SchemaError(
                f"data owner {self.owner!r}: the table has changed since the agent started; start the agent again", code="table_changed"
            )

    @cached_property
    def columns(self) -> Mapping[str, Codes]:
        """All codes at once, for uploads."""
        blocks = [block for _, block in self.blocks()]
        empty: Codes = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool)
        return {
            name: (
                np.concatenate([empty[0], *(block[name][0] for block in blocks)]),
                np.concatenate([empty[1], *(block[name][1] for block in blocks)]),
            )
            for name in self.names
        }

    def _encode(self, frame: pd.DataFrame, name: str, last: int) -> Codes:
        try:
            return self.schema.encode(frame, name)
        except (SchemaError, RangeError) as error:
            raise error.at(f"rows {last - len(frame) + 1:,} to {last:,}") from None


class StreamedTable:
    """One owner's rows in a file. What they are is read once, when the table is made; ``key`` is the owner's secret.

    Raises:
        SchemaError: the rows cannot be read, or have no column of the schema.
    """

    def __init__(self, owner: str, source: Source, schema: Schema, key: bytes) -> None:
        self.owner, self._source, self._schema, self._key = owner, source, schema, key
        try:
            self.content = _content(source, schema, key)
        except SchemaError as error:
            raise error.at(f"data owner {owner!r}") from None

    def __repr__(self) -> str:
        return f"StreamedTable(owner={self.owner!r})"

    def rows(self, columns: tuple[str, ...]) -> StreamedRows:
        """The rows with the codes of ``columns``, of which nothing is read yet.

        Raises:
            SchemaError: a column is missing. RangeError: there are more rows than the schema's ``max_rows``.
        """
        require_most_rows(self.owner, self.content.rows, self._schema)
        for name in _stored(self._schema, columns):
            if name not in self.content.digests:
                raise SchemaError(f"data owner {self.owner!r}: the table lacks the column {name!r}", code="missing_column")
        return StreamedRows(self.owner, self._source, self._schema, columns, self.content, self._key)


def _content(source: Source, schema: Schema, key: bytes) -> Content:
    """What a source holds in the schema's columns, as far as they are there."""
    there = set(source.columns)
    columns = [name for name in _stored(schema, tuple(column.name for column in schema)) if name in there]
    if not columns:
        raise SchemaError("the table has no column of the schema", code="missing_column")
    reading = _Reading(columns, key)
    for frame in source.blocks(columns):
        reading.update(frame)
    return reading.content()


def _stored(schema: Schema, names: Sequence[str]) -> list[str]:
    """The columns that a table must hold for these, each once; those of derived columns are their sources'."""
    stored: dict[str, None] = {}
    for name in names:
        column = schema[name]
        stored |= dict.fromkeys(_stored(schema, column.sources) if isinstance(column, Derived) else (name,))
    return list(stored)
