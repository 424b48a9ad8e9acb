"""The cloud's rounds of a query over encrypted rows: products, and forwarding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import ClassVar

from veilstat.architectures.relay import RESULT, encode_total
from veilstat.protocol.session import Message, Turn

from ..messages import check_size, encode_parts, read_ciphertexts
from ..ring import Residues
from ..rounds import FromAll
from .answers import Answer, Evaluation
from .query import COMMIT_ZERO, COMMITMENT_BYTES, DECRYPT, REVEAL_ZERO, RowQuery


@dataclass(frozen=True, slots=True)
class AnsweringServer:
    """What the cloud knows before a query."""

    query: RowQuery
    evaluation: Evaluation
    answers: tuple[Answer, ...]

    @property
    def company(self) -> tuple[str, ...]:
        return self.query.owners

    def start(self) -> Turn:
        """Wait for commitments."""
        return Turn((), CollectCommitments(self))


@dataclass(frozen=True, slots=True)
class _FromAll(FromAll):
    """Each message has ``largest`` bytes."""

    server: AnsweringServer

    @property
    def largest(self) -> int:
        raise NotImplementedError

    def check(self, sender: str, payload: memoryview) -> None:
        check_size(sender, payload, self.largest)

    def tell(self, round_name: str, payload: bytes) -> tuple[Message, ...]:
        """The same message to all owners."""
        return tuple(Message(round_name, owner, payload) for owner in sorted(self.arrived))


@dataclass(frozen=True, slots=True)
class CollectCommitments(_FromAll):
    """Forward everybody's commitment."""

    name: ClassVar[str] = COMMIT_ZERO

    @property
    def largest(self) -> int:
        return COMMITMENT_BYTES

    def check(self, sender: str, payload: memoryview) -> None:
        check_size(sender, payload, self.largest)
        self.server.query.check_commitment(sender, self.server.evaluation.record.identity, payload)

    def close(self) -> Turn:
        query, epoch = self.server.query, self.server.evaluation.record.identity
        commitments = {name: query.check_commitment(name, epoch, raw) for name, raw in self.arrived.items()}
        return Turn(self.tell(REVEAL_ZERO, encode_parts(self.arrived)), CollectZeros(self.server, commitments))


@dataclass(frozen=True, slots=True)
class CollectZeros(_FromAll):
    """Compute the circuit; forward all encryptions of zero and what came out."""

    commitments: Mapping[str, bytes]
    name: ClassVar[str] = REVEAL_ZERO

    @property
    def largest(self) -> int:
        return self.server.query.parameters.ciphertext_bytes

    def check(self, sender: str, payload: memoryview) -> None:
        check_size(sender, payload, self.largest)
        self.server.query.check_zero(sender, payload, self.commitments[sender])
        self._read(sender, payload)

    def close(self) -> Turn:
        evaluation, answers = self.server.evaluation, self.server.answers
        zero = reduce(evaluation.scheme.ring.add, (self._read(name, raw) for name, raw in self.arrived.items()))
        totals = evaluation.totals(answers)
        known = evaluation.combined(answers, {pair: total[0] for pair, total in totals.items()}, zero[0])
        return Turn(self.tell(DECRYPT, evaluation.digest(totals) + encode_parts(self.arrived)), CollectShares(self.server, known))

    def _read(self, sender: str, payload: memoryview) -> Residues:
        ciphertext: Residues = read_ciphertexts(self.server.evaluation.scheme.ring, payload, self.largest, sender)[0]
        return ciphertext


@dataclass(frozen=True, slots=True)
class CollectShares(_FromAll):
    """Hand the analyst its part, and everybody's sealed shares."""

    known: list[int] = field(repr=False)
    name: ClassVar[str] = DECRYPT

    @property
    def largest(self) -> int:
        return self.server.query.share_bytes

    def close(self) -> Turn:
        query = self.server.query
        raw = query.encode(self.known) + encode_parts(self.arrived)
        return Turn((Message(RESULT, query.analyst, encode_total(query.owners, raw)),), None, query.owners)
