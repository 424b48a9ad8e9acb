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

_NEEDED = ("roster", "identity", "gateway", "certificate", "tokens", "log")
_OPTIONAL = ("listen", "progress", "epoch", "threads", "sockets", "ray")
_RAY = ("head", "token", "certificates", "directory")
_LONGEST_DIRECTORY = 40
_MOST_WORKERS = 256
_MOST_THREADS = 256
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
    _check(path, "coordinator", plain, _NEEDED, _OPTIONAL)
    folder = path.parent
    sockets = plain.get("sockets", {})
    if not isinstance(sockets, dict) or not all(isinstance(entry, str) for entry in sockets.values()):
        raise SchemaError(f"{path.name}: [coordinator.sockets] has an agent's socket for each owner on this machine", code="bad_value")
    threads = plain.get("threads", cores())
    if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= _MOST_THREADS:
        raise SchemaError(f"{path.name}: [coordinator] threads is a whole number from 1 to {_MOST_THREADS}", code="bad_value")
    try:
        gateway = Address.parse(plain["gateway"])
        listen = Address.parse(str(plain.get("listen", plain["gateway"])))
        progress = float(plain.get("progress", 60))
        ray = None if "ray" not in plain else _ray(path, plain["ray"])
    except (ValueError, TypeError) as error:
        raise SchemaError(f"{path.name}, [coordinator]: {error}", code="bad_value") from None
    return CoordinatorFile(
        path,
        folder / plain["roster"],
        folder / plain["identity"],
        gateway,
        folder / plain["certificate"],
        folder / plain["tokens"],
        folder / plain["log"],
        listen,
        progress,
        folder / str(plain["epoch"]) if "epoch" in plain else None,
        {name: folder / socket for name, socket in sockets.items()},
        ray,
        threads,
    )


def _ray(path: Path, plain: Any) -> RayFile:
    if not isinstance(plain, dict):
        raise SchemaError(f"{path.name}: [coordinator.ray] is a table", code="wrong_type")
    nodes = plain.get("nodes", {})
    ports, node_ports = plain.get("ports"), plain.get("node_ports", {})
    _check(path, "coordinator.ray", plain, _RAY, ("nodes", "workers", "ports", "node_ports"))
    if not isinstance(nodes, dict) or not all(isinstance(entry, str) for entry in nodes.values()):
        raise SchemaError(f"{path.name}: [coordinator.ray.nodes] has the address of each owner's node", code="bad_value")
    head, token, certificates, directory = (plain[key] for key in _RAY)
    check_directory(Path(directory), f"{path.name}: [coordinator.ray] directory")
    if not isinstance(node_ports, dict) or not all(_is_first(port) for port in (*node_ports.values(), *([] if ports is None else [ports]))):
        raise SchemaError(
            f"{path.name}: [coordinator.ray] ports is the first of {PORTS} ports, from 1024 on; [coordinator.ray.node_ports] has one for each owner",
            code="bad_value",
        )
    workers = plain.get("workers", 0)
    if not isinstance(workers, int) or isinstance(workers, bool) or not 0 <= workers <= _MOST_WORKERS:
        raise SchemaError(f"{path.name}: [coordinator.ray] workers is a whole number from 0 to {_MOST_WORKERS}", code="bad_value")
    return RayFile(Address.parse(head), path.parent / token, nodes, path.parent / certificates, Path(directory), workers, ports, node_ports)


def _is_first(port: object) -> bool:
    return isinstance(port, int) and not isinstance(port, bool) and 1024 <= port <= 65_536 - PORTS


def check_directory(directory: Path, what: str) -> None:
    """Refuse a directory of Ray's in which its sockets would have too long a name."""
    if not directory.is_absolute() or len(str(directory)) > _LONGEST_DIRECTORY:
        raise SchemaError(f"{what} is an absolute path of at most {_LONGEST_DIRECTORY} characters", code="bad_value")


def _check(path: Path, table: str, plain: Mapping[str, Any], needed: tuple[str, ...], optional: tuple[str, ...]) -> None:
    unknown = sorted(set(plain) - {*needed, *optional})
    if unknown:
        raise SchemaError(f"{path.name}: [{table}] has no {unknown[0]!r}; there are {', '.join((*needed, *optional))}", code="unknown_key")
    for key in needed:
        if not isinstance(plain.get(key), str):
            raise SchemaError(f"{path.name}: [{table}] {key} is missing, or is no text", code="missing_key")
