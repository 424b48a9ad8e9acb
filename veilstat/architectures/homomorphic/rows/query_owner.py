"""The owner's rounds of a query over encrypted rows: commit to an encryption of zero, reveal it, help to decrypt once.

Before it makes any share an owner computes the approved circuit itself, over the uploads that all owners signed, and
counts the answers. A share of the key is used for what it computed, whatever the cloud says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import ClassVar

import numpy as np

from veilstat.architectures.interface import Authorise, Noise, Random
from veilstat.arithmetic.agreement import seal_to
from veilstat.protocol.context import DIGEST_BYTES
from veilstat.protocol.identity import Identity
from veilstat.protocol.session import Message, Turn

from ..messages import decode_parts, parts_size, read_ciphertexts
from ..ring import Residues
from ..rounds import AllForwarded
from .answers import Answer, Evaluation
from .query import COMMIT_ZERO, COMMITMENT_BYTES, DECRYPT, REVEAL_ZERO, RowQuery


@dataclass(frozen=True, slots=True)
class DecryptingOwner:
    """What an owner brings to a query; ``recipient`` is the analyst's X25519 key.

    ``authorise`` is asked before any share is made, and raises to refuse. ``noise`` is drawn after that, for each number that
    the plan opens, and a multiple of what the number is divided by.
    """

    identity: Identity
    query: RowQuery
    evaluation: Evaluation
    answers: tuple[Answer, ...]
    secret: Residues = field(repr=False)
    recipient: bytes
    random: Random = field(repr=False)
    authorise: Authorise = field(repr=False)
    noise: Noise = field(repr=False)

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    def server(self) -> str:
        return self.query.server

    @property
    def company(self) -> tuple[str, ...]:
        return self.query.owners

    def start(self) -> Turn:
        """Commit to a fresh encryption of zero."""
        scheme, record, query = self.evaluation.scheme, self.evaluation.record, self.query
        key = scheme.ring.from_bytes(record.key)
        zero = scheme.ring.to_bytes(scheme.encrypt(key, np.zeros(scheme.ring.degree, dtype=np.int64), self.random))
        committed = query.commitment(self.name, zero)
        signature = self.identity.sign(query.statement(record.identity, committed))
        return Turn((Message(COMMIT_ZERO, query.server, record.identity + committed + signature),), AwaitCommitments(self, zero, committed))

    def share(self, totals: Mapping[tuple[int, int], Residues], zero: Residues) -> bytes:
        """c1 s_i and the second half of zero times s_i, at the answers, noised and smudged, sealed to the analyst and signed."""
        scheme, query = self.evaluation.scheme, self.query
        halves = {pair: scheme.ring.multiply(total[1], self.secret) for pair, total in totals.items()}
        values = self.evaluation.combined(self.answers, halves, scheme.ring.multiply(zero[1], self.secret))
        noise = [int(drawn) // its.content for drawn, its in zip(self.noise(len(values)), query.opened, strict=True)]
        smudged = [(value + added + self._flooding()) % scheme.ring.modulus for value, added in zip(values, noise, strict=True)]
        known = self.evaluation.combined(self.answers, {pair: total[0] for pair, total in totals.items()}, zero[0])
        plain = query.digest_of(query.encode(known)) + query.encode(smudged)
        box = seal_to(self.recipient, query.context, query.label(self.name), plain, self.random)
        return box + self.identity.sign(query.share_statement(box))

    def _flooding(self) -> int:
        """T times an integer uniform in [-2^b, 2^b)."""
        parameters = self.query.parameters
        bits = parameters.flooding_bits + 1
        drawn = int.from_bytes(self.random(-(-bits // 8)), "little") % (1 << bits)
        return (drawn - (1 << (bits - 1))) << parameters.plaintext_bits


@dataclass(frozen=True, slots=True)
class _AllForwarded(AllForwarded):
    owner: DecryptingOwner

    def parts(self, payload: memoryview, size: int) -> dict[str, memoryview]:
        """What the cloud forwarded, of all owners."""
        parts = decode_parts(payload, size, self.owner.server)
        self.check_company(parts)
        return parts


@dataclass(frozen=True, slots=True)
class AwaitCommitments(_AllForwarded):
    """Everybody has committed: reveal."""

    zero: bytes = field(repr=False)
    committed: bytes
    name: ClassVar[str] = REVEAL_ZERO

    @property
    def largest(self) -> int:
        return parts_size(self.owner.query.owners, COMMITMENT_BYTES)

    def close(self) -> Turn:
        query, epoch = self.owner.query, self.owner.evaluation.record.identity
        commitments = {name: query.check_commitment(name, epoch, raw) for name, raw in self.parts(self.inbox[0], COMMITMENT_BYTES).items()}
        if commitments[self.owner.name] != self.committed:
            raise self.refuse("bad_commitment", "its own commitment came back changed")
        return Turn((Message(REVEAL_ZERO, query.server, self.zero),), AwaitZeros(self.owner, commitments))


@dataclass(frozen=True, slots=True)
class AwaitZeros(_AllForwarded):
    """Everybody has revealed: compute the circuit, and decrypt its answers once."""

    commitments: Mapping[str, bytes]
    name: ClassVar[str] = DECRYPT

    @property
    def largest(self) -> int:
        return DIGEST_BYTES + parts_size(self.owner.query.owners, self.owner.query.parameters.ciphertext_bytes)

    def close(self) -> Turn:
        owner, query = self.owner, self.owner.query
        scheme, size = owner.evaluation.scheme, query.parameters.ciphertext_bytes
        claimed, zeros = self.inbox[0][:DIGEST_BYTES], self.parts(self.inbox[0][DIGEST_BYTES:], size)
        for name, raw in zeros.items():
            query.check_zero(name, raw, self.commitments[name])
        zero = reduce(scheme.ring.add, (read_ciphertexts(scheme.ring, raw, size, query.server)[0] for raw in zeros.values()))
        totals = owner.evaluation.totals(owner.answers)
        if owner.evaluation.digest(totals) != claimed:
            raise self.refuse(
                "bad_history", "the cloud computed something else than the approved circuit over the uploads that owners signed"
            )
        owner.authorise(query.owners)
        return Turn((Message(DECRYPT, query.server, owner.share(totals, zero)),), None, query.owners)
