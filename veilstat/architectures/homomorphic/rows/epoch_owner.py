"""The owner's rounds of an epoch: commit, reveal, encrypt all rows, and keep what everybody signed.

Each round is consumed into the next. Shares of round 2 of the relinearisation key depend on what others revealed, so
an owner checks all of it against the commitments first: for sums of somebody's choice they would give the key away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from veilstat.architectures.interface import Random
from veilstat.protocol.codec import decode
from veilstat.protocol.identity import Identity
from veilstat.protocol.session import Message, Turn
from veilstat.schema.columns import Codes

from ..ring import Residues
from ..rounds import AllForwarded
from .answers import Kept
from .epoch import COMMIT, DONE, KEEP, LARGEST_COMMITMENT, REVEAL, UPLOAD, Agreed, Commitment, Keep, Terms, stored
from .pieces import PieceFromServer, split


@dataclass(frozen=True, slots=True)
class EncryptingOwner:
    """What an owner brings to an epoch: its table in the clear, ``count`` rows of which ``rows`` are declared."""

    identity: Identity
    server: str
    terms: Terms
    columns: Mapping[str, Codes] = field(repr=False)
    count: int
    rows: int
    random: Random = field(repr=False)
    keep: Keep = field(repr=False)

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    def company(self) -> tuple[str, ...]:
        return self.terms.owners

    def start(self) -> Turn:
        """Commit to shares of a fresh key, and declare what the ciphertexts will show anyway."""
        terms, scheme, random = self.terms, self.terms.scheme, self.random
        drawn = scheme.secret(random)
        secret, ephemeral = scheme.ring.from_integers(drawn), scheme.ring.from_integers(scheme.secret(random))
        public = scheme.public_share(terms.common[0], secret, random)
        first = scheme.relinearisation_first(terms.common[1:], secret, ephemeral, random)
        shares = scheme.ring.to_bytes(np.concatenate([public[None], *first]))
        incomplete = [column.name for column in terms.schema if not self.columns[column.name][1].all()]
        unsigned = Commitment(terms.committed(self.identity.name, shares), self.rows, incomplete, b"")
        commitment = Commitment(unsigned.shares, self.rows, incomplete, self.identity.sign(terms.statement(unsigned)))
        following = AwaitCommitments(self, drawn.astype(np.int8), ephemeral, shares, commitment)
        return Turn((Message(COMMIT, self.server, msgspec.msgpack.encode(commitment)),), following)

    def ciphertexts(self, agreed: Agreed, key: Residues) -> Iterator[bytes]:
        """All rows, encrypted."""
        scheme = self.terms.scheme
        for message in agreed.layout.messages(self.columns, self.count, self.rows, self.terms.parameters.degree):
            yield scheme.ring.to_bytes(scheme.encrypt(key, message, self.random))


@dataclass(frozen=True, slots=True)
class _AllForwarded(AllForwarded):
    owner: EncryptingOwner


@dataclass(frozen=True, slots=True)
class AwaitCommitments(_AllForwarded):
    """Everybody has committed: reveal the shares."""

    secret: npt.NDArray[np.int8] = field(repr=False)
    ephemeral: Residues = field(repr=False)
    shares: bytes = field(repr=False)
    own: Commitment
    name: ClassVar[str] = REVEAL

    @property
    def largest(self) -> int:
        return LARGEST_COMMITMENT * len(self.owner.terms.owners)

    def close(self) -> Turn:
        commitments = decode(self.inbox[0], dict[str, Commitment], self.owner.server)
        self.check_company(commitments)
        for name, commitment in commitments.items():
            self.owner.terms.check_commitment(name, commitment)
        if commitments[self.owner.name] != self.own:
            raise self.refuse("bad_commitment", "its own commitment came back changed")
        following = AwaitShares(self.owner, self.secret, self.ephemeral, Agreed(self.owner.terms, commitments))
        return Turn((Message(REVEAL, self.owner.server, self.shares),), following)


@dataclass(frozen=True, slots=True)
class _Piece(PieceFromServer):
    owner: EncryptingOwner


@dataclass(frozen=True, slots=True)
class AwaitShares(_Piece):
    """Everybody has revealed: make the share of round 2, and encrypt under the sum."""

    secret: npt.NDArray[np.int8] = field(repr=False)
    ephemeral: Residues = field(repr=False)
    agreed: Agreed
    round_name: ClassVar[str] = UPLOAD

    @property
    def length(self) -> int:
        return self.owner.terms.reveal_bytes * len(self.owner.company)

    def follow(self, whole: memoryview) -> Turn:
        owner, terms, agreed = self.owner, self.owner.terms, self.agreed
        shares = split(whole, ((name, terms.reveal_bytes) for name in self.owner.company))
        revealed = reduce(terms.scheme.ring.add, (agreed.shares(name, raw) for name, raw in shares.items()))
        first = revealed[1:].reshape(2, terms.parameters.primes, terms.parameters.primes, -1)
        secret = terms.scheme.ring.from_integers(self.secret.astype(np.int64))
        second = terms.scheme.relinearisation_second(first, secret, self.ephemeral, owner.random)
        key = np.stack([revealed[0], terms.common[0]])
        upload = bytearray(terms.scheme.ring.to_bytes(second))
        for ciphertext in owner.ciphertexts(agreed, key):
            upload += ciphertext
        upload += owner.identity.sign(agreed.upload_statement(upload))
        return Turn((Message(self.name, owner.server, memoryview(upload)),), AwaitUploads(owner, self.secret, agreed, revealed))


@dataclass(frozen=True, slots=True)
class AwaitUploads(_Piece):
    """Keep what everybody signed: whatever is decrypted later is computed from this, and from nothing else."""

    secret: npt.NDArray[np.int8] = field(repr=False)
    agreed: Agreed
    revealed: Residues = field(repr=False)
    round_name: ClassVar[str] = KEEP

    @property
    def length(self) -> int:
        return self.agreed.uploads_bytes

    def follow(self, whole: memoryview) -> Turn:
        uploads = split(whole, ((name, self.agreed.upload_bytes(name)) for name in self.owner.company))
        statements = {name: self.agreed.check_upload(name, raw) for name, raw in uploads.items()}
        record = self.agreed.record(self.revealed, uploads, statements)
        kept = stored(self.owner.keep, Kept(record, self.secret))
        return Turn((Message(self.name, self.owner.server, record.identity),), AwaitEnd(self.owner, kept))


@dataclass(frozen=True, slots=True)
class AwaitEnd(_AllForwarded):
    """Everybody keeps the same."""

    kept: Kept = field(repr=False)
    name: ClassVar[str] = DONE
    largest: ClassVar[int] = 0

    def close(self) -> Turn:
        return Turn((), None, self.kept)
