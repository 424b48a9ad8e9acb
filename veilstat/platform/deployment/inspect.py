"""`veilstat doctor --config`: what keeps a party of a deployment from working, each with how to mend it."""

from __future__ import annotations

import importlib.metadata
import socket
import ssl
import stat
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPSConnection
from pathlib import Path
from typing import TypeAlias

from cryptography import x509

from veilstat.errors import VeilstatError
from veilstat.schema.schema import read_toml
from veilstat.transports.address import Address

from ..doctor import Finding
from ..policy_file import load_policy
from ..server_file import load_server
from ..study_file import load_definition, load_published
from .authority import AUTHORITY
from .coordinator_file import PORTS, CoordinatorFile, RayFile, load_coordinator_file
from .node_labels import judge_labels
from .owner_file import load_owner
from .private import check_directory
from .ray_cluster import living_nodes
from .tokens import read_tokens
from .transport_certificates import head_certificate, node_certificate

_WITHIN = 5.0
_LARGEST_SKEW = 60.0
_RENEW_DAYS = 30
_RENEW = "run: veilstat renew --config study.toml"

_Found: TypeAlias = tuple[str, str]
"""What was found, and what to do about it, if anything."""


def inspect(path: Path) -> list[Finding]:
    """A party's machine, by the party's file: a study's with [coordinator], an owner's, or a compute server's.

    Raises:
        VeilstatError: the file cannot be read, or an owner's directory is open to others.
    """
    keys = set(read_toml(path))
    if "party" not in keys:
        return list(_study(path))
    return list(_owner(path) if {"socket", "state", "table"} & keys else _server(path))


def _study(path: Path) -> Iterator[Finding]:
    """A coordinator's machine: versions, ports, certificates with a handshake, tokens, modes, clock, and the labels of nodes."""
    config = load_coordinator_file(path)
    yield _versions()
    yield from _secrets(config.identity, config.certificate, config.tokens)
    yield _finding("tokens", lambda: (f"given to: {', '.join(sorted(read_tokens(config.tokens))) or 'nobody'}", ""))
    yield from _certificate(config.certificate)
    yield _gateway(config)
    if load_definition(config.study).keeps_epochs:
        yield _finding("encrypted rows", lambda: _epoch(config.epoch))
    for owner, place in config.sockets.items():
        yield _socket(f"socket of {owner}", place)
    if config.ray is not None:
        yield from _secrets(config.ray.token, head_certificate(config.ray.certificates))
        yield from _certificate(head_certificate(config.ray.certificates))
        for owner, host in config.ray.nodes.items():
            certificate = node_certificate(config.ray.certificates, owner)
            if certificate.exists():
                yield _named(certificate, host)
        yield from _ray(config, config.ray)


def _owner(path: Path) -> Iterator[Finding]:
    """An owner's machine: versions, modes of files and sockets."""
    config = load_owner(path)
    yield _versions()
    remembered = (config.state / name for name in ("owner.log", "sessions", "openings", "ledger", "refusals"))
    yield from _secrets(config.identity, *(path for path in remembered if path.exists()))
    yield _socket("socket for relays", config.socket, 0o077 if config.relays is None else 0o007)
    yield _socket("socket for a person", config.approvals)
    if load_definition(config.study).keeps_rows and config.policy is not None and not load_policy(config.policy).is_unattended:
        yield Finding("policy", "asks a person", "rows are not shared with servers that answer alone: take `approval` out of its file")


def _server(path: Path) -> Iterator[Finding]:
    """A compute server's machine: modes of its files, and the place of owners' rows where it keeps any."""
    config = load_server(path)
    ledgers = sorted(config.ledgers.iterdir()) if config.ledgers.is_dir() else []
    yield from _secrets(config.identity, *(path for path in (config.openings, *ledgers) if path.exists()))
    if load_definition(config.study).keeps_rows:
        yield _finding("rows of owners", lambda: _uploads(config.uploads))


def _uploads(directory: Path | None) -> _Found:
    if directory is None:
        return "they have no place", "name a directory with uploads = in the server's file, and run: install -d -m 700 uploads"
    check_directory(directory)
    return f"of owners who have shared theirs: {sum(1 for _ in directory.glob('*.shares'))}", ""


def _epoch(directory: Path | None) -> _Found:
    if directory is None:
        return "they have no place", "add epoch = 'epoch' to [coordinator]"
    if not directory.is_dir():
        return "no key yet; the coordinator makes the directory", ""
    check_directory(directory)
    return "under a key" if (directory / "epoch").exists() else "no key yet; each owner says: veilstat rows share", ""


def _versions() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    try:
        ray = importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        return Finding("versions", f"Python {found}, no Ray", "pip install 'veilstat[deploy]'; owners' nodes need it", essential=False)
    if ray != (needed := _needed_ray()):
        return Finding("versions", f"Python {found}, Ray {ray}", f"this veilstat needs Ray {needed}: pip install ray=={needed}")
    return Finding("versions", f"Python {found}, Ray {ray}: the same on every node, to the last number")


def _needed_ray() -> str:
    """The version that veilstat is installed with."""
    pins = (entry for entry in importlib.metadata.requires("veilstat") or () if entry.startswith("ray=="))
    return next(pins).removeprefix("ray==").partition(";")[0].strip()


def _secrets(*paths: Path) -> Iterator[Finding]:
    for path in paths:
        if not path.exists():
            yield Finding(path.name, "missing", f"there is no file {path}; `veilstat certificates` and `veilstat token` make them")
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        yield Finding(path.name, f"mode {mode:o}", f"others can read it; run: chmod 600 {path}" if mode & 0o077 else "")


def _socket(what: str, path: Path, closed_to: int = 0o077) -> Finding:
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return Finding(what, "nobody listens", f"start the agent that listens on {path}: veilstat owner --config owner.toml")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & closed_to:
        return Finding(what, f"mode {mode:o}", f"others can connect; run: chmod 600 {path}")
    with socket.socket(socket.AF_UNIX) as probe:
        refused = probe.connect_ex(str(path))
    return Finding(what, "answers" if not refused else "refuses", f"start the agent that listens on {path}" if refused else "")


def _certificate(path: Path) -> Iterator[Finding]:
    def look() -> _Found:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        left = (certificate.not_valid_after_utc - datetime.now(UTC)).days
        if left < _RENEW_DAYS:
            return f"ends in {left} days", f"{_RENEW}, and start its process again"
        return f"valid for {left} days", ""

    if path.exists():
        yield _finding(path.name, look)


def _named(path: Path, host: str) -> Finding:
    """Without the right name Ray's handshake fails for minutes without a word."""

    def look() -> _Found:
        names = x509.load_pem_x509_certificate(path.read_bytes()).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        known = [str(entry.value) for entry in names]
        if host not in known:
            return f"lacks the name {host!r}, it has {', '.join(known)}", _RENEW
        return f"holds {host}", ""

    return _finding(path.name, look)


def _gateway(config: CoordinatorFile) -> Finding:
    authority = config.certificate.parent / AUTHORITY

    def ask() -> _Found:
        context = ssl.create_default_context(cafile=str(authority))
        connection = HTTPSConnection(config.gateway.host, config.gateway.port, timeout=_WITHIN, context=context)
        try:
            connection.request("GET", "/openapi.json")
            response = connection.getresponse()
            skew = abs(parsedate_to_datetime(response.headers.get("date", "")).timestamp() - time.time())
            if skew > _LARGEST_SKEW:
                return f"its clock differs by {skew:.0f} seconds", "let both machines keep time by NTP"
            return f"answers at {config.gateway} with status {response.status}", ""
        finally:
            connection.close()

    return _finding("gateway", ask, f"start it: veilstat coordinator --config {config.study}; open its port")


def _ray(config: CoordinatorFile, ray: RayFile) -> Iterator[Finding]:
    """The head's answer, and what it knows of nodes; or that nobody else has its ports."""
    authority, credential = config.certificate.parent / AUTHORITY, head_certificate(ray.certificates)
    head = _handshake(ray.head, credential, authority, "Ray's head")
    yield head
    if not head.is_well:
        yield _ports(ray)
        return
    for owner, first in ray.node_ports.items():
        where = Address(ray.nodes.get(owner, owner), first)
        yield _handshake(where, credential, authority, f"node of {owner}", f"start it: veilstat node --owner {owner}; open {where}")
    owners = [owner for owner in load_published(config.study).definition().owners if owner not in config.sockets]
    try:
        yield from judge_labels(living_nodes(ray), ray.head.host, {owner: ray.nodes.get(owner, "ADDRESS") for owner in owners})
    except (ConnectionError, VeilstatError) as error:
        yield Finding("labels", type(error).__name__, f"Ray's head does not say which nodes there are; {ray.directory} has its logs")


def _ports(ray: RayFile) -> Finding:
    own = range(ray.ports, ray.ports + PORTS) if ray.ports is not None else ()
    taken = [port for port in (ray.head.port, *own) if _is_taken(port)]
    advice = f"another process has {', '.join(map(str, taken))}; end it, or change head and ports in [coordinator.ray]" if taken else ""
    return Finding("Ray's ports", "taken" if taken else "free", advice)


def _is_taken(port: int) -> bool:
    """Ray listens on all addresses of a machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return True
    return False


def _handshake(address: Address, credential: Path, authority: Path, what: str, advice: str = "") -> Finding:
    def shake() -> _Found:
        context = ssl.create_default_context(cafile=str(authority))
        context.load_cert_chain(str(credential))
        with (
            socket.create_connection((address.host, address.port), timeout=_WITHIN) as raw,
            context.wrap_socket(raw, server_hostname=address.host) as secure,
        ):
            return f"answers at {address} with {secure.version()}", ""

    return _finding(what, shake, advice or f"start the coordinator, open {address}")


def _finding(what: str, look: Callable[[], _Found], advice: str = "") -> Finding:
    """What a look finds, or why it cannot be taken; ``advice`` is for where nobody answers."""
    try:
        return Finding(what, *look())
    except ssl.SSLCertVerificationError as error:
        return Finding(what, "bad certificate", f"{error.verify_message}; {_RENEW}")
    except ssl.SSLError:
        return Finding(what, "something else", "another process than veilstat's listens there; end it, or change the address in study.toml")
    except VeilstatError as error:
        return Finding(what, error.code, error.message)
    except (OSError, ValueError) as error:
        return Finding(what, type(error).__name__, f"{getattr(error, 'strerror', None) or error}" + (f"; {advice}" if advice else ""))
