"""Long-term identities: Ed25519 keys, pinned in a roster that every party was given beforehand."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SIGNATURE_BYTES = 64
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Identity:
    """A party's name and signing key; the repr shows the name only."""

    name: str
    _key: Ed25519PrivateKey = field(repr=False)

    @staticmethod
    def from_seed(name: str, seed: bytes) -> Identity:
        """The identity of a 32-byte secret seed."""
        return Identity(name, Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def sealing_secret(self) -> bytes:
        """The secret half of an X25519 key pair that others seal messages to, derived from the signing key."""
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"veilstat/sealing/1").derive(self._key.private_bytes_raw())

    @property
    def sealing_key(self) -> bytes:
        """The public half."""
        return X25519PrivateKey.from_private_bytes(self.sealing_secret).public_key().public_bytes_raw()

    @property
    def public(self) -> bytes:
        return self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """64 bytes that only this identity can make."""
        return self._key.sign(message)

    def authenticate(self, recipient: str, message: bytes) -> bytes:
        """A signature, whoever receives it."""
        return self.sign(message)


@dataclass(frozen=True, slots=True)
class Roster:
    """Who takes part: public keys by name, each party's role (owner, server, compute, analyst), and the X25519 keys of
    those to whom messages are sealed.
    """

    keys: Mapping[str, bytes]
    roles: Mapping[str, str]
    sealing: Mapping[str, bytes] = field(default_factory=dict)
    _by_role: Mapping[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in sorted(set(self.keys) ^ set(self.roles)):
            raise ValueError(f"party {name!r} lacks one of the two; every party needs a key and a role")
        for name, key in self.keys.items():
            if not 0 < len(name.encode()) <= _LONGEST_NAME or len(key) != 32:
                raise ValueError(f"party {name!r}: a name of 1 to {_LONGEST_NAME} bytes and a key of 32 bytes are needed")
        for name, key in self.sealing.items():
            if name not in self.keys or len(key) != 32:
                raise ValueError(f"party {name!r}: a sealing key of 32 bytes is needed, and an identity key beside it")
        holders: dict[bytes, str] = {}
        for name, key in self.keys.items():
            if holders.setdefault(key, name) != name:
                raise ValueError(f"parties {holders[key]!r} and {name!r} have the same key; each needs its own")
        names = {role: tuple(sorted(name for name, its in self.roles.items() if its == role)) for role in self.roles.values()}
        object.__setattr__(self, "_by_role", names)

    def with_role(self, role: str) -> tuple[str, ...]:
        """The parties of one role, in order of name."""
        return self._by_role.get(role, ())

    def verifies(self, name: str, message: bytes, signature: bytes) -> bool:
        """Whether the named party signed the message."""
        if name not in self.keys:
            return False
        try:
            Ed25519PublicKey.from_public_bytes(self.keys[name]).verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def accepts(self, sender: str, recipient: str, message: bytes, signature: bytes) -> bool:
        """Whether the named sender signed the message, whoever receives it."""
        return self.verifies(sender, message, signature)

    @property
    def digest(self) -> bytes:
        """SHA-256 over names, keys and roles."""
        entries = sorted((name, self.keys[name].hex(), self.roles[name], self.sealing.get(name, b"").hex()) for name in self.keys)
        return hashlib.sha256(repr(entries).encode()).digest()
