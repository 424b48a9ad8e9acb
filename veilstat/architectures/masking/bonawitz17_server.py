"""The server's rounds of Bonawitz et al. (CCS'17), Figure 4, curious variant.

Masked vectors are added as they arrive. After unmasking the server holds the total, padded for the
analyst unless the server itself is the recipient.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from veilstat.architectures.addition import Addition, SumHere, VectorSum
from veilstat.architectures.channels import agree
from veilstat.arithmetic import shamir
from veilstat.arithmetic.agreement import KeyPair
from veilstat.arithmetic.executor import SERIAL, Executor
from veilstat.arithmetic.keystream import add_keystreams
from veilstat.arithmetic.rings import Elements, Ring
from veilstat.protocol.faults import violation
from veilstat.protocol.session import Message, Turn

from . import bonawitz17 as paper
from .bonawitz17 import PublicKeys


@dataclass(frozen=True, slots=True)
class Server:
    """What the server knows before the session. ``length`` counts the vector's elements, ``addition`` begins their sum, ``executor`` unmasks."""

    name: str
    analyst: str
    participants: tuple[str, ...]
    threshold: int
    context: bytes
    ring: Ring
    length: int
    addition: Addition = SumHere
    executor: Executor = SERIAL

    def start(self) -> Turn:
        """Round 0: wait for keys."""
        return Turn((), CollectKeys(self, frozenset(self.participants), paper.KEYS_BYTES))


@dataclass(frozen=True, slots=True)
class _FromOwners:
    """A round that waits for one message of each owner, at least the threshold of them."""

    server: Server
    senders: frozenset[str]
    largest: int

    @property
    def quorum(self) -> int:
        return self.server.threshold


@dataclass(frozen=True, slots=True)
class CollectKeys(_FromOwners):
    """Collect advertised keys (U1) and send everybody's to each."""

    keys: dict[str, PublicKeys] = field(default_factory=dict)
    name: ClassVar[str] = paper.ADVERTISE_KEYS

    def take(self, sender: str, payload: memoryview) -> None:
        self.keys[sender] = PublicKeys.from_bytes(payload, sender)

    def close(self) -> Turn:
        payload = paper.encode_keys(self.keys)
        send = tuple(Message(paper.SHARE_KEYS, owner, payload) for owner in sorted(self.keys))
        following = CollectShares(self.server, frozenset(self.keys), paper.shares_size(len(self.keys)), self.keys)
        return Turn(send, following)


@dataclass(frozen=True, slots=True)
class Dealt:
    """What a dealer left with the server: its commitment, sealed shares and share digests by holder."""

    commitment: bytes
    sealed: dict[str, bytes] = field(repr=False)
    digests: dict[str, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class CollectShares(_FromOwners):
    """Collect sealed shares (U2) and forward to each owner what the others sealed for it."""

    keys: dict[str, PublicKeys]
    dealt: dict[str, Dealt] = field(default_factory=dict)
    name: ClassVar[str] = paper.SHARE_KEYS

    def take(self, sender: str, payload: memoryview) -> None:
        if len(payload) != self.largest:
            raise violation("malformed", f"{sender!r} sent sealed shares of the wrong length", sender)
        u1 = sorted(self.keys)
        start, sealed = paper.COMMITMENT_BYTES, {}
        for holder in u1:
            if holder != sender:
                sealed[holder] = bytes(payload[start : start + paper.SEALED_BYTES])
                start += paper.SEALED_BYTES
        width = 2 * paper.SHARE_DIGEST_BYTES
        digests = {holder: bytes(payload[start + place * width : start + (place + 1) * width]) for place, holder in enumerate(u1)}
        self.dealt[sender] = Dealt(bytes(payload[: paper.COMMITMENT_BYTES]), sealed, digests)

    def close(self) -> Turn:
        u2 = tuple(sorted(self.dealt))
        send = []
        for owner in u2:
            records = {dealer: its.sealed[owner] + its.digests[owner] for dealer, its in self.dealt.items() if dealer != owner}
            send.append(Message(paper.MASKED_INPUT, owner, paper.encode_records(records)))
        kept = {dealer: Dealt(its.commitment, {}, its.digests) for dealer, its in self.dealt.items()}
        size = self.server.length * self.server.ring.element_bytes
        following = CollectInputs(
            self.server, frozenset(u2), size, self.keys, kept, self.server.addition(self.server.ring, self.server.length)
        )
        return Turn(tuple(send), following)


@dataclass(frozen=True, slots=True)
class CollectInputs(_FromOwners):
    """Add masked vectors as they arrive (U3), and ask the survivors for shares."""

    keys: dict[str, PublicKeys]
    dealt: dict[str, Dealt]
    vectors: VectorSum = field(repr=False)
    arrived: list[str] = field(default_factory=list)
    name: ClassVar[str] = paper.MASKED_INPUT

    def take(self, sender: str, payload: memoryview) -> None:
        if len(payload) != self.largest:
            raise violation("malformed", f"{sender!r} sent a masked vector of {len(payload):,} bytes, {self.largest:,} were agreed", sender)
        self.vectors.add(payload)
        self.arrived.append(sender)

    def close(self) -> Turn:
        payload = paper.encode_names(self.arrived)
        send = tuple(Message(paper.UNMASKING, owner, payload) for owner in sorted(self.arrived))
        size = len(self.dealt) * shamir.SHARE_BYTES
        following = CollectUnmasking(self.server, frozenset(self.arrived), size, self.keys, self.dealt, self.vectors.total())
        return Turn(send, following)


@dataclass(frozen=True, slots=True)
class CollectUnmasking(_FromOwners):
    """Collect shares, reconstruct self-mask seeds of survivors and mask keys of the others, and remove the masks."""

    keys: dict[str, PublicKeys]
    dealt: dict[str, Dealt]
    total: Elements = field(repr=False)
    revealed: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.uint32]]] = field(default_factory=dict, repr=False)
    name: ClassVar[str] = paper.UNMASKING

    def take(self, sender: str, payload: memoryview) -> None:
        if len(payload) != self.largest:
            raise violation("malformed", f"{sender!r} revealed shares of the wrong length", sender)
        shares = np.frombuffer(payload, dtype="<u4").reshape(len(self.dealt), shamir.LIMBS)
        if (shares >= shamir.PRIME).any():
            raise violation("wrong_share", f"{sender!r} revealed a share outside the field", sender)
        self.revealed[sender] = shares

    def close(self) -> Turn:
        u2, u3 = sorted(self.dealt), sorted(self.senders)
        secrets = dict(zip(u2, self._reconstruct(u2), strict=True))
        label = paper.mask_context(self.server.context, u2)
        added, subtracted = list[bytes](), [paper.self_seed(secrets[owner], label) for owner in u3]
        for lost in (owner for owner in u2 if owner not in self.senders):
            pair = KeyPair.from_secret(secrets[lost])
            for owner in u3:
                seed = paper.pair_seed(agree(pair, self.keys[owner].mask, owner), label)
                (subtracted if paper.adds_mask(owner, lost) else added).append(seed)
        add_keystreams(self.server.ring, self.total, added, subtracted, self.server.executor)
        channels = {owner: self.keys[owner].channel for owner in u3}
        payload = paper.encode_result(channels, label, self.server.ring.to_bytes(self.total))
        return Turn((Message(paper.RESULT, self.server.analyst, payload),), None, tuple(u3))

    def _reconstruct(self, u2: list[str]) -> list[bytes]:
        u1 = sorted(self.keys)
        holders = sorted(self.revealed)[: self.server.threshold]
        points = [u1.index(holder) + 1 for holder in holders]
        secrets = shamir.reconstruct(points, np.stack([self.revealed[holder] for holder in holders]))
        for owner, secret in zip(u2, secrets, strict=True):
            if not self._is_right(owner, secret):
                raise self._blame(u2, owner)
        return secrets

    def _is_right(self, owner: str, secret: bytes) -> bool:
        if owner in self.senders:
            return paper.commitment(secret, self.server.context) == self.dealt[owner].commitment
        return KeyPair.from_secret(secret).public == self.keys[owner].mask

    def _blame(self, u2: list[str], dealer: str) -> Exception:
        """A wrong secret: either holders revealed shares that do not match the digests, or the dealer dealt wrongly."""
        row, half = u2.index(dealer), 0 if dealer in self.senders else 1
        start, liars = half * paper.SHARE_DIGEST_BYTES, []
        for holder, shares in self.revealed.items():
            digest = paper.share_digest(half, shares[row].tobytes(), self.server.context, dealer, holder)
            if digest != self.dealt[dealer].digests[holder][start : start + paper.SHARE_DIGEST_BYTES]:
                liars.append(holder)
        if liars:
            names = ", ".join(repr(liar) for liar in sorted(liars))
            return violation(
                "wrong_share", f"{names} revealed a share that differs from the one that {dealer!r} dealt; nothing was opened", *liars
            )
        return violation("wrong_dealing", f"{dealer!r} dealt shares that do not belong to its secret; nothing was opened", dealer)
