"""The cloud's rounds of an epoch: collect, check and forward what owners send, and keep the ciphertexts.

It holds no key. Whoever sends what the protocol forbids is named here, before any owner sees it. What it keeps takes
the place of a former epoch once all owners keep it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from typing import ClassVar

from veilstat.protocol.context import DIGEST_BYTES
from veilstat.protocol.faults import violation
from veilstat.protocol.session import Message, Turn

from .all_rounds import FromAll, check_size
from .epoch import COMMIT, DONE, KEEP, LARGEST_COMMITMENT, REVEAL, UPLOAD, Agreed, Commitment, Keep, Terms, decode, encode, stored
from .pieces import PieceToAll
from .ring import Residues
from .row_answers import Kept, Record


@dataclass(frozen=True, slots=True)
class KeepingCloud:
    """What the cloud knows before an epoch; ``everyone`` is the name that reaches all owners."""

    terms: Terms
    everyone: str
    keep: Keep = field(repr=False)

    def start(self) -> Turn:
        """Wait for commitments."""
        return Turn((), CollectCommitments(self))


@dataclass(frozen=True, slots=True)
class _FromAll(FromAll):
    cloud: KeepingCloud

    @property
    def company(self) -> tuple[str, ...]:
        return self.cloud.terms.owners

    @property
    def everyone(self) -> str:
        return self.cloud.everyone

    @property
    def in_order(self) -> tuple[memoryview, ...]:
        """What arrived, by owner."""
        return tuple(self.arrived[name] for name in self.company)


@dataclass(frozen=True, slots=True)
class CollectCommitments(_FromAll):
    """Forward everybody's commitment."""

    name: ClassVar[str] = COMMIT
    largest: ClassVar[int] = LARGEST_COMMITMENT

    def check(self, sender: str, payload: memoryview) -> None:
        self.cloud.terms.check_commitment(sender, decode(payload, Commitment, sender))

    def close(self) -> Turn:
        commitments = {name: decode(raw, Commitment, name) for name, raw in sorted(self.arrived.items())}
        following = CollectShares(self.cloud, Agreed(self.cloud.terms, commitments))
        return Turn((Message(REVEAL, self.everyone, encode(commitments)),), following)


@dataclass(frozen=True, slots=True)
class CollectShares(_FromAll):
    """Forward everybody's shares."""

    agreed: Agreed
    revealed: list[Residues] = field(default_factory=list, repr=False)
    name: ClassVar[str] = REVEAL

    @property
    def largest(self) -> int:
        return self.cloud.terms.reveal_bytes

    def check(self, sender: str, payload: memoryview) -> None:
        check_size(sender, payload, self.largest)
        self.revealed.append(self.agreed.shares(sender, payload))

    def close(self) -> Turn:
        revealed = reduce(self.cloud.terms.scheme.ring.add, self.revealed)
        return CollectUploads(self.cloud, self.agreed, revealed, parts=self.in_order).begin()


@dataclass(frozen=True, slots=True)
class CollectUploads(_FromAll, PieceToAll):
    """Forward everybody's ciphertexts."""

    agreed: Agreed
    revealed: Residues = field(repr=False)
    statements: dict[str, bytes] = field(default_factory=dict)
    round_name: ClassVar[str] = UPLOAD

    @property
    def largest_answer(self) -> int:
        return max(map(self.agreed.upload_bytes, self.cloud.terms.owners))

    def check_answer(self, sender: str, payload: memoryview) -> None:
        self.statements[sender] = self.agreed.check_upload(sender, payload)

    def follow(self) -> Turn:
        record = self.agreed.record(self.revealed, self.arrived, self.statements)
        return CollectReceipts(self.cloud, record, parts=self.in_order).begin()


@dataclass(frozen=True, slots=True)
class CollectReceipts(_FromAll, PieceToAll):
    """Keep what all owners keep."""

    record: Record = field(repr=False)
    round_name: ClassVar[str] = KEEP
    largest_answer: ClassVar[int] = DIGEST_BYTES

    def check_answer(self, sender: str, payload: memoryview) -> None:
        if bytes(payload) != self.record.identity:
            raise violation("epoch_differs", f"{sender!r} keeps other encrypted rows than were forwarded to it", sender)

    def follow(self) -> Turn:
        return Turn((Message(DONE, self.everyone, b""),), None, stored(self.cloud.keep, Kept(self.record)))
