"""Owners' tables in CSV and Parquet files and behind SQL, read in blocks of rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from veilstat.errors import CapabilityError, SchemaError
from veilstat.schema.schema import Schema

from ..streamed_table import Source
from ..study_file import READERS, csv_options
from ..table import BLOCK_ROWS

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_BUFFER_BYTES = 1 << 20
_SQL_MEMORY = "256MB"


def open_file(path: Path, schema: Schema) -> Source:
    """The table in a file.

    Raises:
        SchemaError: there is no such file, or it is no table. CapabilityError: what reads Parquet is not installed.
    """
    if path.suffix not in READERS:
        raise SchemaError(f"{path.name}: tables are {' or '.join(READERS)} files", code="wrong_type")
    try:
        with path.open("rb"):
            pass
    except OSError:
        raise SchemaError(f"there is no file {str(path)!r} that can be read", code="no_file") from None
    return CsvFile(path, schema) if path.suffix == ".csv" else ParquetRows(path.name, _parquet(path))


def open_query(sql: str, database: Path | None, state: Path, schema: Schema) -> Source:
    """What a query of DuckDB gives, as it is now: in a Parquet file of the agent's directory that has no name any more.

    The query runs once, so that all answers are over the same rows; what it cannot hold in memory lies in ``state``.

    Raises:
        SchemaError: the query does not run. CapabilityError: DuckDB is not installed.
    """
    try:
        import duckdb
    except ImportError:
        raise CapabilityError("tables by SQL need DuckDB: pip install 'veilstat[deploy]'", code="not_installed") from None
    with tempfile.TemporaryDirectory(dir=state, prefix="sql-") as folder:
        result = Path(folder) / "table.parquet"
        settings: dict[str, Any] = {"memory_limit": _SQL_MEMORY, "temp_directory": folder}
        try:
            with duckdb.connect(str(database or ":memory:"), read_only=database is not None, config=settings) as connection:
                connection.sql(sql).to_parquet(str(result))
        except (duckdb.Error, AttributeError) as error:
            raise SchemaError(f"[table] sql could not be run: {type(error).__name__}; try it with DuckDB", code="bad_table") from None
        return ParquetRows("the result of [table] sql", _parquet(result))


@dataclass(frozen=True)
class CsvFile:
    """A CSV file; the types of its numbers are found in each block."""

    path: Path
    schema: Schema = field(repr=False)

    @cached_property
    def columns(self) -> Sequence[str]:
        """The names in the first line; SchemaError where there is none."""
        try:
            return tuple(map(str, pd.read_csv(self.path, nrows=0).columns))
        except (ValueError, OSError):
            raise _unreadable(self.path.name) from None

    def blocks(self, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        """The rows in the file's order; SchemaError where they cannot be read.

        Lines are parsed whole, since pandas passes over what is wrong with columns that it is not asked for.
        """
        try:
            with pd.read_csv(self.path, chunksize=BLOCK_ROWS, low_memory=False, **csv_options(self.schema)) as reader:
                yield from (frame[list(columns)] for frame in reader)
        except (ValueError, OSError):
            raise _unreadable(self.path.name) from None


@dataclass(frozen=True)
class ParquetRows:
    """An open Parquet file, read by pages of its row groups. Types are the file's, whether a block has missing values or not."""

    name: str
    file: pq.ParquetFile = field(repr=False)

    @property
    def columns(self) -> Sequence[str]:
        return tuple(self.file.schema_arrow.names)

    def blocks(self, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        """The rows in the file's order; SchemaError where they cannot be read."""
        import pyarrow as pa

        try:
            for batch in self.file.iter_batches(BLOCK_ROWS, columns=list(columns), use_threads=False):
                yield batch.to_pandas(types_mapper=_nullable, ignore_metadata=True)
        except (pa.ArrowException, ValueError, OSError):
            raise _unreadable(self.name) from None


def _parquet(path: Path) -> pq.ParquetFile:
    """The open file, which stays the same when another is put in its place."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise CapabilityError("tables in Parquet files need PyArrow: pip install 'veilstat[deploy]'", code="not_installed") from None
    try:
        # What it reads ahead it keeps until the file is closed.
        return pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False)
    except (pa.ArrowException, ValueError, OSError):
        raise _unreadable(path.name) from None


def _nullable(kind: Any) -> Any:
    """Integers and booleans of pandas that may be missing, so that a missing value changes no type."""
    import pyarrow.types as types

    if types.is_integer(kind):
        return pd.api.types.pandas_dtype(str(kind).replace("int", "Int").replace("uInt", "UInt"))
    return pd.BooleanDtype() if types.is_boolean(kind) else None


def _unreadable(name: str) -> SchemaError:
    return SchemaError(f"{name} could not be read as a table", code="bad_table")
