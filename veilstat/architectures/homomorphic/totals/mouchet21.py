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
from collections.abc import Mapping, Sequence

from veilstat.architectures.interface import RoundCost
from veilstat.protocol.context import DIGEST_BYTES, digest
from veilstat.protocol.identity import SIGNATURE_BYTES

from ..messages import parts_size

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


def round_costs(owners: Sequence[str], share: int, vector: int) -> tuple[RoundCost, ...]:
    """What each owner sends and receives, for shares and ciphertexts of so many bytes."""
    return (
        RoundCost(COMMIT_KEY, COMMITMENT_BYTES, 0),
        RoundCost(REVEAL_KEY, share, parts_size(owners, COMMITMENT_BYTES)),
        RoundCost(INPUT, vector + SIGNATURE_BYTES, parts_size(owners, share)),
        RoundCost(DECRYPT, vector, parts_size(owners, vector + SIGNATURE_BYTES)),
    )
