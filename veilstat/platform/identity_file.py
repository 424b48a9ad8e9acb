"""A party's private file: its Ed25519 key and the certificate that the same key signed, in one PEM."""

from __future__ import annotations

import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from veilstat.errors import CapabilityError, SchemaError
from veilstat.protocol.identity import Identity

_SEED_BYTES = 32
_SERIAL_BYTES = 16
# A certificate carries a pinned key and nothing else: it ends when the roster drops it, so RFC 5280's "no expiration" (4.1.2.5) fits.
_ALWAYS = datetime(2000, 1, 1), datetime(9999, 12, 31, 23, 59, 59)


def private_path(folder: Path, name: str) -> Path:
    """Where a party's private file stands; a name is quoted, so that none leads out of the folder."""
    return folder / f"{quote(name, safe=' ')}.pem"


def issue(name: str, random: Callable[[int], bytes]) -> tuple[Identity, str, str]:
    """A new identity, its certificate (PEM), and the text of its private file."""
    seed = random(_SEED_BYTES)
    key = Ed25519PrivateKey.from_private_bytes(seed)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    serial = 1 + int.from_bytes(random(_SERIAL_BYTES), "little")
    signs_only = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), serial, *_ALWAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(signs_only, critical=True)
        .sign(key, None)
    )
    public = certificate.public_bytes(Encoding.PEM).decode()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return Identity.from_seed(name, seed), public, private + public


def read_identity(path: Path, name: str, public: bytes) -> Identity:
    """The identity in a private file.

    Raises:
        SchemaError: there is no such file, or it holds no Ed25519 key. CapabilityError: others can read it, or its key is not
        the one (``public``) that the roster pins.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_bytes()
    except OSError as error:
        raise SchemaError(f"the private key of {name!r} cannot be read from {str(path)!r}: {error.strerror}", code="no_file") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise CapabilityError(
            f"the private key of {name!r} can be read or changed by others; run: chmod 600 {path}. If they may have read it, issue a new one",
            code="key_readable_by_others",
        )
    try:
        key = load_pem_private_key(text, None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SchemaError(f"{str(path)!r} holds no Ed25519 private key; use the file that `veilstat certificates` made", code="bad_key")
    identity = Identity.from_seed(name, key.private_bytes_raw())
    if identity.public != public:
        raise CapabilityError(f"the key in {str(path)!r} is not the one that the roster pins for {name!r}", code="key_differs")
    return identity
