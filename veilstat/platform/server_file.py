"""What a server process is told by its file (TOML): which party it hosts, under which roster, for which study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from veilstat.errors import SchemaError
from veilstat.schema.schema import read_toml
from veilstat.transports.address import Address
from veilstat.transports.connection import Timeouts

from .definition import SERVER

_NEEDED = ("party", "study", "roster", "identity")


@dataclass(frozen=True, slots=True)
class ServerFile:
    """The party's name, paths, where to listen if not at the roster's address, where to keep what owners upload, if anything,
    where to record what was opened, and the directory of the privacy ledgers of owners who uploaded their rows.
    ``through``: the party over whose connection owners and analyst are reached, in a deployment.
    """

    party: str
    study: Path
    roster: Path
    identity: Path
    listen: Address | None
    uploads: Path | None
    openings: Path
    ledgers: Path
    timeouts: Timeouts
    through: str | None = None


def load_server(path: Path) -> ServerFile:
    """Read a server's file; paths in it are relative to it. SchemaError says what is missing or wrong."""
    plain = read_toml(path)
    unknown = sorted(set(plain) - {*_NEEDED, "listen", "uploads", "openings", "ledgers", "through", "timeouts"})
    if unknown:
        raise SchemaError(
            f"{path.name}: unknown key {unknown[0]!r}; there are {', '.join(_NEEDED)}, listen, uploads, openings, ledgers, through, [timeouts]",
            code="unknown_key",
        )
    for key in _NEEDED:
        if not isinstance(plain.get(key), str):
            raise SchemaError(f"{path.name}: {key} is missing, or is no text", code="missing_key")
    try:
        listen = Address.parse(str(plain["listen"])) if "listen" in plain else None
        timeouts = _timeouts(plain.get("timeouts", {}))
    except (ValueError, TypeError) as error:
        raise SchemaError(f"{path.name}: {error}", code="bad_value") from None
    study, roster, identity = (path.parent / plain[key] for key in _NEEDED[1:])
    uploads = path.parent / str(plain["uploads"]) if "uploads" in plain else None
    openings = path.parent / str(plain["openings"]) if "openings" in plain else path.with_suffix(".openings")
    ledgers = path.parent / str(plain["ledgers"]) if "ledgers" in plain else path.with_suffix(".ledgers")
    through = plain.get("through")
    if through not in (None, SERVER):
        raise SchemaError(f"{path.name}: through is {SERVER!r}, the coordinator of a deployment, or left out", code="bad_value")
    return ServerFile(plain["party"], study, roster, identity, listen, uploads, openings, ledgers, timeouts, through)


def _timeouts(plain: Mapping[str, Any]) -> Timeouts:
    known = {entry.name for entry in fields(Timeouts)}
    unknown = sorted(set(plain) - known)
    if unknown:
        raise ValueError(f"[timeouts] has no {unknown[0]!r}; it has {', '.join(sorted(known))}")
    return Timeouts(**{name: float(seconds) for name, seconds in plain.items()})
