"""The study's authority for TLS between machines: it signs the gateway's certificate and those of Ray's head and nodes.

Unlike identities, these say at which addresses a machine answers, and they expire. They let bytes through and
authorise nothing: what is said in them is signed by identities.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from veilstat.errors import SchemaError

AUTHORITY, AUTHORITY_KEY = "authority.pem", "authority.key"
_AUTHORITY_DAYS, _DAYS = 3650, 397


def make_authority(folder: Path, now: datetime) -> None:
    """Write ``authority.pem``, which everybody may have, and ``authority.key`` (0600), which signs certificates."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("veilstat study")
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), _from(now), now + timedelta(_AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
    _write(folder / AUTHORITY_KEY, _private(key), 0o600)
    _write(folder / AUTHORITY, certificate.public_bytes(Encoding.PEM), 0o644)


def issue_certificate(folder: Path, path: Path, hosts: Iterable[str], now: datetime) -> None:
    """Write a private key and a certificate for a machine that answers at ``hosts`` into one file (0600), in place of a former one.

    Raises:
        SchemaError: there is no authority in the folder.
    """
    try:
        authority = x509.load_pem_x509_certificate((folder / AUTHORITY).read_bytes())
        signing = load_pem_private_key((folder / AUTHORITY_KEY).read_bytes(), None)
    except (OSError, ValueError):
        raise SchemaError(f"there is no authority in {str(folder)!r}; run `veilstat certificates`", code="no_authority") from None
    assert isinstance(signing, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    names = list(dict.fromkeys(hosts))
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        x509.CertificateBuilder(
            authority.subject, _name(names[0]), key.public_key(), x509.random_serial_number(), _from(now), now + timedelta(_DAYS)
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(both), critical=False)
        .add_extension(x509.SubjectAlternativeName([_host(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
        .sign(signing, SHA256())
    )
    path.unlink(missing_ok=True)
    _write(path, _private(key) + certificate.public_bytes(Encoding.PEM), 0o600)


def _from(now: datetime) -> datetime:
    """Clocks of other machines may be a little behind."""
    return now - timedelta(hours=1)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=signs_certificates, crl_sign=signs_certificates, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, text: bytes, mode: int) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(text)
