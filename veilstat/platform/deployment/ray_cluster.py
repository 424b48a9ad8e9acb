"""Ray's processes: the head beside the coordinator, an owner's node, and the coordinator as the only driver.

Mutual TLS by the study's authority, one token for the cluster, no dashboard, no usage statistics, nothing of workers'
output forwarded. None of this protects anything but availability: what passes through Ray is signed elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from veilstat.errors import CapabilityError, SchemaError, VeilstatError
from veilstat.transports.address import Address

from .authority import AUTHORITY
from .coordinator_file import PORTS, RayFile, check_ray_directory
from .owner_lines import Connect
from .private import check_file
from .ray_head import head_process, temporary
from .transport_certificates import head_certificate, node_certificate

_INHERITED = frozenset(("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV", "OMP_NUM_THREADS", "LD_LIBRARY_PATH"))
OBJECT_STORE_BYTES, _LOG_BYTES = 256 << 20, 16 << 20
_LOOKS, _ENDED_WITHIN = 0.5, 15.0
_START = (sys.executable, "-m", "ray.scripts.scripts", "start")
_OPTIONS = (f"--object-store-memory={OBJECT_STORE_BYTES}", "--disable-usage-stats", "--block")
_OWN_PORTS = (
    "node-manager", "object-manager", "runtime-env-agent", "dashboard-agent-grpc", "dashboard-agent-listen", "metrics-export",
)  # fmt: skip


def plain_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What Ray's processes inherit: every job on a node can read its environment, so no more than is needed to run."""
    return {name: text for name, text in environment.items() if name in _INHERITED}


def ray_environment(certificate: Path, authority: Path, token: Path) -> dict[str, str]:
    """What every process of the cluster must have in its environment, explicitly.

    Raises:
        SchemaError: a file is missing. CapabilityError: others can read a secret one.
    """
    for path, is_secret in ((certificate, True), (authority, False), (token, True)):
        if not path.is_file():
            raise SchemaError(f"there is no file {str(path)!r}; `veilstat certificates` makes it", code="no_file")
        if is_secret:
            check_file(path, "a key of the cluster")
    return {
        "RAY_USE_TLS": "1",
        "RAY_TLS_SERVER_CERT": str(certificate.resolve()),
        "RAY_TLS_SERVER_KEY": str(certificate.resolve()),
        "RAY_TLS_CA_CERT": str(authority.resolve()),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token.resolve()),
        "RAY_USAGE_STATS_ENABLED": "0",
        # A call of Ray's that comes after its end begins no other cluster.
        "RAY_ENABLE_AUTO_CONNECT": "0",
        # Of each of Ray's logs, and of as many older ones; Ray itself keeps six of 512 MiB.
        "RAY_ROTATION_MAX_BYTES": str(_LOG_BYTES),
        "RAY_ROTATION_BACKUP_COUNT": "1",
        # Nothing on a node is worth draining: a node that is told to end does so at once, even where its head is gone.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        # A busy machine takes longer than Ray's half minute to start a node.
        "RAY_raylet_start_wait_time_s": "120",
        # A node whose head is gone, or was started anew, is of no use until it is started again itself; Ray takes a minute for either.
        "RAY_gcs_rpc_server_reconnect_timeout_s": "20",
        "RAY_raylet_liveness_self_check_interval_ms": "5000",
    }


def head_command(config: RayFile) -> list[str]:
    """Ray's head, in the foreground."""
    place = [f"--port={config.head.port}", f"--node-ip-address={config.head.host}", f"--temp-dir={temporary(config.directory)}"]
    cores = f"--num-cpus={max(1, config.workers)}"
    return [*_START, "--head", *place, "--include-dashboard=false", cores, *_pinned(config.ports), *_OPTIONS]


def node_command(owner: str, head: Address, address: str, directory: Path, ports: int | None) -> list[str]:
    """The raylet of an owner's node, in the foreground. ``ports``: the first of those that it uses; Ray chooses where it is None.

    Two nodes of one machine need a directory each: Ray names sockets in it without a lock.

    Raises:
        SchemaError: the directory's path is relative, or too long for the sockets in it.
    """
    check_ray_directory(directory, "--directory")
    place = [f"--address={head}", f"--node-ip-address={address}", f"--temp-dir={temporary(directory)}"]
    return [*_START, *place, f"--labels=owner={owner}", "--num-cpus=1", *_pinned(ports), *_OPTIONS]


def _pinned(first: int | None) -> list[str]:
    """Ray's ports, one after the other: its own, and behind them those of workers."""
    if first is None:
        return []
    own = [f"--{name}-port={first + place}" for place, name in enumerate(_OWN_PORTS)]
    return [*own, f"--min-worker-port={first + len(_OWN_PORTS)}", f"--max-worker-port={first + PORTS - 1}"]


def node_environment(owner: str, folder: Path, token: Path, agent: Path) -> dict[str, str]:
    """The environment of an owner's node; relays on it find the agent's socket there. Errors as ``ray_environment``."""
    from veilstat.transports.ray import SOCKET_VARIABLE

    return {**ray_environment(node_certificate(folder, owner), folder / AUTHORITY, token), SOCKET_VARIABLE: str(agent.resolve())}


@dataclass(frozen=True, slots=True)
class LabelledNode:
    """A node of the cluster: its address, and whose it says it is; ``owner`` is None where it does not say."""

    address: str
    owner: str | None


@dataclass(frozen=True, slots=True)
class Cluster:
    """The head's process, and a way to each owner's node."""

    head: subprocess.Popen[bytes]
    connects: Mapping[str, Connect]

    async def watch(self) -> None:
        """For ever; VeilstatError once the head has ended, since the coordinator cannot stay its driver."""
        while self.head.poll() is None:
            await asyncio.sleep(_LOOKS)
        raise VeilstatError("Ray's head has ended, and with it the coordinator; start the coordinator again", code="head_lost")


def join_cluster(config: RayFile, owners: Iterable[str], stack: AsyncExitStack) -> Cluster:
    """Start the head, become its driver, and give a way to each owner; all ends with ``stack``.

    Raises:
        SchemaError, CapabilityError: a file is missing or not kept well, Ray is not installed, or the head did not start.
    """
    environment = _head_environment(config)
    ray, lines = _import_ray(environment)
    is_over = threading.Event()
    stack.callback(is_over.set)
    environment |= plain_environment(os.environ)
    head = stack.enter_context(head_process(head_command(config), environment, config.head, config.directory))
    threading.Thread(target=_end_without, args=(head, is_over), daemon=True).start()
    _become_driver(ray, config)
    stack.callback(ray.shutdown)
    return Cluster(head, {owner: partial(lines.RayLine.connect, owner) for owner in owners})


def living_nodes(config: RayFile) -> tuple[LabelledNode, ...]:
    """The cluster's nodes as its head knows them at present, the head's own among them. To be asked on its machine.

    Raises:
        SchemaError, CapabilityError: a file is missing or not kept well, or Ray is not installed. ConnectionError: the head does not answer.
    """
    ray, lines = _import_ray(_head_environment(config))
    _become_driver(ray, config)
    try:
        alive = (its for its in ray.nodes() if its["Alive"])
        return tuple(LabelledNode(its["NodeManagerAddress"], its["Labels"].get(lines.OWNER_LABEL)) for its in alive)
    finally:
        ray.shutdown()


def _head_environment(config: RayFile) -> dict[str, str]:
    return ray_environment(head_certificate(config.certificates), config.certificates / AUTHORITY, config.token)


def _import_ray(environment: Mapping[str, str]) -> tuple[Any, Any]:
    """Ray, and lines over it; Ray reads its settings from the environment of the process when it is imported."""
    os.environ.update(environment)
    try:
        import ray

        from veilstat.transports import ray as lines
    except ImportError:
        raise CapabilityError(
            "owners on other machines are reached over Ray: pip install 'veilstat[deploy]'", code="not_installed"
        ) from None
    return ray, lines


def _become_driver(ray: Any, config: RayFile) -> None:
    ray.init(address=str(config.head), _node_ip_address=config.head.host, log_to_driver=False, configure_logging=False)


def _end_without(head: subprocess.Popen[bytes], is_over: threading.Event) -> None:
    """End this process where it does not end by itself: a call of Ray's that waits for a head that is gone blocks for a minute."""
    head.wait()
    if not is_over.wait(_ENDED_WITHIN):
        os._exit(1)
