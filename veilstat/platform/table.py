"""An owner's table, encoded on the schema's lattice column by column when a query first needs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from veilstat.errors import RangeError, SchemaError
from veilstat.schema.columns import Codes
from veilstat.schema.schema import Schema

BLOCK_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Codes of some columns, read in blocks of rows."""

    columns: Mapping[str, Codes]
    count: int

    def __len__(self) -> int:
        return self.count

    def blocks(self) -> Iterator[tuple[int, Mapping[str, Codes]]]:
        """Blocks of at most 65,536 rows: how many, and their codes."""
        for start in range(0, self.count, BLOCK_ROWS):
            stop = min(self.count, start + BLOCK_ROWS)
            yield stop - start, {name: (codes[start:stop], present[start:stop]) for name, (codes, present) in self.columns.items()}


class Table:
    """One owner's rows. The frame is copied by nobody and changed by nobody.

    Raises:
        SchemaError: it is no DataFrame. RangeError: it has more rows than the schema's ``max_rows``.
    """

    def __init__(self, owner: str, frame: pd.DataFrame, schema: Schema) -> None:
        if not isinstance(frame, pd.DataFrame):
            raise SchemaError(f"data owner {owner!r}: the data must be a pandas DataFrame, not {type(frame).__name__}", code="wrong_type")
        self.owner, self._frame, self._schema = owner, frame, schema
        self._codes: dict[str, Codes] = {}

    def __repr__(self) -> str:
        return f"Table(owner={self.owner!r})"

    def rows(self, columns: tuple[str, ...]) -> EncodedRows:
        """The rows with the codes of ``columns``.

        Raises:
            SchemaError, RangeError: the data do not fit the schema; the message names owner and column, no value.
        """
        if len(self._frame) > self._schema.max_rows:
            raise RangeError(
                f"data owner {self.owner!r}: the table has more rows than the schema's max_rows = {self._schema.max_rows:,}; agree on a larger one",
                code="too_many_rows",
            )
        for name in columns:
            if name not in self._codes:
                try:
                    self._codes[name] = self._schema.encode(self._frame, name)
                except (SchemaError, RangeError) as error:
                    raise error.at(f"data owner {self.owner!r}") from None
        return EncodedRows({name: self._codes[name] for name in columns}, len(self._frame))
