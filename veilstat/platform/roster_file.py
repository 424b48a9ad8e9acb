"""The roster as a file (TOML): who takes part, in which role, with which key and certificate, and where. Public; the same for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w

from veilstat.errors import SchemaError
from veilstat.protocol.identity import Roster
from veilstat.schema.schema import read_toml
from veilstat.transports.address import Address
from veilstat.transports.directory import Directory

from .definition import Definition

ROSTER = "roster.toml"
_NEEDED, _OPTIONAL = {"role", "key", "certificate"}, {"sealing", "address"}
_HEAD = """# Who takes part in the study. Public: every party keeps the same file, and checks the keys of the others over another channel.

"""


def write_roster(directory: Directory) -> str:
    """The text of a roster file."""
    roster = directory.roster
    parties = {
        name: {
            "role": roster.roles[name],
            **({"address": str(directory.addresses[name])} if name in directory.addresses else {}),
            "key": roster.keys[name].hex(),
            **({"sealing": roster.sealing[name].hex()} if name in roster.sealing else {}),
            "certificate": directory.certificates[name],
        }
        for name in sorted(roster.keys)
    }
    return _HEAD + tomli_w.dumps({"parties": parties}, multiline_strings=True)


def read_roster(path: Path) -> Directory:
    """The roster in a file.

    Raises:
        SchemaError: the file cannot be read, lacks something, or a certificate does not hold its party's key.
    """
    parties = read_toml(path).get("parties")
    if not isinstance(parties, dict) or not parties:
        raise SchemaError(f"{path.name}: [parties.NAME] with role, key and certificate is needed for every party", code="missing_key")
    for name, party in parties.items():
        _check(path, name, party)
    try:
        keys = {name: bytes.fromhex(its["key"]) for name, its in parties.items()}
        sealing = {name: bytes.fromhex(its["sealing"]) for name, its in parties.items() if "sealing" in its}
        addresses = {name: Address.parse(its["address"]) for name, its in parties.items() if "address" in its}
        roster = Roster(keys, {name: its["role"] for name, its in parties.items()}, sealing)
        return Directory(roster, {name: its["certificate"] for name, its in parties.items()}, addresses)
    except ValueError as error:
        raise SchemaError(f"{path.name}: {error}", code="bad_roster") from None


def require_parties(path: Path, roster: Roster, definition: Definition) -> None:
    """SchemaError where the roster in a file lists other parties than the study."""
    if dict(roster.roles) != definition.roles:
        raise SchemaError(f"{path.name} lists other parties than the study; make the certificates anew", code="roster_differs")


def _check(path: Path, name: str, party: Any) -> None:
    if not isinstance(party, dict) or not _NEEDED <= set(party) <= _NEEDED | _OPTIONAL:
        raise SchemaError(
            f"{path.name}: [parties.{name}] has role, key, certificate, and sealing and address where needed", code="missing_key"
        )
    if not all(isinstance(entry, str) for entry in party.values()):
        raise SchemaError(f"{path.name}: [parties.{name}] has an entry that is no text", code="wrong_type")
