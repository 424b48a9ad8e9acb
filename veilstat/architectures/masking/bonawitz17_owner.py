"""The owner's rounds of Bonawitz et al. (CCS'17), Figure 4, curious variant.

Each round is consumed into the next, which holds only what it still needs. An owner aborts on anything that the
figure tells it to check, and reveals for each peer either the share of its self-mask seed or of its mask key,
never both: the round that reveals exists once and ends the session.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from veilstat.architectures.channels import agree, channel_nonce
from veilstat.architectures.interface import Authorise, Random
from veilstat.architectures.waiting import OwnerFromServer
from veilstat.arithmetic import shamir
from veilstat.arithmetic.agreement import KeyPair, seal, unseal
from veilstat.arithmetic.keystream import add_keystreams
from veilstat.arithmetic.rings import Elements, Ring
from veilstat.protocol.faults import violation
from veilstat.protocol.session import Message, Turn

from . import bonawitz17 as paper
from .bonawitz17 import PublicKeys


@dataclass(frozen=True, slots=True)
class Owner:
    """What an owner knows before the session: names, threshold, the step's context, and its input.

    ``pad_key`` is the analyst's key for this step, or None where the server is the recipient. ``authorise`` is
    asked with the survivors before any share is revealed and raises to refuse.
    """

    name: str
    server: str
    analyst: str
    participants: tuple[str, ...]
    threshold: int
    context: bytes
    ring: Ring
    vector: Elements = field(repr=False)
    pad_key: bytes | None
    random: Random = field(repr=False)
    authorise: Authorise = field(repr=False)

    def start(self) -> Turn:
        """Round 0: advertise two fresh keys."""
        channel, mask = KeyPair.generate(self.random), KeyPair.generate(self.random)
        keys = PublicKeys(channel.public, mask.public)
        return Turn((Message(paper.ADVERTISE_KEYS, self.server, keys.to_bytes()),), AwaitKeys(self, channel, mask))


@dataclass(frozen=True, slots=True)
class _FromServer(OwnerFromServer):
    owner: Owner

    largest: ClassVar[int] = 1 << 27


@dataclass(frozen=True, slots=True)
class AwaitKeys(_FromServer):
    """Round 1: check everybody's keys, share both secrets among all of U1, sealed for each."""

    channel: KeyPair
    mask: KeyPair
    name: ClassVar[str] = paper.SHARE_KEYS

    def close(self) -> Turn:
        owner = self.owner
        keys = paper.decode_keys(self.inbox[0], owner.server)
        self._check(keys)
        u1 = tuple(sorted(keys))
        secret = owner.random(shamir.SECRET_BYTES)
        shares = shamir.share([secret, self.mask.secret], owner.threshold, len(u1), owner.random)
        channels: dict[str, bytes] = {}
        sealed, digests, own = [], [], b""
        for place, peer in enumerate(u1):
            raw = shares[place].tobytes()
            digests.append(paper.share_digests((raw[: shamir.SHARE_BYTES], raw[shamir.SHARE_BYTES :]), owner.context, owner.name, peer))
            if peer == owner.name:
                own = raw
                continue
            channels[peer] = paper.channel_key(agree(self.channel, keys[peer].channel, peer), owner.context)
            sealed.append(seal(channels[peer], channel_nonce(owner.name, peer), raw, owner.context))
        payload = b"".join((paper.commitment(secret, owner.context), *sealed, *digests))
        following = AwaitShares(owner, self.channel, self.mask, secret, keys, channels, own)
        return Turn((Message(paper.SHARE_KEYS, owner.server, payload),), following)

    def _check(self, keys: dict[str, PublicKeys]) -> None:
        owner = self.owner
        if not set(keys) <= set(owner.participants) or len(keys) < owner.threshold:
            raise self.refuse(
                "bad_participants", f"{len(keys)} owners were named for the session, at least {owner.threshold} of the roster are needed"
            )
        if keys.get(owner.name) != PublicKeys(self.channel.public, self.mask.public):
            raise self.refuse("bad_participants", "the server left out or replaced its keys")
        flat = [key for pair in keys.values() for key in (pair.channel, pair.mask)]
        if len(set(flat)) != len(flat):
            raise self.refuse("repeated_key", "two owners were given the same key")


@dataclass(frozen=True, slots=True)
class AwaitShares(_FromServer):
    """Round 2: open the shares of the others, mask the input for exactly the owners in U2, and send it."""

    channel: KeyPair
    mask: KeyPair
    secret: bytes = field(repr=False)
    keys: dict[str, PublicKeys]
    channels: dict[str, bytes] = field(repr=False)
    own: bytes = field(repr=False)
    name: ClassVar[str] = paper.MASKED_INPUT

    def close(self) -> Turn:
        owner = self.owner
        records = paper.decode_records(self.inbox[0], owner.server)
        u2 = tuple(sorted({owner.name, *records}))
        if not set(u2) <= set(self.keys) or owner.name in records or len(u2) < owner.threshold:
            raise self.refuse(
                "bad_participants", f"shares of {len(u2)} owners were forwarded, at least {owner.threshold} of those with keys are needed"
            )
        held = {owner.name: self.own} | {peer: self._open(peer, record) for peer, record in records.items()}
        label = paper.mask_context(owner.context, u2)
        added, subtracted = [paper.self_seed(self.secret, label)], list[bytes]()
        if owner.pad_key is not None:
            added.append(paper.pad_seed(agree(self.channel, owner.pad_key, owner.analyst), label))
        for peer in records:
            seed = paper.pair_seed(agree(self.mask, self.keys[peer].mask, peer), label)
            (added if paper.adds_mask(owner.name, peer) else subtracted).append(seed)
        masked = owner.vector.copy()
        add_keystreams(owner.ring, masked, added, subtracted)
        following = AwaitSurvivors(owner, u2, held)
        return Turn((Message(paper.MASKED_INPUT, owner.server, owner.ring.to_bytes(masked)),), following)

    def _open(self, dealer: str, record: memoryview) -> bytes:
        owner = self.owner
        sealed, digests = bytes(record[: paper.SEALED_BYTES]), bytes(record[paper.SEALED_BYTES :])
        raw = unseal(self.channels[dealer], channel_nonce(dealer, owner.name), sealed, owner.context)
        if raw is None:
            raise violation("bad_share", f"data owner {owner.name!r} could not open the share that {dealer!r} sealed for it", dealer)
        halves = (raw[: shamir.SHARE_BYTES], raw[shamir.SHARE_BYTES :])
        if paper.share_digests(halves, owner.context, dealer, owner.name) != digests:
            raise violation("bad_share", f"data owner {owner.name!r} got a share from {dealer!r} that does not match its digest", dealer)
        return raw


@dataclass(frozen=True, slots=True)
class AwaitSurvivors(_FromServer):
    """Round 4: for each owner in U2 reveal one share: of its self-mask seed if it survived, of its mask key if not.

    The figure's round 3, the consistency check, belongs to the active variant.
    """

    u2: tuple[str, ...]
    held: dict[str, bytes] = field(repr=False)
    name: ClassVar[str] = paper.UNMASKING

    def close(self) -> Turn:
        owner = self.owner
        u3 = paper.decode_names(self.inbox[0], owner.server)
        if not set(u3) <= set(self.u2) or owner.name not in u3 or len(u3) < owner.threshold:
            raise self.refuse(
                "bad_survivors",
                f"{len(u3)} survivors were named, at least {owner.threshold} of those who shared keys are needed, itself among them",
            )
        owner.authorise(u3)
        survived = set(u3)
        half = shamir.SHARE_BYTES
        revealed = b"".join(self.held[peer][:half] if peer in survived else self.held[peer][half:] for peer in self.u2)
        return Turn((Message(paper.UNMASKING, owner.server, revealed),), None, u3)
