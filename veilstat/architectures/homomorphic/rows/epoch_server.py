"""The cloud's rounds of an epoch: collect, check and forward what owners send, and keep the ciphertexts.

It holds no key. Whoever sends what the protocol forbids is named here, before any owner sees it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from typing import ClassVar

import msgspec

from veilstat.protocol.codec import decode
from veilstat.protocol.session import Message, Turn

from ..messages import check_size, encode_parts
from ..ring import Residues
from ..rounds import FromAll
from .answers import Kept
from .epoch import COMMIT, KEEP, LARGEST_COMMITMENT, REVEAL, UPLOAD, Agreed, Commitment, Keep, Terms, kept


@dataclass(frozen=True, slots=True)
class KeepingServer:
    """What the cloud knows before an epoch; ``everyone`` is the name that reaches all owners."""

    terms: Terms
    everyone: str
    keep: Keep = field(repr=False)

    @property
    def company(self) -> tuple[str, ...]:
        return self.terms.owners

    def start(self) -> Turn:
        """Wait for commitments."""
        return Turn((), CollectCommitments(self))


@dataclass(frozen=True, slots=True)
class _FromAll(FromAll):
    server: KeepingServer

    def tell(self, round_name: str, payload: bytes) -> tuple[Message, ...]:
        """The same to all owners."""
        return (Message(round_name, self.server.everyone, payload),)


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
        return Turn(self.tell(REVEAL, msgspec.msgpack.encode(commitments)), following)


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
        following = CollectUploads(self.server, self.agreed, reduce(self.server.terms.scheme.ring.add, self.revealed))
        return Turn(self.tell(UPLOAD, encode_parts(self.arrived)), following)


@dataclass(frozen=True, slots=True)
class CollectUploads(_FromAll):
    """Keep everybody's ciphertexts, and forward them."""

    agreed: Agreed
    revealed: Residues = field(repr=False)
    statements: dict[str, bytes] = field(default_factory=dict)
    name: ClassVar[str] = UPLOAD

    @property
    def largest(self) -> int:
        return max(map(self.agreed.upload_bytes, self.server.terms.owners))

    def check(self, sender: str, payload: memoryview) -> None:
        self.statements[sender] = self.agreed.check_upload(sender, payload)

    def close(self) -> Turn:
        record = kept(self.server.keep, self.agreed.record(self.revealed, self.arrived, self.statements))
        return Turn(self.tell(KEEP, msgspec.msgpack.encode(dict(sorted(self.arrived.items())))), None, Kept(record))
