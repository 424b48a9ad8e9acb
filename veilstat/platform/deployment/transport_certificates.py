"""Which machines of a deployment get a certificate of the study's authority."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from ..durable import replace_file
from ..identity_file import private_path
from .authority import AUTHORITY, AUTHORITY_KEY, issue_certificate, make_authority
from .coordinator_file import load_coordinator_file

_HEAD = "ray-head"
_TOKEN_BYTES = 32


def node_certificate(folder: Path, owner: str) -> Path:
    """Where the certificate of an owner's Ray node stands."""
    return private_path(folder, f"ray-{owner}")


def head_certificate(folder: Path) -> Path:
    """Where the certificate of Ray's head stands."""
    return private_path(folder, _HEAD)


def make_transport_certificates(study: Path, now: datetime, random: Callable[[int], bytes]) -> tuple[Path, ...]:
    """A new authority beside the gateway's certificate, and certificates for all machines, and the token of Ray's cluster; gives the paths.

    Raises:
        SchemaError: the study's [coordinator] is wrong. OSError: a file of the authority exists already.
    """
    config = load_coordinator_file(study)
    folder = config.certificate.parent
    make_authority(folder, now)
    made = [folder / AUTHORITY, folder / AUTHORITY_KEY]
    if config.ray is not None:
        replace_file(config.ray.token, random(_TOKEN_BYTES).hex().encode())
        made.append(config.ray.token)
    return (*made, *renew_certificates(study, now))


def renew_certificates(study: Path, now: datetime) -> tuple[Path, ...]:
    """New certificates in place of the former ones, by the same authority; gives the paths.

    Raises:
        SchemaError: the study's [coordinator] is wrong, or there is no authority.
    """
    config = load_coordinator_file(study)
    folder = config.certificate.parent
    hosts = {config.certificate: [config.gateway.host, "localhost"]}
    if config.ray is not None:
        hosts[head_certificate(config.ray.certificates)] = [config.ray.head.host]
        hosts |= {node_certificate(config.ray.certificates, owner): [host] for owner, host in config.ray.nodes.items()}
    for path, names in hosts.items():
        issue_certificate(folder, path, names, now)
    return tuple(hosts)
