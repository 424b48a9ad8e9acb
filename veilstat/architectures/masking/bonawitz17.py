"""Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning" (CCS'17), Figure 4.

This file holds what all parties share: rounds, keys, labels and layouts of messages. The curious variant is
implemented: without the underlined parts of the figure, so without the consistency check; envelopes are signed all
the same. Deviations from the figure:

* masks are labelled with the step's context and with the set U2 that share-keys fixed, so that parties who saw
  different plans, public values or participants obtain garbage and not each other's sums;
* each owner adds one more mask, which it shares with the analyst alone, so that the server's sum stays padded and
  only the analyst learns the total; the analyst holds no shares and sends no vector;
* a dealer publishes digests of its shares and of its self-mask seed, so that a wrong share names its sender.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from veilstat.architectures.interface import RoundCost
from veilstat.arithmetic import agreement, shamir
from veilstat.arithmetic.keystream import SEED_BYTES
from veilstat.protocol.codec import LENGTH_BYTES, decode, split_head, with_head
from veilstat.protocol.context import DIGEST_BYTES, digest, digest_names
from veilstat.protocol.envelope import array_bytes, binary_bytes, names_bytes
from veilstat.protocol.faults import violation

ADVERTISE_KEYS, SHARE_KEYS, MASKED_INPUT, UNMASKING = "advertise_keys", "share_keys", "masked_input", "unmasking"
ROUNDS = (ADVERTISE_KEYS, SHARE_KEYS, MASKED_INPUT, UNMASKING)
RESULT = "result"

SHARE_DIGEST_BYTES = 16
SEALED_BYTES = 2 * shamir.SHARE_BYTES + agreement.TAG_BYTES
_RECORD_BYTES = SEALED_BYTES + 2 * SHARE_DIGEST_BYTES
COMMITMENT_BYTES = DIGEST_BYTES
KEYS_BYTES = 2 * agreement.PUBLIC_KEY_BYTES
_ENVELOPE_KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """An owner's two ephemeral X25519 keys: ``channel`` seals shares, ``mask`` makes pairwise masks."""

    channel: bytes
    mask: bytes

    def to_bytes(self) -> bytes:
        return self.channel + self.mask

    @staticmethod
    def from_bytes(raw: bytes | memoryview, sender: str) -> PublicKeys:
        """Parse 64 bytes; a violation by ``sender`` otherwise."""
        if len(raw) != KEYS_BYTES:
            raise violation("malformed", f"{sender!r} advertised keys of the wrong length", sender)
        return PublicKeys(bytes(raw[:32]), bytes(raw[32:]))


def channel_key(secret: bytes, context: bytes) -> bytes:
    """The key that seals shares between two owners, both ways."""
    return agreement.derive(secret, context, b"channel", _ENVELOPE_KEY_BYTES)


def mask_context(context: bytes, u2: Iterable[str]) -> bytes:
    """The label of all masks of a step: its context and the set that share-keys fixed."""
    return digest("veilstat/bonawitz17/mask/1", context, digest_names(u2))


def pair_seed(secret: bytes, label: bytes) -> bytes:
    """The seed of the mask that two owners share."""
    return agreement.derive(secret, label, b"pair", SEED_BYTES)


def self_seed(secret: bytes, label: bytes) -> bytes:
    """The seed of an owner's own mask, from its shared secret b_u."""
    return agreement.derive(secret, label, b"self", SEED_BYTES)


def pad_seed(secret: bytes, label: bytes) -> bytes:
    """The seed of the mask that an owner shares with the analyst."""
    return agreement.derive(secret, label, b"pad", SEED_BYTES)


def adds_mask(me: str, other: str) -> bool:
    """The sign of a pairwise mask: the figure's Delta is 1 for u > v."""
    return me > other


def share_digests(shares: Sequence[bytes], context: bytes, dealer: str, holder: str) -> bytes:
    """What binds a dealer to the two shares of a holder: of its self-mask seed, and of its mask key."""
    return b"".join(share_digest(place, share, context, dealer, holder) for place, share in enumerate(shares))


def share_digest(place: int, share: bytes, context: bytes, dealer: str, holder: str) -> bytes:
    """One of the two: ``place`` is 0 for the self-mask seed, 1 for the mask key."""
    bound = context + dealer.encode() + b"\0" + holder.encode() + b"\0" + bytes((place,))
    return hashlib.sha256(bound + share).digest()[:SHARE_DIGEST_BYTES]


def commitment(secret: bytes, context: bytes) -> bytes:
    """What binds a dealer to its self-mask seed, which has 256 bits of entropy."""
    return hashlib.sha256(b"veilstat/bonawitz17/self/1" + context + secret).digest()


def encode_keys(keys: dict[str, PublicKeys]) -> bytes:
    """Everybody's keys, by owner."""
    return msgspec.msgpack.encode({name: keys[name].to_bytes() for name in sorted(keys)})


def decode_keys(payload: memoryview, sender: str) -> dict[str, PublicKeys]:
    """The inverse of ``encode_keys``."""
    plain = decode(payload, dict[str, bytes], sender)
    return {name: PublicKeys.from_bytes(raw, sender) for name, raw in plain.items()}


def encode_records(records: dict[str, bytes]) -> bytes:
    """For one owner, what every other dealer sealed for it."""
    names = sorted(records)
    return msgspec.msgpack.encode((names, b"".join(records[name] for name in names)))


def decode_records(payload: memoryview, sender: str) -> dict[str, memoryview]:
    """The inverse of ``encode_records``."""
    names, raw = decode(payload, tuple[list[str], bytes], sender)
    if len(raw) != len(names) * _RECORD_BYTES or len(set(names)) != len(names):
        raise violation("malformed", f"{sender!r} sent sealed shares of the wrong length", sender)
    view = memoryview(raw)
    return {name: view[place * _RECORD_BYTES : (place + 1) * _RECORD_BYTES] for place, name in enumerate(names)}


def encode_names(names: Iterable[str]) -> bytes:
    """A set of owners."""
    return msgspec.msgpack.encode(sorted(names))


def decode_names(payload: memoryview, sender: str) -> tuple[str, ...]:
    """The inverse of ``encode_names``; each name once."""
    names = decode(payload, list[str], sender)
    if len(set(names)) != len(names):
        raise violation("malformed", f"{sender!r} named an owner twice", sender)
    return tuple(sorted(names))


def encode_result(channels: dict[str, bytes], label: bytes, total: memoryview) -> bytes:
    """For the analyst: survivors with their channel keys, the label of the masks, and the (padded) total."""
    return with_head(({name: channels[name] for name in sorted(channels)}, label), (total,))


def decode_result(payload: memoryview, sender: str) -> tuple[dict[str, bytes], bytes, memoryview]:
    """The inverse of ``encode_result``."""
    head, total = split_head(payload)
    return *decode(head, tuple[dict[str, bytes], bytes], sender), total


def _keys_size(names: Sequence[str]) -> int:
    """Bytes of ``encode_keys``, from the names alone."""
    return names_bytes(names) + len(names) * binary_bytes(KEYS_BYTES)


def shares_size(count: int) -> int:
    """Bytes that a dealer sends for ``count`` owners, itself among them."""
    return COMMITMENT_BYTES + (count - 1) * SEALED_BYTES + count * 2 * SHARE_DIGEST_BYTES


def _records_size(others: Sequence[str]) -> int:
    """Bytes of ``encode_records``."""
    return array_bytes(2) + names_bytes(others) + binary_bytes(len(others) * _RECORD_BYTES)


def result_size(survivors: Sequence[str], vector: int) -> int:
    """Bytes of ``encode_result`` with a vector of ``vector`` bytes."""
    keys = names_bytes(survivors) + len(survivors) * binary_bytes(agreement.PUBLIC_KEY_BYTES)
    return LENGTH_BYTES + array_bytes(2) + keys + binary_bytes(DIGEST_BYTES) + vector


def round_costs(owner: str, owners: Sequence[str], vector: int) -> tuple[RoundCost, ...]:
    """What an owner sends and receives, for a vector of so many bytes, where nobody is lost."""
    others = [peer for peer in owners if peer != owner]
    return (
        RoundCost(ADVERTISE_KEYS, KEYS_BYTES, 0),
        RoundCost(SHARE_KEYS, shares_size(len(owners)), _keys_size(owners)),
        RoundCost(MASKED_INPUT, vector, _records_size(others)),
        RoundCost(UNMASKING, len(owners) * shamir.SHARE_BYTES, names_bytes(owners)),
    )
