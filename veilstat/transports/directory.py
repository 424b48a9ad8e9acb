"""Who can be reached where, and by which certificate: the roster with everything that a connection needs besides."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from veilstat.protocol.identity import Roster

from .address import Address


@dataclass(frozen=True, slots=True)
class Directory:
    """The roster, each party's certificate (PEM), and the addresses of those that listen.

    Raises:
        ValueError: a certificate is missing or does not hold the key that the roster pins, or an address is nobody's.
    """

    roster: Roster
    certificates: Mapping[str, str]
    addresses: Mapping[str, Address]

    def __post_init__(self) -> None:
        for name in sorted(set(self.certificates) ^ set(self.roster.keys)):
            raise ValueError(f"{name!r} has no certificate, or is not in the roster; every party of it needs one, and nobody else")
        for name, certificate in self.certificates.items():
            if certified_key(ssl.PEM_cert_to_DER_cert(certificate)) != self.roster.keys[name]:
                raise ValueError(f"the certificate of {name!r} does not hold the key of {name!r}")
        strangers = sorted(set(self.addresses) - set(self.roster.keys))
        if strangers:
            raise ValueError(f"there is an address for {strangers[0]!r}, who is not in the roster")

    def dials(self, name: str, peer: str) -> bool:
        """Whether it is ``name`` that connects to ``peer``: one of two always does, so that there is one connection."""
        return peer in self.addresses and (name not in self.addresses or name < peer)


def certified_key(certificate: bytes) -> bytes:
    """The Ed25519 public key (32 bytes) of a certificate in DER; ValueError if it holds none."""
    key = x509.load_der_x509_certificate(certificate).public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("the certificate's key is not an Ed25519 key")
    return key.public_bytes_raw()
