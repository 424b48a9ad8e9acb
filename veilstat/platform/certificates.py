"""Identities and certificates for all parties of a study, each party's private file by itself, and the roster for all."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from veilstat.language.errors import SchemaError
from veilstat.protocol.identity import Roster
from veilstat.transports.directory import Directory

from .definition import ANALYST, SERVER
from .identity_file import issue
from .roster_file import write_roster
from .study_file import load_addresses, load_definition

ROSTER = "roster.toml"
_FILE_NAME = re.compile(r"\w[\w.-]*")
_COMPUTE_NAME = re.compile(r"compute[1-9][0-9]?")


def make_certificates(study: Path, out: Path, random: Callable[[int], bytes]) -> tuple[Path, ...]:
    """Write ``roster.toml`` and, for every party, ``NAME.pem`` (0600) into a directory; gives the paths.

    Parties are the owners, the server, the analyst and whoever has an address besides: compute1, compute2, ...

    Raises:
        SchemaError: the study file lacks addresses or names somebody who is no party, a file exists already, or a party's
        name cannot be a file's.
    """
    addresses = load_addresses(study)
    owners = load_definition(study).owners
    roles = {**dict.fromkeys(owners, "owner"), SERVER: "server", ANALYST: "analyst"}
    for name in sorted(set(addresses) - set(roles)):
        if not _COMPUTE_NAME.fullmatch(name):
            raise SchemaError(
                f"[addresses] names {name!r}, who is neither an owner, server, analyst nor compute1, compute2, ...", code="unknown_party"
            )
        roles[name] = "compute"
    paths = {name: out / f"{name}.pem" for name in sorted(roles)}
    for name in roles:
        if not _FILE_NAME.fullmatch(name):
            raise SchemaError(f"the name {name!r} cannot be a file's; use letters, digits, '_', '-' and '.'", code="bad_owner")
    for path in (out / ROSTER, *paths.values()):
        if path.exists():
            raise SchemaError(f"{str(path)!r} exists and is kept; choose another directory, or move it away", code="file_exists")
    out.mkdir(parents=True, exist_ok=True)
    issued = {name: issue(name, random) for name in paths}
    for name, (_, _, private) in issued.items():
        _write_new(paths[name], private, 0o600)
    roster = Roster({name: identity.public for name, (identity, _, _) in issued.items()}, roles)
    directory = Directory(roster, {name: certificate for name, (_, certificate, _) in issued.items()}, addresses)
    _write_new(out / ROSTER, write_roster(directory), 0o644)
    return (out / ROSTER, *paths.values())


def _write_new(path: Path, text: str, mode: int) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)
