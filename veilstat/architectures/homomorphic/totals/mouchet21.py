"""Mouchet, Troncoso-Pastoriza, Bossuat, Hubaux, "Multiparty Homomorphic Encryption from Ring-Learning-with-Errors" (PETS'21).

This file holds what all parties share: rounds, signed statements and layouts of messages. For every step owners make a
fresh collective key (EncKeyGen), encrypt under it once, and switch the sum to the analyst's key (PubKeySwitch); then the
key is gone. Deviations from the paper, which assumes parties that follow the protocol:

* shares of the public key are committed before any is revealed, so nobody chooses a share that cancels the others';
* commitments and ciphertexts are signed by their owners for everybody, together with the set of owners whose shares
  make the key, so that every owner adds up the same, and nothing but what these owners sent;
* each owner adds the ciphertexts itself before it helps to decrypt: the cloud's sum is never taken on trust.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from veilstat.architectures.interface import RoundCost
from veilstat.protocol.context import DIGEST_BYTES, digest
from veilstat.protocol.envelope import array_bytes, text_bytes
from veilstat.protocol.faults import violation
from veilstat.protocol.identity import SIGNATURE_BYTES

from ..ring import CyclotomicRing, Residues

COMMIT_KEY, REVEAL_KEY, INPUT, DECRYPT = "commit_key", "reveal_key", "input", "decrypt"
ROUNDS = (COMMIT_KEY, REVEAL_KEY, INPUT, DECRYPT)

COMMITMENT_BYTES = DIGEST_BYTES + SIGNATURE_BYTES
SEED_BYTES = 32


def common_label(context: bytes) -> bytes:
    """What the common polynomial of all owners' key shares is expanded from."""
    return digest("veilstat/mouchet21/common/1", context)


def analyst_label(seed: bytes) -> bytes:
    """What the uniform half of the analyst's key is expanded from."""
    return digest("veilstat/mouchet21/analyst/1", seed)


def commitment(context: bytes, owner: str, share: bytes | memoryview) -> bytes:
    """What binds an owner to its share of the public key."""
    return digest("veilstat/mouchet21/key/1", context, owner.encode(), hashlib.sha256(share).digest())


def commitment_statement(context: bytes, committed: bytes) -> bytes:
    """What an owner signs with its commitment."""
    return digest("veilstat/mouchet21/commit/1", context, committed)


def input_statement(context: bytes, commitments: Mapping[str, bytes], ciphertexts: bytes | memoryview) -> bytes:
    """What an owner signs with its ciphertexts: them, and whose shares make the key that they are encrypted under."""
    parties = [part for name in sorted(commitments) for part in (name.encode(), commitments[name])]
    return digest("veilstat/mouchet21/input/1", context, hashlib.sha256(ciphertexts).digest(), *parties)


def encode_parts(parts: Mapping[str, bytes | memoryview]) -> bytes:
    """What several owners sent, of one length each."""
    names = sorted(parts)
    head = msgspec.msgpack.encode(names)
    return b"".join((len(head).to_bytes(4, "little"), head, *(parts[name] for name in names)))


def decode_parts(payload: memoryview, size: int, sender: str) -> dict[str, memoryview]:
    """The inverse of ``encode_parts`` for parts of ``size`` bytes; a violation by ``sender`` otherwise."""
    end = 4 + int.from_bytes(payload[:4], "little")
    try:
        names = msgspec.msgpack.decode(payload[4:end], type=list[str])
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
        raise violation("malformed", f"{sender!r} sent a message that could not be read", sender) from None
    if len(payload) != end + len(names) * size or len(set(names)) != len(names):
        raise violation("malformed", f"{sender!r} sent parts of the wrong length", sender)
    return {name: payload[end + place * size : end + (place + 1) * size] for place, name in enumerate(names)}


def parts_size(names: Iterable[str], size: int) -> int:
    """Bytes of ``encode_parts``, from the names alone."""
    lengths = [len(name.encode()) for name in names]
    return 4 + array_bytes(len(lengths)) + sum(text_bytes(length) for length in lengths) + len(lengths) * size


def round_costs(owners: Sequence[str], share: int, vector: int) -> tuple[RoundCost, ...]:
    """What each owner sends and receives, for shares and ciphertexts of so many bytes."""
    return (
        RoundCost(COMMIT_KEY, COMMITMENT_BYTES, 0),
        RoundCost(REVEAL_KEY, share, parts_size(owners, COMMITMENT_BYTES)),
        RoundCost(INPUT, vector + SIGNATURE_BYTES, parts_size(owners, share)),
        RoundCost(DECRYPT, vector, parts_size(owners, vector + SIGNATURE_BYTES)),
    )


def read_share(ring: CyclotomicRing, raw: memoryview, sender: str) -> Residues:
    """One polynomial; a violation by ``sender`` for anything else."""
    if len(raw) != ring.element_bytes:
        raise violation("malformed", f"{sender!r} sent a share of a key of the wrong length", sender)
    polynomial: Residues = _read(ring, raw, sender)[0]
    return polynomial


def read_ciphertexts(ring: CyclotomicRing, raw: memoryview, size: int, sender: str) -> Residues:
    """Ciphertexts of ``size`` bytes, of shape (ciphertexts, 2, primes, degree); a violation by ``sender`` otherwise."""
    if len(raw) != size:
        raise violation("malformed", f"{sender!r} sent ciphertexts of {len(raw):,} bytes, {size:,} were agreed", sender)
    return _read(ring, raw, sender).reshape(-1, 2, len(ring.transforms), ring.degree)


def _read(ring: CyclotomicRing, raw: memoryview, sender: str) -> Residues:
    try:
        return ring.from_bytes(raw)
    except ValueError:
        raise violation("malformed", f"{sender!r} sent numbers outside the ciphertexts' ring", sender) from None
