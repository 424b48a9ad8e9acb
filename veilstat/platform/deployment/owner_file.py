"""What an owner's agent is told by its file (TOML): who it is, its table, policy, socket, and where it keeps what it must remember."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from veilstat.errors import CapabilityError, SchemaError
from veilstat.schema.schema import Schema, read_toml

from ..streamed_table import Source
from .table_files import open_file, open_query

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
    open_table: Callable[[Schema], Source]


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
    open_table = _opener(path, plain.get("table"), state)
    return OwnerFile(plain["party"], study, roster, identity, socket, state, policy, approvals, relays, progress, open_table)


def check_private(directory: Path) -> None:
    """Refuse a directory that is missing, or that others can look into."""
    if not directory.is_dir():
        raise SchemaError(f"there is no directory {str(directory)!r}; run: install -d -m 700 {directory}", code="no_directory")
    if stat.S_IMODE(directory.stat().st_mode) & 0o077:
        raise CapabilityError(
            f"others can look into a directory that is this account's alone; run: chmod 700 {directory}", code="readable_by_others"
        )


def _opener(path: Path, table: Any, state: Path) -> Callable[[Schema], Source]:
    match table:
        case {"file": str(file), **rest} if not rest:
            return partial(open_file, path.parent / file)
        case {"sql": str(sql), **rest} if set(rest) <= {"database"}:
            database = rest.get("database")
            return partial(open_query, sql, None if database is None else path.parent / str(database), state)
    raise SchemaError(
        f"{path.name}: [table] has file = a CSV or Parquet file, or sql = a query and, if wanted, database = a DuckDB file",
        code="bad_table",
    )
