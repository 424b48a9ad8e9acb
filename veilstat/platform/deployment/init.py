"""`veilstat init`: the files of a new deployment, commented, with everything on one machine until somebody moves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from veilstat.errors import CapabilityError, SchemaError

from . import templates
from .coordinator_file import PORTS

_OPTIONS = {"masking": "colluding = 1", "sharing": 'open = "estimate"', "homomorphic": "colluding = 1"}
_ENTRIES = ("totals", "rows")
_KEEP_ROWS = ("sharing", "homomorphic")
_SERVERS = ("compute1", "compute2", "compute3")
_FIRST_NODE, _MOST_NODES = 11, 200


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of a trial are: the gateway's port, that of Ray's head and the first of all that Ray uses besides, that of compute servers, tables."""

    gateway: int = 8443
    head: int = 6390
    ports: int = 20_000
    servers: int = 7401
    directory: str = "/tmp/veilstat-ray"  # noqa: S108  # made 0700 and checked; short, for the names of sockets
    tables: Mapping[str, str] = field(default_factory=dict)
    schema: str = templates.SCHEMA


def write_files(out: Path, architecture: str, owners: tuple[str, ...], layout: Layout, entry: str = "totals") -> tuple[Path, ...]:
    """Write a study whose owners' nodes are reached over Ray, and who send totals for every query or their rows once; gives the paths.

    Raises:
        CapabilityError: there is no such architecture or entry for a deployment. SchemaError: there are too few or too many
        owners, or the directory is not empty.
    """
    if architecture not in _OPTIONS:
        known = ", ".join(sorted(_OPTIONS))
        raise CapabilityError(f"a deployment has one of the architectures {known}, not {architecture!r}", code="unknown_architecture")
    if entry not in _ENTRIES or (entry == "rows" and architecture not in _KEEP_ROWS):
        raise CapabilityError(
            f"owners send totals, or rows with one of {', '.join(_KEEP_ROWS)}; not {entry!r} with {architecture!r}", code="unknown_option"
        )
    if not 2 < len(owners) <= _MOST_NODES:
        raise SchemaError(f"a deployment has 3 to {_MOST_NODES} data owners here", code="bad_owner")
    if out.exists() and any(out.iterdir()):
        raise SchemaError(f"{str(out)!r} is not empty; choose another directory", code="file_exists")
    out.mkdir(parents=True, exist_ok=True)
    servers = _SERVERS if architecture == "sharing" else ()
    nodes = {owner: f"127.0.0.{_FIRST_NODE + place}" for place, owner in enumerate(owners)}
    study = templates.STUDY.format(
        architecture=architecture,
        owners=_list(owners),
        options=_OPTIONS[architecture] + ("\n" + templates.ROWS if entry == "rows" else ""),
        policies=_table({owner: f"{owner}/policy.toml" for owner in owners}),
        addresses=_table({name: f"127.0.0.1:{layout.servers + place}" for place, name in enumerate(servers)}),
        gateway=f"127.0.0.1:{layout.gateway}",
        lines=templates.RAY.format(
            head=f"127.0.0.2:{layout.head}",
            directory=layout.directory,
            nodes=_table(nodes),
            ports=layout.ports,
            node_ports=_numbers(layout.ports, owners),
        ),
    )
    texts = {"study.toml": study, "schema.toml": layout.schema}
    texts |= {f"{server}.toml": templates.COMPUTE.format(server=server) for server in servers}
    for server in servers:
        (out / f"{server}-rows").mkdir(mode=0o700)
    for owner in owners:
        (out / owner).mkdir()
        (out / owner / "state").mkdir(mode=0o700)
        texts[f"{owner}/owner.toml"] = templates.OWNER.format(owner=owner, table=layout.tables.get(owner, "table.csv"))
        texts[f"{owner}/policy.toml"] = templates.POLICY
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8")
    return tuple(out / name for name in texts)


def _list(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


def _numbers(first: int, owners: tuple[str, ...]) -> str:
    """Ports of one machine, behind those of the head."""
    return "\n".join(f"{owner} = {first + PORTS * (1 + place)}" for place, owner in enumerate(owners))


def _table(entries: Mapping[str, str]) -> str:
    return "\n".join(f'{name} = "{entry}"' for name, entry in entries.items())
