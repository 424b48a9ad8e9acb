"""What an owner's agent is told by its file (TOML): who it is, its table, policy, socket, and where it keeps what it must remember."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from veilstat.errors import CapabilityError, SchemaError
from veilstat.protocol.context import digest
from veilstat.schema.schema import Schema, read_toml

from ..study_file import read_table

_NEEDED = ("party", "study", "roster", "identity", "socket", "state")
_OPTIONAL = ("policy", "approvals", "relays", "progress", "table")
PATIENCE = 150.0


@dataclass(frozen=True, slots=True)
class OwnerFile:
    """The party's name, and paths. ``socket`` is for relays, ``approvals`` for a person, ``state`` a directory of mode 0700.

    ``relays``: the group of accounts that may connect to ``socket`` besides. ``progress``: seconds that a round may wait.
    """

    party: str
    study: Path
    roster: Path
    identity: Path
    socket: Path
    state: Path
    policy: Path | None
    approvals: Path
    relays: str | None
    progress: float
    read: Callable[[Schema], pd.DataFrame]


def load_owner(path: Path) -> OwnerFile:
    """Read an owner's file; paths in it are relative to it.

    Raises:
        SchemaError: something is missing or wrong. CapabilityError: others can read the agent's directory.
    """
    plain = read_toml(path)
    unknown = sorted(set(plain) - {*_NEEDED, *_OPTIONAL})
    if unknown:
        raise SchemaError(f"{path.name}: unknown key {unknown[0]!r}; there are {', '.join((*_NEEDED, *_OPTIONAL))}", code="unknown_key")
    for key in _NEEDED:
        if not isinstance(plain.get(key), str):
            raise SchemaError(f"{path.name}: {key} is missing, or is no text", code="missing_key")
    study, roster, identity, socket, state = (path.parent / plain[key] for key in _NEEDED[1:])
    policy = path.parent / str(plain["policy"]) if "policy" in plain else None
    approvals = path.parent / str(plain["approvals"]) if "approvals" in plain else state / "approvals.sock"
    try:
        progress = float(plain.get("progress", PATIENCE))
    except (TypeError, ValueError):
        raise SchemaError(f"{path.name}: progress is a number of seconds", code="bad_value") from None
    check_private(state)
    relays = str(plain["relays"]) if "relays" in plain else None
    read = _reader(path, plain.get("table"))
    return OwnerFile(plain["party"], study, roster, identity, socket, state, policy, approvals, relays, progress, read)


def check_private(directory: Path) -> None:
    """Refuse a directory that is missing, or that others can look into."""
    if not directory.is_dir():
        raise SchemaError(f"there is no directory {str(directory)!r}; run: install -d -m 700 {directory}", code="no_directory")
    if stat.S_IMODE(directory.stat().st_mode) & 0o077:
        raise CapabilityError(f"others can look into the agent's directory; run: chmod 700 {directory}", code="readable_by_others")


def table_version(frame: pd.DataFrame, secret: bytes) -> str:
    """Names the content of a table for the record of openings; by the name nobody without the secret can check a guess at the rows."""
    rows = pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes()
    return digest("veilstat/table/1", secret, repr(list(frame.columns)).encode(), rows).hex()[:16]


def _reader(path: Path, table: Any) -> Callable[[Schema], pd.DataFrame]:
    match table:
        case {"file": str(file), **rest} if not rest:
            return lambda schema: read_table(path.parent / file, schema)
        case {"sql": str(sql), **rest} if set(rest) <= {"database"}:
            database = rest.get("database")
            return lambda schema: _query(path, sql, None if database is None else str(path.parent / str(database)))
    raise SchemaError(
        f"{path.name}: [table] has file = a CSV or Parquet file, or sql = a query and, if wanted, database = a DuckDB file",
        code="bad_table",
    )


def _query(path: Path, sql: str, database: str | None) -> pd.DataFrame:
    try:
        import duckdb
    except ImportError:
        raise CapabilityError("tables by SQL need DuckDB: pip install 'veilstat[deploy]'", code="not_installed") from None
    try:
        with duckdb.connect(database or ":memory:", read_only=database is not None) as connection:
            frame: pd.DataFrame = connection.sql(sql).df()
            return frame
    except (duckdb.Error, AttributeError) as error:
        raise SchemaError(
            f"{path.name}: [table] sql could not be run: {type(error).__name__}; try it with DuckDB", code="bad_table"
        ) from None
