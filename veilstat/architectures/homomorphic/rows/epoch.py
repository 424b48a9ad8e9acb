"""An epoch: owners make a key that nobody holds whole and encrypt their rows under it, once, for many queries.

Mouchet, Troncoso-Pastoriza, Bossuat, Hubaux (PETS'21), EncKeyGen and RelinKeyGen. Rounds, of which the cloud forwards
everybody's messages to everybody in the next, long ones in pieces (``pieces.py``):

1. epoch_commit: each owner commits to its shares, and declares its rows (rounded up) and its columns with missing values;
2. epoch_reveal: a share of the public key, and of round 1 of the relinearisation key;
3. epoch_upload: the share of round 2, and the ciphertexts of all rows, signed together with all commitments;
4. epoch_keep: each owner keeps what all signed, and names it;
5. epoch_done: all owners keep the same, and now the cloud does; nothing is sent.

All owners take part; the loss of one ends it. Common polynomials are expanded from the epoch's root.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce

import msgspec
import numpy as np

from veilstat.errors import VeilstatError
from veilstat.protocol.context import DIGEST_BYTES, digest
from veilstat.protocol.faults import Fault, ProtocolError, violation
from veilstat.protocol.identity import SIGNATURE_BYTES, Roster
from veilstat.schema.schema import Schema

from ..messages import read_elements
from ..ring import Residues
from .answers import Kept, Record
from .bgv import Bgv
from .layout import Layout, choose_layout
from .parameters import RowParameters

COMMIT, REVEAL, UPLOAD, KEEP, DONE = "epoch_commit", "epoch_reveal", "epoch_upload", "epoch_keep", "epoch_done"
ROUNDS = (COMMIT, REVEAL, UPLOAD, KEEP, DONE)
LARGEST_COMMITMENT = 1 << 16

Keep = Callable[[Kept], Kept]
"""Puts what a party keeps where it lasts and returns it from there; raises VeilstatError."""


class Commitment(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What an owner says first: a digest of its shares, and what everybody may know of its rows."""

    shares: bytes
    rows: int
    incomplete: list[str]
    signature: bytes


@dataclass(frozen=True)
class Terms:
    """What all parties know before an epoch: whose it is, and what its key must carry."""

    root: bytes
    owners: tuple[str, ...]
    roster: Roster
    schema: Schema
    parameters: RowParameters
    scheme: Bgv

    @cached_property
    def common(self) -> Residues:
        """The uniform polynomials that shares are made for: of the public key, then one for each digit; (1 + digits, primes, degree)."""
        return np.stack(
            [self.scheme.ring.uniform(digest("veilstat/epoch/common/1", self.root, bytes((place,)))) for place in range(self.polynomials)]
        )

    @property
    def polynomials(self) -> int:
        return 1 + self.parameters.primes

    @property
    def reveal_bytes(self) -> int:
        """Bytes of an owner's shares in round 2."""
        return (1 + 2 * self.parameters.primes) * self.parameters.share_bytes

    @property
    def relinearisation_bytes(self) -> int:
        """Bytes of an owner's share in round 3."""
        return self.parameters.primes * self.parameters.share_bytes

    def committed(self, owner: str, shares: bytes | memoryview) -> bytes:
        """What binds an owner to its shares."""
        return digest("veilstat/epoch/shares/1", self.root, owner.encode(), hashlib.sha256(shares).digest())

    def statement(self, commitment: Commitment) -> bytes:
        """What an owner signs first."""
        plain = msgspec.msgpack.encode((commitment.shares, commitment.rows, commitment.incomplete))
        return digest("veilstat/epoch/commit/1", self.root, plain)

    def check_commitment(self, owner: str, commitment: Commitment) -> None:
        """Refuse what is not the owner's, or does not fit the schema."""
        names = [column.name for column in self.schema if column.name in commitment.incomplete]
        fits = 0 < commitment.rows <= self.schema.max_rows and names == commitment.incomplete and len(commitment.shares) == DIGEST_BYTES
        if not fits or not self.roster.verifies(owner, self.statement(commitment), commitment.signature):
            raise violation(
                "bad_commitment", f"{owner!r} sent a commitment that is not signed, or declares rows that do not fit the schema", owner
            )


@dataclass(frozen=True)
class Agreed:
    """What is known once all owners have committed."""

    terms: Terms
    commitments: Mapping[str, Commitment]

    @cached_property
    def layout(self) -> Layout:
        """The same for all owners, from the longest table."""
        incomplete = frozenset(name for its in self.commitments.values() for name in its.incomplete)
        longest = max(its.rows for its in self.commitments.values())
        return choose_layout(self.terms.schema, incomplete, longest, self.terms.parameters.degree)

    @property
    def digest(self) -> bytes:
        """What names all commitments."""
        parts = [part for name in sorted(self.commitments) for part in (name.encode(), self.terms.statement(self.commitments[name]))]
        return digest("veilstat/epoch/agreed/1", self.terms.root, *parts)

    def upload_bytes(self, owner: str) -> int:
        """Bytes of an owner's message in round 3."""
        ciphertexts = self.layout.blocks(self.commitments[owner].rows) * self.layout.groups
        return self.terms.relinearisation_bytes + ciphertexts * self.terms.parameters.ciphertext_bytes + SIGNATURE_BYTES

    @property
    def uploads_bytes(self) -> int:
        """Bytes of all owners' messages in round 3."""
        return sum(map(self.upload_bytes, self.commitments))

    def upload_statement(self, upload: bytearray | memoryview) -> bytes:
        """What an owner signs with its ciphertexts: them, and whose shares make the key that they are encrypted under."""
        return digest("veilstat/epoch/upload/1", self.digest, hashlib.sha256(upload).digest())

    def shares(self, owner: str, raw: memoryview) -> Residues:
        """What an owner revealed, (1 + 2 digits, primes, degree); refuses shares that it had not committed to."""
        if self.terms.committed(owner, raw) != self.commitments[owner].shares:
            raise violation("bad_share", f"{owner!r} revealed shares of a key that it had not committed to", owner)
        return read_elements(self.terms.scheme.ring, raw, owner)

    def check_upload(self, owner: str, raw: memoryview) -> bytes:
        """What the owner signed; refuses ciphertexts that are not whole, not signed, or no ciphertexts."""
        if len(raw) != self.upload_bytes(owner):
            raise violation("malformed", f"{owner!r} uploaded {len(raw):,} bytes, {self.upload_bytes(owner):,} were declared", owner)
        statement = self.upload_statement(raw[:-SIGNATURE_BYTES])
        if not self.terms.roster.verifies(owner, statement, bytes(raw[-SIGNATURE_BYTES:])):
            raise violation("bad_input", f"{owner!r} did not sign its ciphertexts for this key", owner)
        # one polynomial at a time, to hold no second copy of an upload
        size = self.terms.parameters.share_bytes
        for start in range(0, len(raw) - SIGNATURE_BYTES, size):
            read_elements(self.terms.scheme.ring, raw[start : start + size], owner)
        return statement

    def record(self, revealed: Residues, uploads: Mapping[str, memoryview], statements: Mapping[str, bytes]) -> Record:
        """The epoch, from the sums of what was revealed, checked uploads, and what their owners signed."""
        ring, end = self.terms.scheme.ring, self.terms.relinearisation_bytes
        parts = [part for name in sorted(statements) for part in (name.encode(), statements[name])]
        second = reduce(ring.add, (ring.from_bytes(raw[:end]) for raw in uploads.values()))
        return Record(
            root=self.terms.root,
            identity=digest("veilstat/epoch/identity/1", self.digest, *parts),
            rows={name: its.rows for name, its in self.commitments.items()},
            incomplete=sorted({name for its in self.commitments.values() for name in its.incomplete}),
            key=memoryview(ring.to_bytes(np.stack([revealed[0], self.terms.common[0]]))),
            relinearisation=memoryview(ring.to_bytes(np.concatenate([second, revealed[-self.terms.parameters.primes :]]))),
            uploads={name: raw[end:-SIGNATURE_BYTES] for name, raw in uploads.items()},
        )


def stored(keep: Keep, kept: Kept) -> Kept:
    """What a party keeps, where it lasts; what goes wrong there ends the session."""
    try:
        return keep(kept)
    except VeilstatError as error:
        raise ProtocolError(Fault.of(error)) from None
