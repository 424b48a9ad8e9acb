"""The owner's rounds: commit to a share of the key, reveal it, encrypt under the sum of all, help to decrypt once.

Each round is consumed into the next, which holds only what it still needs. The share of the secret key exists within
one session, and the round that uses it to decrypt exists once and ends the session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from veilstat.architectures.interface import Authorise, Random
from veilstat.architectures.waiting import OwnerFromServer
from veilstat.protocol.context import DIGEST_BYTES
from veilstat.protocol.identity import SIGNATURE_BYTES, Identity, Roster
from veilstat.protocol.session import Message, Turn

from ..messages import decode_parts, parts_size, read_ciphertexts, read_share
from ..ring import Residues
from ..sampling import flooding
from . import mouchet21
from .bfv import Bfv


@dataclass(frozen=True, slots=True)
class Owner:
    """What an owner knows before the session; ``recipient`` is the analyst's public key (b, a).

    ``authorise`` is asked with the decrypting set before any share of a decryption is made, and raises to refuse.
    """

    identity: Identity
    roster: Roster
    server: str
    participants: tuple[str, ...]
    threshold: int
    context: bytes
    scheme: Bfv
    vector: npt.NDArray[np.object_] = field(repr=False)
    recipient: Residues = field(repr=False)
    random: Random = field(repr=False)
    authorise: Authorise = field(repr=False)

    @property
    def name(self) -> str:
        return self.identity.name

    def fresh_key(self) -> tuple[Residues, Residues, bytes]:
        """A share of a secret key, the common polynomial, and the share of the public key that belongs to both."""
        ring = self.scheme.ring
        secret = ring.from_integers(self.scheme.secret(self.random))
        common = ring.uniform(mouchet21.common_label(self.context))
        return secret, common, ring.to_bytes(self.scheme.public_share(common, secret, self.random))

    def start(self) -> Turn:
        """Commit to a share of a fresh key."""
        secret, common, share = self.fresh_key()
        committed = mouchet21.commitment(self.context, self.name, share)
        signature = self.identity.sign(mouchet21.commitment_statement(self.context, committed))
        following = AwaitCommitments(self, secret, common, share, committed)
        return Turn((Message(mouchet21.COMMIT_KEY, self.server, committed + signature),), following)

    def encrypted(self, common: Residues, shares: Mapping[str, bytes | memoryview], members: Mapping[str, bytes]) -> Message:
        """Its ciphertexts under the sum of all shares of the key, signed together with whose shares these are."""
        ring = self.scheme.ring
        collective = reduce(ring.add, (read_share(ring, memoryview(raw), self.server) for raw in shares.values()))
        ciphertexts = ring.to_bytes(self.scheme.encrypt_vector(np.stack([collective, common]), self.vector, self.random))
        signature = self.identity.sign(mouchet21.input_statement(self.context, members, ciphertexts))
        return Message(mouchet21.INPUT, self.server, ciphertexts + signature)

    def decryption_shares(self, total: Residues, secret: Residues) -> Residues:
        """Its one share of the decryption of all ciphertexts of a sum."""
        return np.stack([switch_share(self.scheme, its, secret, self.recipient, self.random) for its in total])


@dataclass(frozen=True, slots=True)
class Forwarded(OwnerFromServer):
    """A round that waits for one message of the server; ``part`` bytes in it come from each owner."""

    owner: Owner

    @property
    def part(self) -> int:
        raise NotImplementedError

    @property
    def largest(self) -> int:
        return parts_size(self.owner.participants, self.part)

    def parts(self) -> dict[str, memoryview]:
        """What the server forwarded, by owner."""
        return decode_parts(self.inbox[0], self.part, self.owner.server)

    def verified_sum(self, parts: Mapping[str, memoryview], members: Mapping[str, bytes]) -> Residues:
        """The sum of ciphertexts, each signed by its owner for the key of ``members``; a violation by the server otherwise."""
        return reduce(self.owner.scheme.ring.add, (self._verified(name, raw, members) for name, raw in parts.items()))

    def _verified(self, name: str, raw: memoryview, members: Mapping[str, bytes]) -> Residues:
        owner, ciphertexts, signature = self.owner, raw[:-SIGNATURE_BYTES], bytes(raw[-SIGNATURE_BYTES:])
        if not owner.roster.verifies(name, mouchet21.input_statement(owner.context, members, ciphertexts), signature):
            raise self.refuse("bad_input", f"ciphertexts in the name of {name!r} are not signed by it for this key")
        return read_ciphertexts(owner.scheme.ring, ciphertexts, owner.scheme.parameters.vector_bytes, owner.server)


@dataclass(frozen=True, slots=True)
class AwaitCommitments(Forwarded):
    """Everybody's commitments are known and signed: reveal the share."""

    secret: Residues = field(repr=False)
    common: Residues = field(repr=False)
    share: bytes = field(repr=False)
    committed: bytes
    name: ClassVar[str] = mouchet21.REVEAL_KEY

    @property
    def part(self) -> int:
        return mouchet21.COMMITMENT_BYTES

    def close(self) -> Turn:
        owner, commitments = self.owner, {}
        for name, raw in self.parts().items():
            commitments[name] = bytes(raw[:DIGEST_BYTES])
            statement = mouchet21.commitment_statement(owner.context, commitments[name])
            if name not in owner.participants or not owner.roster.verifies(name, statement, bytes(raw[DIGEST_BYTES:])):
                raise self.refuse("bad_commitment", f"a commitment in the name of {name!r} is not signed by a participant")
        if len(commitments) < owner.threshold or commitments.get(owner.name) != self.committed:
            raise self.refuse(
                "bad_participants",
                f"{len(commitments)} commitments were forwarded, at least {owner.threshold} are needed, its own among them",
            )
        following = AwaitShares(owner, self.secret, self.common, commitments)
        return Turn((Message(mouchet21.REVEAL_KEY, owner.server, self.share),), following)


@dataclass(frozen=True, slots=True)
class AwaitShares(Forwarded):
    """The decrypting set is fixed by who revealed a share: encrypt under the sum of these shares."""

    secret: Residues = field(repr=False)
    common: Residues = field(repr=False)
    commitments: dict[str, bytes]
    name: ClassVar[str] = mouchet21.INPUT

    @property
    def part(self) -> int:
        return self.owner.scheme.ring.element_bytes

    def close(self) -> Turn:
        owner = self.owner
        shares = self.parts()
        if not set(shares) <= set(self.commitments) or owner.name not in shares or len(shares) < owner.threshold:
            raise self.refuse(
                "bad_participants",
                f"shares of {len(shares)} owners were forwarded, at least {owner.threshold} of those who committed are needed, its own among them",
            )
        for name, raw in shares.items():
            if mouchet21.commitment(owner.context, name, raw) != self.commitments[name]:
                raise self.refuse("bad_share", f"the share of {name!r} is not the one that it committed to")
        members = {name: self.commitments[name] for name in shares}
        following = AwaitCiphertexts(owner, self.secret, members)
        return Turn((owner.encrypted(self.common, shares, members),), following)


@dataclass(frozen=True, slots=True)
class AwaitCiphertexts(Forwarded):
    """Add up what exactly these owners signed, and switch it, smudged, to the analyst's key: once."""

    secret: Residues = field(repr=False)
    commitments: dict[str, bytes]
    name: ClassVar[str] = mouchet21.DECRYPT

    @property
    def part(self) -> int:
        return self.owner.scheme.parameters.vector_bytes + SIGNATURE_BYTES

    def close(self) -> Turn:
        owner = self.owner
        parts = self.parts()
        if set(parts) != set(self.commitments):
            raise self.refuse(
                "bad_participants", f"ciphertexts of {len(parts)} owners were forwarded, the set of {len(self.commitments)} was fixed"
            )
        total = self.verified_sum(parts, self.commitments)
        members = tuple(sorted(parts))
        owner.authorise(members)
        shares = owner.scheme.ring.to_bytes(owner.decryption_shares(total, self.secret))
        return Turn((Message(mouchet21.DECRYPT, owner.server, shares),), None, members)


def switch_share(scheme: Bfv, ciphertext: Residues, secret: Residues, recipient: Residues, random: Random) -> Residues:
    """PubKeySwitch (PETS'21, Protocol 4): an encryption of c1 s_i + smudging under the recipient's key (b, a)."""
    share = scheme.encrypt(recipient, flooding(scheme.ring, scheme.parameters.flooding_bits, random), random)
    share[0] = scheme.ring.multiply_add(ciphertext[1], secret, share[0])
    return share
