"""One party among those of a roster: what it sends is signed, or authenticated for one compute server by another.

Compute servers exchange hundreds of small messages in a step. Between two of them a code under a key that only they
have takes the signature's place (HMAC-SHA-512, RFC 2104, as long as a signature); the key is HKDF-SHA256 of their
X25519 sealing keys, which the roster pins. A code convinces nobody else; all other messages stay signed.
"""

from __future__ import annotations

import hmac

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .identity import Identity, Roster

COMPUTE = "compute"


class Member:
    """``identity`` among the parties of ``roster``; keys with other compute servers are made once, and shown by no repr."""

    def __init__(self, identity: Identity, roster: Roster) -> None:
        self.identity, self.roster = identity, roster
        self._keys: dict[str, bytes] = {}

    @property
    def name(self) -> str:
        return self.identity.name

    def authenticate(self, recipient: str, message: bytes) -> bytes:
        """64 bytes by which ``recipient`` knows who sent a message; the message names sender and recipient."""
        return self._code(recipient, message) if self._shares_key(recipient) else self.identity.sign(message)

    def accepts(self, sender: str, recipient: str, message: bytes, code: bytes) -> bool:
        """Whether the named sender authenticated a message to ``recipient``, this party or a group that it is in."""
        if recipient == self.name and self._shares_key(sender):
            return hmac.compare_digest(self._code(sender, message), code)
        return self.roster.verifies(sender, message, code)

    def _shares_key(self, peer: str) -> bool:
        both = (self.name, peer)
        return peer != self.name and all(self.roster.roles.get(name) == COMPUTE and name in self.roster.sealing for name in both)

    def _code(self, peer: str, message: bytes) -> bytes:
        if peer not in self._keys:
            secret = X25519PrivateKey.from_private_bytes(self.identity.sealing_secret)
            shared = secret.exchange(X25519PublicKey.from_public_bytes(self.roster.sealing[peer]))
            self._keys[peer] = HKDF(algorithm=SHA256(), length=64, salt=None, info=b"veilstat/servers/1").derive(shared)
        return hmac.digest(self._keys[peer], message, "sha512")
