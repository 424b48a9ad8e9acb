"""Identities and certificates for all parties of a study, each party's private file by itself, and the roster for all."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from veilstat.errors import SchemaError
from veilstat.protocol.identity import Roster
from veilstat.transports.directory import Directory

from .identity_file import issue, private_path
from .roster_file import ROSTER, write_roster
from .study_file import load_addresses, load_definition

_FILE_NAME = re.compile(r"\w[\w.-]*")


def make_certificates(study: Path, out: Path, random: Callable[[int], bytes]) -> tuple[Path, ...]:
    """Write ``roster.toml`` and, for every party, ``NAME.pem`` (0600) into a directory; gives the paths.

    Parties are the owners, the server, the analyst, and the compute servers that the study's architecture needs.

    Raises:
        SchemaError: the study file lacks a compute server's address or names a stranger's, a file exists already, or a party's
        name cannot be a file's.
    """
    addresses, definition = load_addresses(study), load_definition(study)
    roles = definition.roles
    unplaced, strangers = sorted(set(definition.servers) - set(addresses)), sorted(set(addresses) - set(roles))
    if unplaced or strangers:
        text = f"does not say where {unplaced[0]!r} listens" if unplaced else f"names {strangers[0]!r}, who is no party"
        raise SchemaError(f"{study.name}: [addresses] {text}; the parties are {', '.join(roles)}", code="bad_address")
    paths = {name: private_path(out, name) for name in sorted(roles)}
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
    identities = {name: identity for name, (identity, _, _) in issued.items()}
    sealing = {name: identities[name].sealing_key for name in definition.servers}
    roster = Roster({name: identity.public for name, identity in identities.items()}, roles, sealing)
    directory = Directory(roster, {name: certificate for name, (_, certificate, _) in issued.items()}, addresses)
    _write_new(out / ROSTER, write_roster(directory), 0o644)
    return (out / ROSTER, *paths.values())


def _write_new(path: Path, text: str, mode: int) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)
