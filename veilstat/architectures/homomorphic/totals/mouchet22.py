"""Mouchet, Bertrand, Hubaux, "An Efficient Threshold Access-Structure for RLWE-Based Multiparty Homomorphic Encryption" (ePrint 2022/780).

Owners make a collective key as in ``mouchet21.py``, and each shares its share of the secret key among all, by a polynomial
of degree t - 1 over the ciphertexts' ring (Shamir 1979, residue by residue). Any t of them decrypt: each takes the sum of
what it was dealt, times its Lagrange factor, for its secret. This file holds what all parties share. Choices:

* exactly t decrypt; each signs the set and the sum before any share of the decryption exists;
* smudging is added after the Lagrange factor, which is as wide as the modulus;
* shares of the decryption are masked pairwise within the set, masks that cancel in their sum (not in the paper): an owner
  outside the set holds one more value of the shared polynomial, so that the shares satisfy a linear relation whose factors
  are small integers, and several owners' smudging together would show the noise modulo small numbers;
* who is lost after sending its ciphertext stays in the sum; who is lost once the set is proposed ends the session.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from veilstat.architectures.channels import agree, channel_nonce
from veilstat.architectures.interface import Random, RoundCost
from veilstat.arithmetic import agreement
from veilstat.protocol.context import DIGEST_BYTES, digest, digest_names
from veilstat.protocol.identity import SIGNATURE_BYTES

from ..messages import parts_size
from ..ring import CyclotomicRing, Residues
from ..sampling import uniform
from .mouchet21 import COMMIT_KEY, DECRYPT, INPUT, REVEAL_KEY

READY, AGREE = "ready", "agree"
ROUNDS = (COMMIT_KEY, REVEAL_KEY, INPUT, READY, AGREE, DECRYPT)

COMMITMENT_BYTES = DIGEST_BYTES + agreement.PUBLIC_KEY_BYTES + SIGNATURE_BYTES
_BOX_KEY_BYTES = 16


def commitment_statement(context: bytes, committed: bytes, channel: bytes) -> bytes:
    """What an owner signs with its commitment and with the key that others seal its shares to."""
    return digest("veilstat/mouchet22/commit/1", context, committed, channel)


def split_commitment(raw: memoryview) -> tuple[bytes, bytes, bytes]:
    """The commitment, the key that shares are sealed to, and the signature over both."""
    end = DIGEST_BYTES + agreement.PUBLIC_KEY_BYTES
    return bytes(raw[:DIGEST_BYTES]), bytes(raw[DIGEST_BYTES:end]), bytes(raw[end:])


def sum_statement(context: bytes, contributors: Iterable[str], total: bytes) -> bytes:
    """What is to be decrypted: a sum of ciphertexts, and whose they are."""
    return digest("veilstat/mouchet22/sum/1", context, digest_names(contributors), hashlib.sha256(total).digest())


def agreement_statement(statement: bytes, decrypting: Iterable[str]) -> bytes:
    """What every owner of the decrypting set signs before any share of the decryption is made."""
    return digest("veilstat/mouchet22/agree/1", statement, digest_names(decrypting))


def box_bytes(share_bytes: int) -> int:
    """Bytes of a sealed share."""
    return share_bytes + agreement.TAG_BYTES


def seal(pair: agreement.KeyPair, theirs: bytes, context: bytes, dealer: str, holder: str, share: bytes) -> bytes:
    """A dealer's share for one holder."""
    return agreement.seal(_box_key(pair, theirs, context, holder), channel_nonce(dealer, holder), share, b"")


def unseal(pair: agreement.KeyPair, theirs: bytes, context: bytes, dealer: str, holder: str, box: memoryview) -> bytes | None:
    """The holder's side; None where the box is not the dealer's for this session."""
    return agreement.unseal(_box_key(pair, theirs, context, dealer), channel_nonce(dealer, holder), bytes(box), b"")


def _box_key(pair: agreement.KeyPair, theirs: bytes, context: bytes, peer: str) -> bytes:
    return agreement.derive(agree(pair, theirs, peer), context, b"veilstat/mouchet22/deal/1", _BOX_KEY_BYTES)


def zero_share(
    ring: CyclotomicRing, pair: agreement.KeyPair, channels: Mapping[str, bytes], agreed: bytes, me: str, count: int
) -> Residues:
    """``count`` elements of a sharing of zero among the owners of ``channels`` and the holder of ``pair``.

    Every two owners share a mask, bound to what all of the set signed, that one adds and the other subtracts.
    """
    total = np.zeros((count, len(ring.transforms), ring.degree), dtype=np.uint64)
    for peer, theirs in channels.items():
        key = agreement.derive(agree(pair, theirs, peer), agreed, b"veilstat/mouchet22/zero/1", DIGEST_BYTES)
        mask = np.stack([ring.uniform(key + place.to_bytes(4, "little")) for place in range(count)])
        total = ring.add(total, mask if me > peer else ring.negate(mask))
    return total


def point(participants: Sequence[str], owner: str) -> int:
    """Where an owner's shares are evaluated: from 1 on, in order of name."""
    return 1 + sorted(participants).index(owner)


def deal(ring: CyclotomicRing, secret: Residues, threshold: int, points: Sequence[int], random: Random) -> list[Residues]:
    """Shares of a secret at these points; any ``threshold`` of them determine it, fewer say nothing about it."""
    polynomial = [secret, *(uniform(ring, random) for _ in range(threshold - 1))]
    return [_evaluated(ring, polynomial, its) for its in points]


def _evaluated(ring: CyclotomicRing, polynomial: Sequence[Residues], place: int) -> Residues:
    factor = np.full((len(ring.transforms), ring.degree), place, dtype=np.uint64)
    value = polynomial[-1]
    for coefficient in polynomial[-2::-1]:
        value = ring.multiply_add(value, factor, coefficient)
    return value


def lagrange_factor(ring: CyclotomicRing, points: Iterable[int], own: int) -> int:
    """The product of x / (x - own) over the other points x, modulo Q; points differ by less than any prime of Q."""
    factor = 1
    for other in points:
        if other != own:
            factor = factor * other * pow(other - own, -1, ring.modulus) % ring.modulus
    return factor


def round_costs(owner: str, owners: Sequence[str], decrypting: Sequence[str], share: int, vector: int) -> tuple[RoundCost, ...]:
    """What an owner sends and receives, for shares and ciphertexts of so many bytes, where nobody is lost."""
    others = [name for name in owners if name != owner]
    rounds = (
        RoundCost(COMMIT_KEY, COMMITMENT_BYTES, 0),
        RoundCost(REVEAL_KEY, share + len(others) * box_bytes(share), parts_size(owners, COMMITMENT_BYTES)),
        RoundCost(INPUT, vector + SIGNATURE_BYTES, parts_size(others, share + box_bytes(share))),
        RoundCost(READY, DIGEST_BYTES, parts_size(owners, vector + SIGNATURE_BYTES)),
    )
    if owner not in decrypting:
        return (*rounds, RoundCost(AGREE, 0, parts_size(decrypting, 0)))
    return (
        *rounds,
        RoundCost(AGREE, SIGNATURE_BYTES, parts_size(decrypting, 0)),
        RoundCost(DECRYPT, vector, parts_size(decrypting, SIGNATURE_BYTES)),
    )
