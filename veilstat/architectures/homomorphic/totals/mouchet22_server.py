"""The cloud's rounds where t of n decrypt: it forwards sealed shares, and proposes who decrypts among those who are ready."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from veilstat.protocol.context import DIGEST_BYTES
from veilstat.protocol.faults import violation
from veilstat.protocol.identity import SIGNATURE_BYTES
from veilstat.protocol.session import Message, Turn

from ..messages import encode_parts, read_share
from ..ring import Residues
from . import mouchet21, mouchet22
from .mouchet21_server import CollectDecryptions, CollectInputs, Forwarding, FromThreshold, Server


@dataclass(frozen=True, slots=True)
class DealingServer(Server):
    """What the cloud knows before the session; exactly ``threshold`` owners decrypt."""

    def start(self) -> Turn:
        """Wait for commitments."""
        return Turn((), CollectChannels(self, frozenset(self.participants)))


@dataclass(frozen=True, slots=True)
class CollectChannels(FromThreshold):
    """Commitments to shares of the public key, with the keys that shares of the secret key are sealed to."""

    name: ClassVar[str] = mouchet21.COMMIT_KEY

    @property
    def largest(self) -> int:
        return mouchet22.COMMITMENT_BYTES

    def check_content(self, sender: str, payload: memoryview) -> None:
        committed, channel, signature = mouchet22.split_commitment(payload)
        if not self.server.roster.verifies(sender, mouchet22.commitment_statement(self.server.context, committed, channel), signature):
            raise violation("bad_commitment", f"{sender!r} sent a commitment without its signature", sender)

    def close(self) -> Turn:
        commitments = {name: mouchet22.split_commitment(raw)[0] for name, raw in self.arrived.items()}
        return Turn(self.forward(mouchet21.REVEAL_KEY), CollectDealings(self.server, frozenset(commitments), commitments))


@dataclass(frozen=True, slots=True)
class CollectDealings(FromThreshold):
    """Who reveals and deals makes the key; each owner gets the others' shares and what they sealed for it."""

    commitments: Mapping[str, bytes]
    name: ClassVar[str] = mouchet21.REVEAL_KEY

    @property
    def share_bytes(self) -> int:
        return self.server.scheme.ring.element_bytes

    @property
    def largest(self) -> int:
        return self.share_bytes + (len(self.senders) - 1) * mouchet22.box_bytes(self.share_bytes)

    def check_content(self, sender: str, payload: memoryview) -> None:
        share = payload[: self.share_bytes]
        if mouchet21.commitment(self.server.context, sender, share) != self.commitments[sender]:
            raise violation("bad_share", f"{sender!r} revealed a share of the key that it had not committed to", sender)
        read_share(self.server.scheme.ring, share, sender)

    def close(self) -> Turn:
        members = {name: self.commitments[name] for name in self.arrived}
        sent = []
        for holder in sorted(members):
            parts = {dealer: self._part(dealer, holder) for dealer in members if dealer != holder}
            sent.append(Message(mouchet21.INPUT, holder, encode_parts(parts)))
        return Turn(tuple(sent), CollectContributions(self.server, frozenset(members), members))

    def _part(self, dealer: str, holder: str) -> bytes:
        size, payload = mouchet22.box_bytes(self.share_bytes), self.arrived[dealer]
        start = self.share_bytes + size * sorted(self.senders - {dealer}).index(holder)
        return b"".join((payload[: self.share_bytes], payload[start : start + size]))


@dataclass(frozen=True, slots=True)
class CollectContributions(CollectInputs):
    """Whose ciphertexts arrive is in the sum, whether it takes part in decrypting or not."""

    @property
    def quorum(self) -> int:
        return self.server.threshold

    def close(self) -> Turn:
        total = self.sum()
        statement = mouchet22.sum_statement(self.server.context, self.arrived, self.server.scheme.ring.to_bytes(total))
        return Turn(self.forward(mouchet22.READY), CollectReady(self.server, frozenset(self.arrived), total, statement))


@dataclass(frozen=True, slots=True)
class CollectReady(FromThreshold):
    """The first t by name of those who added up the same are to decrypt."""

    total: Residues = field(repr=False)
    statement: bytes
    name: ClassVar[str] = mouchet22.READY

    @property
    def largest(self) -> int:
        return DIGEST_BYTES

    def check_content(self, sender: str, payload: memoryview) -> None:
        if bytes(payload) != self.statement:
            raise violation("bad_sum", f"{sender!r} is ready to decrypt another sum than the one that was forwarded", sender)

    def close(self) -> Turn:
        decrypting = sorted(self.arrived)[: self.server.threshold]
        payload = encode_parts(dict.fromkeys(decrypting, b""))
        agreed = mouchet22.agreement_statement(self.statement, decrypting)
        sent = tuple(Message(mouchet22.AGREE, owner, payload) for owner in sorted(self.arrived))
        following = CollectAgreements(self.server, frozenset(decrypting), self.total, agreed, tuple(sorted(self.senders)))
        return Turn(sent, following)


@dataclass(frozen=True, slots=True)
class CollectAgreements(Forwarding):
    """All of the set sign it; from here on nobody of it may be lost."""

    total: Residues = field(repr=False)
    agreed: bytes
    contributors: tuple[str, ...]
    name: ClassVar[str] = mouchet22.AGREE

    @property
    def largest(self) -> int:
        return SIGNATURE_BYTES

    def check_content(self, sender: str, payload: memoryview) -> None:
        if not self.server.roster.verifies(sender, self.agreed, bytes(payload)):
            raise violation("bad_agreement", f"{sender!r} did not sign the set that is to decrypt", sender)

    def close(self) -> Turn:
        following = CollectDecryptions(self.server, self.senders, self.total, self.contributors)
        return Turn(self.forward(mouchet21.DECRYPT), following)
