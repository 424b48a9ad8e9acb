"""The cloud's rounds of an epoch: collect, check and forward what owners send, and keep the ciphertexts.

It holds no key. Whoever sends what the protocol forbids is named here, before any owner sees it. What it keeps takes
the place of a former epoch once all owners keep it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import ClassVar

import msgspec

from veilstat.protocol.codec import decode
from veilstat.protocol.context import DIGEST_BYTES
from veilstat.protocol.faults import violation
from veilstat.protocol.session import Message, Turn

from ..messages import check_size
from ..ring import Residues
from ..rounds import FromAll
from .answers import Kept, Record
from .epoch import COMMIT, DONE, KEEP, LARGEST_COMMITMENT, REVEAL, UPLOAD, Agreed, Commitment, Keep, Terms, stored
from .pieces import PieceToAll


@dataclass(frozen=True, slots=True)
class KeepingServer:
    """What the cloud knows before an epoch; ``everyone`` is the name that reaches all owners."""

    terms: Terms
    everyone: str
    keep: Keep = field(repr=False)

    @property
    def company(self) -> tuple[str, ...]:
        return self.terms.owners

    def in_order(self, arrived: Mapping[str, memoryview]) -> tuple[memoryview, ...]:
        """What owners sent, as it is forwarded."""
        return tuple(arrived[name] for name in self.company)

    def start(self) -> Turn:
        """Wait for commitments."""
        return Turn((), CollectCommitments(self))


@dataclass(frozen=True, slots=True)
class _FromAll(FromAll):
    server: KeepingServer


@dataclass(frozen=True, slots=True)
class CollectCommitments(_FromAll):
    """Forward everybody's commitment."""

    name: ClassVar[str] = COMMIT
    largest: ClassVar[int] = LARGEST_COMMITMENT

    def check(self, sender: str, payload: memoryview) -> None:
        self.server.terms.check_commitment(sender, decode(payload, Commitment, sender))

    def close(self) -> Turn:
        commitments = {name: decode(raw, Commitment, name) for name, raw in sorted(self.arrived.items())}
        following = CollectShares(self.server, Agreed(self.server.terms, commitments))
        return Turn((Message(REVEAL, self.server.everyone, msgspec.msgpack.encode(commitments)),), following)


@dataclass(frozen=True, slots=True)
class CollectShares(_FromAll):
    """Forward everybody's shares."""

    agreed: Agreed
    revealed: list[Residues] = field(default_factory=list, repr=False)
    name: ClassVar[str] = REVEAL

    @property
    def largest(self) -> int:
        return self.server.terms.reveal_bytes

    def check(self, sender: str, payload: memoryview) -> None:
        check_size(sender, payload, self.largest)
        self.revealed.append(self.agreed.shares(sender, payload))

    def close(self) -> Turn:
        revealed = reduce(self.server.terms.scheme.ring.add, self.revealed)
        return CollectUploads(self.server, self.agreed, revealed, parts=self.server.in_order(self.arrived)).begin()


@dataclass(frozen=True, slots=True)
class _Piece(PieceToAll):
    server: KeepingServer


@dataclass(frozen=True, slots=True)
class CollectUploads(_Piece):
    """Forward everybody's ciphertexts."""

    agreed: Agreed
    revealed: Residues = field(repr=False)
    statements: dict[str, bytes] = field(default_factory=dict)
    round_name: ClassVar[str] = UPLOAD

    @property
    def largest_answer(self) -> int:
        return max(map(self.agreed.upload_bytes, self.server.terms.owners))

    def check_answer(self, sender: str, payload: memoryview) -> None:
        self.statements[sender] = self.agreed.check_upload(sender, payload)

    def follow(self) -> Turn:
        record = self.agreed.record(self.revealed, self.arrived, self.statements)
        return CollectReceipts(self.server, record, parts=self.server.in_order(self.arrived)).begin()


@dataclass(frozen=True, slots=True)
class CollectReceipts(_Piece):
    """Keep what all owners keep."""

    record: Record = field(repr=False)
    round_name: ClassVar[str] = KEEP
    largest_answer: ClassVar[int] = DIGEST_BYTES

    def check_answer(self, sender: str, payload: memoryview) -> None:
        if bytes(payload) != self.record.identity:
            raise violation("epoch_differs", f"{sender!r} keeps other encrypted rows than were forwarded to it", sender)

    def follow(self) -> Turn:
        return Turn((Message(DONE, self.server.everyone, b""),), None, stored(self.server.keep, Kept(self.record)))
