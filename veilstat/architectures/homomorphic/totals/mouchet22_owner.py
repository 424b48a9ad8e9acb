"""The owner's rounds where t of n decrypt: deal the share of the key, encrypt, check the sum, agree on the set, decrypt once.

Once its share of the secret key is dealt an owner keeps no more of it than of the others': what it was dealt itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from veilstat.arithmetic.agreement import KeyPair
from veilstat.protocol.faults import violation
from veilstat.protocol.identity import SIGNATURE_BYTES
from veilstat.protocol.session import Message, Turn

from ..messages import read_share
from ..ring import Residues
from . import mouchet21, mouchet22
from .mouchet21_owner import Forwarded, Owner


@dataclass(frozen=True, slots=True)
class DealingOwner(Owner):
    """What an owner knows before the session; exactly ``threshold`` owners decrypt."""

    def start(self) -> Turn:
        """Commit to a share of a fresh key, and name a key that others seal shares to."""
        secret, common, share = self.fresh_key()
        pair = KeyPair.generate(self.random)
        committed = mouchet21.commitment(self.context, self.name, share)
        signature = self.identity.sign(mouchet22.commitment_statement(self.context, committed, pair.public))
        following = AwaitChannels(self, secret, common, share, committed, pair)
        return Turn((Message(mouchet21.COMMIT_KEY, self.server, committed + pair.public + signature),), following)


@dataclass(frozen=True, slots=True)
class AwaitChannels(Forwarded):
    """Everybody's commitments are known and signed: reveal the share of the public key, deal that of the secret key."""

    secret: Residues = field(repr=False)
    common: Residues = field(repr=False)
    share: bytes = field(repr=False)
    committed: bytes
    pair: KeyPair = field(repr=False)
    name: ClassVar[str] = mouchet21.REVEAL_KEY

    @property
    def part(self) -> int:
        return mouchet22.COMMITMENT_BYTES

    def close(self) -> Turn:
        owner, me, commitments, channels = self.owner, self.owner.name, {}, {}
        for name, raw in self.parts().items():
            commitments[name], channels[name], signature = mouchet22.split_commitment(raw)
            statement = mouchet22.commitment_statement(owner.context, commitments[name], channels[name])
            if name not in owner.participants or not owner.roster.verifies(name, statement, signature):
                raise self.refuse("bad_commitment", f"a commitment in the name of {name!r} is not signed by a participant")
        if len(commitments) < owner.threshold or (commitments.get(me), channels.get(me)) != (self.committed, self.pair.public):
            raise self.refuse(
                "bad_participants",
                f"{len(commitments)} commitments were forwarded, at least {owner.threshold} are needed, its own among them",
            )
        holders, ring = sorted(commitments), owner.scheme.ring
        points = [mouchet22.point(owner.participants, name) for name in holders]
        dealt = dict(zip(holders, mouchet22.deal(ring, self.secret, owner.threshold, points, owner.random), strict=True))
        kept = dealt.pop(me)
        boxes = [mouchet22.seal(self.pair, channels[name], owner.context, me, name, ring.to_bytes(share)) for name, share in dealt.items()]
        following = AwaitDealings(owner, self.common, self.share, commitments, channels, self.pair, kept)
        return Turn((Message(mouchet21.REVEAL_KEY, owner.server, b"".join((self.share, *boxes))),), following)


@dataclass(frozen=True, slots=True)
class AwaitDealings(Forwarded):
    """The key is fixed by who revealed and dealt: take up what was dealt, and encrypt under the sum of these shares."""

    common: Residues = field(repr=False)
    share: bytes = field(repr=False)
    commitments: dict[str, bytes]
    channels: dict[str, bytes]
    pair: KeyPair = field(repr=False)
    kept: Residues = field(repr=False)
    name: ClassVar[str] = mouchet21.INPUT

    @property
    def part(self) -> int:
        size = self.owner.scheme.ring.element_bytes
        return size + mouchet22.box_bytes(size)

    def close(self) -> Turn:
        owner, me, ring = self.owner, self.owner.name, self.owner.scheme.ring
        others = self.parts()
        if me in others or not set(others) <= set(self.commitments) or 1 + len(others) < owner.threshold:
            raise self.refuse(
                "bad_participants",
                f"shares of {len(others)} other owners were forwarded, with it at least {owner.threshold} of those who committed are needed",
            )
        shares: dict[str, bytes | memoryview] = {me: self.share}
        holding = self.kept
        for name, raw in others.items():
            shares[name] = raw[: ring.element_bytes]
            if mouchet21.commitment(owner.context, name, shares[name]) != self.commitments[name]:
                raise self.refuse("bad_share", f"the share of {name!r} is not the one that it committed to")
            dealt = mouchet22.unseal(self.pair, self.channels[name], owner.context, name, me, raw[ring.element_bytes :])
            if dealt is None:
                raise violation(
                    "bad_box",
                    f"what {name!r} dealt to {me!r} cannot be opened: it or {owner.server!r} sent something else",
                    name,
                    owner.server,
                )
            holding = ring.add(holding, read_share(ring, memoryview(dealt), name))
        members = {name: self.commitments[name] for name in shares}
        channels = {name: self.channels[name] for name in shares}
        following = AwaitSum(owner, holding, members, channels, self.pair)
        return Turn((owner.encrypted(self.common, shares, members),), following)


@dataclass(frozen=True, slots=True)
class _Ready(Forwarded):
    """An owner is ready to decrypt a sum with its ``holding`` of the key, among those of ``channels``."""

    holding: Residues = field(repr=False)
    total: Residues = field(repr=False)
    contributors: tuple[str, ...]
    channels: dict[str, bytes]
    pair: KeyPair = field(repr=False)


@dataclass(frozen=True, slots=True)
class AwaitSum(Forwarded):
    """Whose data are summed is fixed by whose ciphertexts arrived: add them up, object or be ready to decrypt exactly that."""

    holding: Residues = field(repr=False)
    commitments: dict[str, bytes]
    channels: dict[str, bytes]
    pair: KeyPair = field(repr=False)
    name: ClassVar[str] = mouchet22.READY

    @property
    def part(self) -> int:
        return self.owner.scheme.parameters.vector_bytes + SIGNATURE_BYTES

    def close(self) -> Turn:
        owner, parts = self.owner, self.parts()
        if owner.name not in parts or not set(parts) <= set(self.commitments) or len(parts) < owner.threshold:
            raise self.refuse(
                "bad_participants",
                f"ciphertexts of {len(parts)} owners were forwarded, at least {owner.threshold} of those who made the key are needed, its own among them",
            )
        total = self.verified_sum(parts, self.commitments)
        contributors = tuple(sorted(parts))
        owner.authorise(contributors)
        statement = mouchet22.sum_statement(owner.context, contributors, owner.scheme.ring.to_bytes(total))
        following = AwaitSet(owner, self.holding, total, contributors, self.channels, self.pair, statement)
        return Turn((Message(mouchet22.READY, owner.server, statement),), following)


@dataclass(frozen=True, slots=True)
class AwaitSet(_Ready):
    """A set of exactly t is proposed among those who are ready: sign it, once; who is not in it is done."""

    statement: bytes
    name: ClassVar[str] = mouchet22.AGREE

    @property
    def part(self) -> int:
        return 0

    def close(self) -> Turn:
        owner, decrypting = self.owner, tuple(sorted(self.parts()))
        if len(decrypting) != owner.threshold or not set(decrypting) <= set(self.contributors):
            raise self.refuse(
                "bad_participants", f"{len(decrypting)} owners were named to decrypt, exactly {owner.threshold} of those who encrypted do"
            )
        if owner.name not in decrypting:
            return Turn((), None, self.contributors)
        agreed = mouchet22.agreement_statement(self.statement, decrypting)
        channels = {name: self.channels[name] for name in decrypting}
        following = AwaitAgreement(owner, self.holding, self.total, self.contributors, channels, self.pair, agreed)
        return Turn((Message(mouchet22.AGREE, owner.server, owner.identity.sign(agreed)),), following)


@dataclass(frozen=True, slots=True)
class AwaitAgreement(_Ready):
    """All of the set, those of ``channels``, signed it and the sum: switch the sum, smudged, to the analyst's key, once."""

    agreed: bytes
    name: ClassVar[str] = mouchet21.DECRYPT

    @property
    def part(self) -> int:
        return SIGNATURE_BYTES

    def close(self) -> Turn:
        owner, me, ring, signatures = self.owner, self.owner.name, self.owner.scheme.ring, self.parts()
        signed = all(owner.roster.verifies(name, self.agreed, bytes(raw)) for name, raw in signatures.items())
        if set(signatures) != set(self.channels) or not signed:
            raise self.refuse("bad_agreement", "not all who are to decrypt signed the same set and the same sum")
        points = {name: mouchet22.point(owner.participants, name) for name in self.channels}
        factor = mouchet22.lagrange_factor(ring, points.values(), points[me])
        shares = owner.decryption_shares(self.total, ring.scale(self.holding, factor))
        others = {name: key for name, key in self.channels.items() if name != me}
        shares[:, 0] = ring.add(shares[:, 0], mouchet22.zero_share(ring, self.pair, others, self.agreed, me, len(shares)))
        return Turn((Message(mouchet21.DECRYPT, owner.server, ring.to_bytes(shares)),), None, self.contributors)
