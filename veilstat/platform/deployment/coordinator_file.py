"""What the coordinator is told by [coordinator] in the study's file: its identity, its gateway, and how it reaches owners."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from veilstat.errors import SchemaError
from veilstat.transports.address import Address

from ..study_file import load_coordinator
from ..threads import cores
from .toml_values import beside, check_keys, seconds, whole_number

_NEEDED = ("roster", "identity", "gateway", "certificate", "tokens", "log")
_OPTIONAL = ("listen", "progress", "epoch", "threads", "sockets", "ray")
_RAY_NEEDED = ("head", "token", "certificates", "directory")
_RAY_OPTIONAL = ("nodes", "workers", "ports", "node_ports")
_PATIENCE = 60.0
_LONGEST_DIRECTORY = 40
_MOST_WORKERS = 256
_MOST_THREADS = 256
_LEAST_PORT, _PORTS_END = 1024, 65_536
PORTS = 50
"""How many ports a machine of Ray's uses, where they are pinned; a node's first one is its node manager's."""


@dataclass(frozen=True, slots=True)
class RayFile:
    """Where Ray's head listens, and its nodes are (by owner), the file with the cluster's token, the directory of certificates,
    and Ray's own directory, whose path is absolute and short. ``workers``: how many tasks beside the coordinator add masked
    vectors; none if it is 0. ``ports``: the first of those that the head uses besides, and ``node_ports`` by owner; None, or
    no entry, where Ray chooses.
    """

    head: Address
    token: Path
    nodes: Mapping[str, str]
    certificates: Path
    directory: Path
    workers: int = 0
    ports: int | None = None
    node_ports: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CoordinatorFile:
    """Paths and addresses. ``gateway`` is where analysts reach it, ``listen`` where it listens.

    ``sockets``: agents' sockets on this machine, by owner; the other owners are reached over Ray.
    ``progress``: seconds that a round may wait. ``epoch``: the directory that encrypted rows are kept in, if the study has any.
    ``threads``: how many take masks off long vectors.
    """

    study: Path
    roster: Path
    identity: Path
    gateway: Address
    certificate: Path
    tokens: Path
    log: Path
    listen: Address
    progress: float
    epoch: Path | None
    sockets: Mapping[str, Path]
    ray: RayFile | None
    threads: int


def load_coordinator_file(path: Path) -> CoordinatorFile:
    """Read the [coordinator] table; paths in it are relative to the study's file. SchemaError says what is missing or wrong."""
    plain = load_coordinator(path)
    where, folder = f"{path.name}, [coordinator]", path.parent
    check_keys(where, plain, _NEEDED, _OPTIONAL)
    sockets = plain.get("sockets", {})
    if not isinstance(sockets, dict) or not all(isinstance(entry, str) for entry in sockets.values()):
        raise SchemaError(f"{path.name}: [coordinator.sockets] has an agent's socket for each owner on this machine", code="bad_value")
    gateway = _address(where, plain["gateway"])
    return CoordinatorFile(
        study=path,
        roster=folder / plain["roster"],
        identity=folder / plain["identity"],
        gateway=gateway,
        certificate=folder / plain["certificate"],
        tokens=folder / plain["tokens"],
        log=folder / plain["log"],
        listen=_address(where, plain["listen"]) if "listen" in plain else gateway,
        progress=seconds(where, plain, "progress", _PATIENCE),
        epoch=beside(path, plain, "epoch"),
        sockets={name: folder / socket for name, socket in sockets.items()},
        ray=_ray(path, plain["ray"]) if "ray" in plain else None,
        threads=whole_number(where, plain, "threads", cores(), 1, _MOST_THREADS),
    )


def _ray(path: Path, plain: Any) -> RayFile:
    where, folder = f"{path.name}, [coordinator.ray]", path.parent
    if not isinstance(plain, dict):
        raise SchemaError(f"{path.name}: [coordinator.ray] is a table", code="wrong_type")
    check_keys(where, plain, _RAY_NEEDED, _RAY_OPTIONAL)
    nodes, node_ports = plain.get("nodes", {}), plain.get("node_ports", {})
    if not isinstance(nodes, dict) or not all(isinstance(entry, str) for entry in nodes.values()):
        raise SchemaError(f"{path.name}: [coordinator.ray.nodes] has the address of each owner's node", code="bad_value")
    if not isinstance(node_ports, dict):
        raise SchemaError(f"{path.name}: [coordinator.ray.node_ports] has the first port of each owner's node", code="bad_value")
    directory = Path(plain["directory"])
    check_ray_directory(directory, f"{where}: directory")
    return RayFile(
        head=_address(where, plain["head"]),
        token=folder / plain["token"],
        nodes=nodes,
        certificates=folder / plain["certificates"],
        directory=directory,
        workers=whole_number(where, plain, "workers", 0, 0, _MOST_WORKERS),
        ports=_first_port(where, plain, "ports") if "ports" in plain else None,
        node_ports={owner: _first_port(f"{path.name}, [coordinator.ray.node_ports]", node_ports, owner) for owner in node_ports},
    )


def check_ray_directory(directory: Path, what: str) -> None:
    """Refuse a directory of Ray's in which its sockets would have too long a name."""
    if not directory.is_absolute() or len(str(directory)) > _LONGEST_DIRECTORY:
        raise SchemaError(f"{what} is an absolute path of at most {_LONGEST_DIRECTORY} characters", code="bad_value")


def _first_port(where: str, plain: Mapping[str, Any], key: str) -> int:
    """The first of the ports that a machine of Ray's uses."""
    return whole_number(where, plain, key, 0, _LEAST_PORT, _PORTS_END - PORTS)


def _address(where: str, text: object) -> Address:
    try:
        return Address.parse(str(text))
    except ValueError as error:
        raise SchemaError(f"{where}: {error}", code="bad_value") from None
