"""Key agreement, key derivation and sealed boxes between two parties: X25519, HKDF-SHA256, AES-GCM."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .shamir import Random

PUBLIC_KEY_BYTES = 32
TAG_BYTES = 16


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An ephemeral X25519 key pair; its repr shows the public half only."""

    public: bytes
    _private: X25519PrivateKey = field(repr=False)

    @staticmethod
    def generate(random: Random) -> KeyPair:
        """A fresh pair from a cryptographic source of bytes."""
        return KeyPair.from_secret(random(32))

    @staticmethod
    def from_secret(secret: bytes) -> KeyPair:
        """The pair that a reconstructed secret belongs to."""
        private = X25519PrivateKey.from_private_bytes(secret)
        return KeyPair(private.public_key().public_bytes_raw(), private)

    @property
    def secret(self) -> bytes:
        """The 32 bytes that are shared among the other owners."""
        return self._private.private_bytes_raw()

    def exchange(self, public: bytes) -> bytes:
        """The shared secret with the holder of ``public``; ValueError for a degenerate point."""
        return self._private.exchange(X25519PublicKey.from_public_bytes(public))


def derive(secret: bytes, context: bytes, label: bytes, length: int) -> bytes:
    """``length`` bytes by HKDF-SHA256 (RFC 5869), salted with the context and separated by the label."""
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=context, info=label).derive(secret)


def seal(key: bytes, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """AES-GCM; a key serves each nonce once."""
    return AESGCM(key).encrypt(nonce, plaintext, associated)


def unseal(key: bytes, nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes | None:
    """The plaintext, or None where the box was not sealed by the other holder of the key."""
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, associated)
    except InvalidTag:
        return None


SEALED_BYTES = PUBLIC_KEY_BYTES + TAG_BYTES
"""What a box sealed to a public key is longer than its content."""


def seal_to(public: bytes, context: bytes, label: bytes, plaintext: bytes, random: Random) -> bytes:
    """A box that only the holder of ``public`` can open: an ephemeral key, and AES-GCM under the shared one.

    ``context`` and ``label`` bind it to one place in one protocol; it does not say who sealed it.
    """
    pair = KeyPair.generate(random)
    return pair.public + seal(derive(pair.exchange(public), context, label, 16), bytes(12), plaintext, b"")


def unseal_with(pair: KeyPair, context: bytes, label: bytes, box: bytes) -> bytes | None:
    """The content of a box, or None where it was not sealed to this pair, context and label."""
    try:
        shared = pair.exchange(box[:PUBLIC_KEY_BYTES])
    except ValueError:
        return None
    return unseal(derive(shared, context, label, 16), bytes(12), box[PUBLIC_KEY_BYTES:], b"")
