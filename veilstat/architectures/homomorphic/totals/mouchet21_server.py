"""The cloud's rounds: collect, check and forward what owners send, and add what it cannot read.

It holds no key. Whoever sends what the protocol forbids is named here, before any owner sees it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import ClassVar

from veilstat.architectures.relay import RESULT, encode_total
from veilstat.protocol.context import DIGEST_BYTES
from veilstat.protocol.faults import violation
from veilstat.protocol.identity import SIGNATURE_BYTES, Roster
from veilstat.protocol.session import Message, Turn

from ..messages import check_size, encode_parts, read_ciphertexts, read_share
from ..ring import Residues
from ..rounds import Collecting
from . import mouchet21
from .bfv import Bfv


@dataclass(frozen=True, slots=True)
class Server:
    """What the cloud knows before the session."""

    analyst: str
    roster: Roster
    participants: tuple[str, ...]
    threshold: int
    context: bytes
    scheme: Bfv

    def start(self) -> Turn:
        """Wait for commitments."""
        return Turn((), CollectCommitments(self, frozenset(self.participants)))


@dataclass(frozen=True, slots=True)
class Forwarding(Collecting):
    """A round that waits for one message of ``largest`` bytes from each owner, and forwards them all to each."""

    server: Server
    senders: frozenset[str]

    @property
    def quorum(self) -> int:
        """All of them, unless a round says otherwise."""
        return len(self.senders)

    @property
    def largest(self) -> int:
        raise NotImplementedError

    def check(self, sender: str, payload: memoryview) -> None:
        check_size(sender, payload, self.largest)
        self.check_content(sender, payload)

    def check_content(self, sender: str, payload: memoryview) -> None:
        """Refuse what does not fit what the sender said before."""
        raise NotImplementedError

    def forward(self, round_name: str) -> tuple[Message, ...]:
        """Everything that arrived, to everybody it came from."""
        payload = encode_parts(self.arrived)
        return tuple(Message(round_name, owner, payload) for owner in sorted(self.arrived))


@dataclass(frozen=True, slots=True)
class FromThreshold(Forwarding):
    """A round in which owners may drop out down to the threshold."""

    @property
    def quorum(self) -> int:
        return self.server.threshold


@dataclass(frozen=True, slots=True)
class CollectCommitments(FromThreshold):
    """Who commits may go on."""

    name: ClassVar[str] = mouchet21.COMMIT_KEY

    @property
    def largest(self) -> int:
        return mouchet21.COMMITMENT_BYTES

    def check_content(self, sender: str, payload: memoryview) -> None:
        statement = mouchet21.commitment_statement(self.server.context, bytes(payload[:DIGEST_BYTES]))
        if not self.server.roster.verifies(sender, statement, bytes(payload[DIGEST_BYTES:])):
            raise violation("bad_commitment", f"{sender!r} sent a commitment without its signature", sender)

    def close(self) -> Turn:
        commitments = {name: bytes(raw[:DIGEST_BYTES]) for name, raw in self.arrived.items()}
        return Turn(self.forward(mouchet21.REVEAL_KEY), CollectShares(self.server, frozenset(commitments), commitments))


@dataclass(frozen=True, slots=True)
class CollectShares(FromThreshold):
    """Who reveals a share is in the decrypting set; later losses end the query."""

    commitments: Mapping[str, bytes]
    name: ClassVar[str] = mouchet21.REVEAL_KEY

    @property
    def largest(self) -> int:
        return self.server.scheme.ring.element_bytes

    def check_content(self, sender: str, payload: memoryview) -> None:
        if mouchet21.commitment(self.server.context, sender, payload) != self.commitments[sender]:
            raise violation("bad_share", f"{sender!r} revealed a share of the key that it had not committed to", sender)
        read_share(self.server.scheme.ring, payload, sender)

    def close(self) -> Turn:
        members = {name: self.commitments[name] for name in self.arrived}
        return Turn(self.forward(mouchet21.INPUT), CollectInputs(self.server, frozenset(members), members))


@dataclass(frozen=True, slots=True)
class CollectInputs(Forwarding):
    """Collect everybody's ciphertexts; each owner will add them for itself too."""

    commitments: Mapping[str, bytes]
    name: ClassVar[str] = mouchet21.INPUT

    @property
    def largest(self) -> int:
        return self.server.scheme.parameters.vector_bytes + SIGNATURE_BYTES

    def check_content(self, sender: str, payload: memoryview) -> None:
        statement = mouchet21.input_statement(self.server.context, self.commitments, payload[:-SIGNATURE_BYTES])
        if not self.server.roster.verifies(sender, statement, bytes(payload[-SIGNATURE_BYTES:])):
            raise violation("bad_input", f"{sender!r} did not sign its ciphertexts for this key", sender)
        self._ciphertexts(sender, payload)

    def close(self) -> Turn:
        total = self.sum()
        return Turn(self.forward(mouchet21.DECRYPT), CollectDecryptions(self.server, self.senders, total, tuple(sorted(self.senders))))

    def sum(self) -> Residues:
        """The sum of all ciphertexts that arrived."""
        return reduce(self.server.scheme.ring.add, (self._ciphertexts(name, raw) for name, raw in self.arrived.items()))

    def _ciphertexts(self, sender: str, payload: memoryview) -> Residues:
        scheme = self.server.scheme
        return read_ciphertexts(scheme.ring, payload[:-SIGNATURE_BYTES], scheme.parameters.vector_bytes, sender)


@dataclass(frozen=True, slots=True)
class CollectDecryptions(Forwarding):
    """Add the shares of the decryption: (c0 + sum of h0, sum of h1) is a ciphertext under the analyst's key.

    ``contributors`` are those whose data the total holds.
    """

    total: Residues = field(repr=False)
    contributors: tuple[str, ...]
    shares: list[Residues] = field(default_factory=list, repr=False)
    name: ClassVar[str] = mouchet21.DECRYPT

    @property
    def largest(self) -> int:
        return self.server.scheme.parameters.vector_bytes

    def check_content(self, sender: str, payload: memoryview) -> None:
        self.shares.append(read_ciphertexts(self.server.scheme.ring, payload, self.largest, sender))

    def close(self) -> Turn:
        ring = self.server.scheme.ring
        switched = reduce(ring.add, self.shares)
        switched[:, 0] = ring.add(switched[:, 0], self.total[:, 0])
        result = Message(RESULT, self.server.analyst, encode_total(self.contributors, ring.to_bytes(switched)))
        return Turn((result,), None, self.contributors)
