"""What an owner's agent is told by its file (TOML): who it is, its table, policy, socket, and where it keeps what it must remember."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from veilstat.errors import SchemaError
from veilstat.schema.schema import Schema, read_toml

from ..streamed_table import Source
from .private import check_directory
from .table_files import open_file, open_query
from .toml_values import beside, check_keys, seconds

_NEEDED = ("party", "study", "roster", "identity", "socket", "state")
_OPTIONAL = ("policy", "approvals", "relays", "progress", "table")
_PATIENCE = 150.0


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
    check_keys(path.name, plain, _NEEDED, _OPTIONAL)
    study, roster, identity, socket, state = (path.parent / plain[key] for key in _NEEDED[1:])
    check_directory(state)
    return OwnerFile(
        party=plain["party"],
        study=study,
        roster=roster,
        identity=identity,
        socket=socket,
        state=state,
        policy=beside(path, plain, "policy"),
        approvals=beside(path, plain, "approvals") or state / "approvals.sock",
        relays=str(plain["relays"]) if "relays" in plain else None,
        progress=seconds(path.name, plain, "progress", _PATIENCE),
        open_table=_opener(path, plain.get("table"), state),
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
