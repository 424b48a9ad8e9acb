"""TLS 1.3 between pinned parties, with the Ed25519 key of the roster as the certificate's key on both sides.

Every certificate signs itself and the roster's certificates are the only ones that are trusted, so there is no authority
that could make another. That only says that the peer is *somebody* of the roster: who it is follows from ``peer_key``.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

from .directory import certified_key


@dataclass(frozen=True, slots=True)
class Credential:
    """A party's name and the file (PEM) with its private key and certificate."""

    name: str
    path: str = field(repr=False)


def listening_context(credential: Credential, certificates: Mapping[str, str]) -> ssl.SSLContext:
    """For the side that is connected to."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, credential, certificates)
    # A ticket would let a later connection skip the certificate that pinning looks at.
    context.num_tickets = 0
    return context


def dialling_context(credential: Credential, certificates: Mapping[str, str]) -> ssl.SSLContext:
    """For the side that connects."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, credential, certificates)


def peer_key(connection: ssl.SSLSocket) -> bytes:
    """The key that the peer has proved to hold."""
    certificate = connection.getpeercert(binary_form=True)
    assert certificate is not None
    return certified_key(certificate)


def _context(protocol: int, credential: Credential, certificates: Mapping[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Parties are known by their keys; names of hosts say nothing about them.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(credential.path)
    context.load_verify_locations(cadata="\n".join(certificates.values()))
    return context
