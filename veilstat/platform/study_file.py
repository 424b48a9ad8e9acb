"""A study from a TOML file, for the command line: schema, architecture, and the tables of simulated owners."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from veilstat.architectures.registry import architectures
from veilstat.errors import SchemaError
from veilstat.schema.columns import Categorical
from veilstat.schema.schema import Schema, read_toml
from veilstat.transports.address import Address

from .definition import Definition
from .policy import Policy
from .policy_file import load_policy
from .published import Published
from .simulation import simulate
from .study import Study

_KEYS = ("architecture", "schema", "owners", "addresses", "policies", "coordinator")
_MISSING_WORDS = ("", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "None")
"""What means a missing value in a CSV file, unless it is an agreed level of its column."""


def load_study(path: str | Path, certificates: Path | None = None) -> Study:
    """The embedded study that a file describes; tables are CSV or Parquet files, relative to it.

    Args:
        certificates: as for ``simulate``, if the compute servers run as processes of their own.

    Raises:
        SchemaError: the file, its schema or a table cannot be read. CapabilityError: the architecture cannot serve it.
    """
    place = Path(path)
    plain = _checked(place)
    if not isinstance(plain["owners"], dict):
        raise SchemaError(f"{place.name}: [owners] names no files; an embedded study needs one for each data owner", code="missing_key")
    schema = _schema(plain, place)
    tables = {name: _read_table(place.parent / str(file), schema) for name, file in plain["owners"].items()}
    architecture = load_definition(path).architecture
    return simulate(tables, schema, architecture, policies=_policies(plain, place), certificates=certificates)


def load_definition(path: str | Path) -> Definition:
    """What a study file says publicly, without reading a table; owners without a published policy permit all. Errors as ``load_study``."""
    return load_published(path).definition()


def load_published(path: str | Path) -> Published:
    """The same, as it can be sent to an analyst."""
    place = Path(path)
    plain = _checked(place)
    policies, name = _policies(plain, place), str(plain.get("architecture", "masking"))
    digests = {owner: policies.get(owner, Policy()).digest.hex() for owner in plain["owners"]}
    return Published(_schema(plain, place).to_toml(), name, plain.get(name, {}), tuple(plain["owners"]), digests)


def is_deployed(path: str | Path) -> bool:
    """Whether a study file says how a coordinator runs."""
    return "coordinator" in _checked(Path(path))


def load_coordinator(path: str | Path) -> dict[str, Any]:
    """The [coordinator] table of a study file; SchemaError where there is none."""
    plain = _checked(Path(path)).get("coordinator")
    if not isinstance(plain, dict):
        raise SchemaError(f"{Path(path).name}: [coordinator] says how the coordinator runs; `veilstat init` writes one", code="missing_key")
    return plain


def load_addresses(path: str | Path) -> dict[str, Address]:
    """Where the parties of a study listen, by name; SchemaError if an address is none."""
    place = Path(path)
    addresses = _checked(place).get("addresses", {})
    if not isinstance(addresses, dict):
        raise SchemaError(f"{place.name}: [addresses] says where servers listen, such as compute1 = 'host:7401'", code="missing_key")
    try:
        return {name: Address.parse(str(text)) for name, text in addresses.items()}
    except ValueError as error:
        raise SchemaError(f"{place.name}, [addresses]: {error}", code="bad_address") from None


def _checked(path: Path) -> dict[str, Any]:
    plain = read_toml(path)
    unknown = sorted(set(plain) - {*_KEYS, *architectures()})
    if unknown:
        raise SchemaError(
            f"{path.name}: unknown key {unknown[0]!r}; there are {', '.join(_KEYS)} and the architecture's own table, such as [masking]",
            code="unknown_key",
        )
    owners = plain.get("owners")
    is_list = isinstance(owners, list) and all(isinstance(name, str) for name in owners)
    if not (is_list or isinstance(owners, dict)) or not owners:
        raise SchemaError(f"{path.name}: [owners] names a file for each data owner, or owners is a list of names", code="missing_key")
    return plain


def _policies(plain: Mapping[str, Any], path: Path) -> dict[str, Policy]:
    """The policies that owners published, by owner; their files stand beside the study's."""
    files = plain.get("policies", {})
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
        raise SchemaError(f"{path.name}: [policies] names the file with the policy of a data owner", code="bad_policy")
    stranger = sorted(set(files) - set(plain["owners"]))
    if stranger:
        raise SchemaError(f"{path.name}: there is a policy for {stranger[0]!r}, who is no data owner", code="bad_owner")
    return {name: load_policy(path.parent / file).policy for name, file in files.items()}


def _schema(plain: Mapping[str, Any], path: Path) -> Schema:
    schema = plain.get("schema")
    if isinstance(schema, str):
        return Schema.from_toml(path.parent / schema)
    if isinstance(schema, dict):
        return Schema.from_dict(schema)
    raise SchemaError(f"{path.name}: schema is the name of a TOML file, or a table with [[schema.columns]]", code="missing_key")


def _read_table(path: Path, schema: Schema) -> pd.DataFrame:
    """A table in a CSV or Parquet file; SchemaError where it cannot be read."""
    if path.suffix not in READERS:
        raise SchemaError(f"{path.name}: tables are {' or '.join(READERS)} files", code="wrong_type")
    try:
        return READERS[path.suffix](path, schema)
    except FileNotFoundError:
        raise SchemaError(f"there is no file {str(path)!r}", code="no_file") from None
    except (ValueError, OSError, ImportError):
        raise SchemaError(
            f"{path.name} could not be read as a table; it must be a whole CSV file or, with pyarrow installed, a Parquet file",
            code="bad_table",
        ) from None


def csv_options(schema: Schema) -> dict[str, Any]:
    """How pandas reads an owner's CSV file: text levels stay text ("01" is no 1), and a word that is an agreed level is no missing value."""
    levels = {column.name: column.levels if isinstance(column, Categorical) else () for column in schema}
    return {
        "dtype": {name: str for name, its in levels.items() if its and all(isinstance(level, str) for level in its)},
        "keep_default_na": False,
        "na_values": {name: [word for word in _MISSING_WORDS if word not in its] for name, its in levels.items()},
    }


def _read_csv(path: Path, schema: Schema) -> pd.DataFrame:
    frame: pd.DataFrame = pd.read_csv(path, **csv_options(schema))
    return frame


def _read_parquet(path: Path, schema: Schema) -> pd.DataFrame:
    return pd.read_parquet(path)


READERS: Mapping[str, Callable[[Path, Schema], pd.DataFrame]] = {".csv": _read_csv, ".parquet": _read_parquet}
