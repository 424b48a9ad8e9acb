"""One query over encrypted rows: what its parties know, and the layout of its messages.

Rounds, of which the cloud forwards everybody's messages to everybody in the next:

1. commit_zero: each owner commits to a fresh encryption of zero under the epoch's key;
2. reveal_zero: that encryption;
3. decrypt: each owner's share of every answer, sealed to the analyst, with a digest of the cloud's part, and signed.

A coefficient of an encryption of zero is added to each answer, so that no two decryptions are of the same numbers, even
where the same circuit is asked for again; since they were committed, nobody chooses his to cancel the others'. With
them the cloud names the digest of its own results, and an owner that computed other ones refuses.

An answer is a linear map of (c0, c1) alone, so what owners publish of c1 s_i is as many integers as there are answers:
all other coefficients, which mix rows, stay encrypted. The analyst adds all shares to the cloud's part, from c0, which
every owner computed too: a cloud that changes it, or a share, is found out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from veilstat.architectures.interface import RoundCost
from veilstat.arithmetic.agreement import SEALED_BYTES
from veilstat.protocol.context import DIGEST_BYTES, digest
from veilstat.protocol.faults import violation
from veilstat.protocol.identity import SIGNATURE_BYTES, Roster

from ..messages import parts_size
from .answers import Answer, Evaluation
from .parameters import RowParameters
from .quadratic import Opened

COMMIT_ZERO, REVEAL_ZERO, DECRYPT = "commit_zero", "reveal_zero", "decrypt"
ROUNDS = (COMMIT_ZERO, REVEAL_ZERO, DECRYPT)
COMMITMENT_BYTES = 2 * DIGEST_BYTES + SIGNATURE_BYTES
"""The epoch's identity, the commitment and a signature over both."""


@dataclass(frozen=True, slots=True)
class RowQuery:
    """What every party of one opening knows.

    Args:
        context: of the step. owners: all of them. opened: what the plan opens.
    """

    context: bytes
    owners: tuple[str, ...]
    roster: Roster
    server: str
    analyst: str
    parameters: RowParameters
    opened: tuple[Opened, ...]

    @property
    def answers_bytes(self) -> int:
        """Bytes of one integer modulo Q for each answer."""
        return len(self.opened) * self.parameters.answer_bytes

    @property
    def share_bytes(self) -> int:
        """Bytes of an owner's sealed and signed shares."""
        return share_bytes(self.parameters, len(self.opened))

    def commitment(self, owner: str, zero: bytes | memoryview) -> bytes:
        """What binds an owner to its encryption of zero."""
        return digest("veilstat/rows/zero/1", self.context, owner.encode(), hashlib.sha256(zero).digest())

    def statement(self, epoch: bytes, committed: bytes) -> bytes:
        """What an owner signs with it."""
        return digest("veilstat/rows/commit/1", self.context, epoch, committed)

    def check_commitment(self, owner: str, epoch: bytes, raw: memoryview) -> bytes:
        """The commitment, if it is the owner's and of this epoch."""
        its, committed, signature = bytes(raw[:DIGEST_BYTES]), bytes(raw[DIGEST_BYTES : 2 * DIGEST_BYTES]), bytes(raw[2 * DIGEST_BYTES :])
        if not self.roster.verifies(owner, self.statement(its, committed), signature):
            raise violation("bad_commitment", f"{owner!r} sent a commitment without its signature", owner)
        if its != epoch:
            raise violation(
                "epoch_differs",
                f"{owner!r} speaks of another key than the one that rows are encrypted under; all data owners must share them again",
                owner,
            )
        return committed

    def check_zero(self, owner: str, raw: memoryview, committed: bytes) -> None:
        """Refuse an encryption of zero that its owner had not committed to."""
        if self.commitment(owner, raw) != committed:
            raise violation("bad_zero", f"{owner!r} revealed an encryption of zero that it had not committed to", owner)

    def share_statement(self, box: bytes | memoryview) -> bytes:
        """What an owner signs with its sealed shares."""
        return digest("veilstat/rows/share/1", self.context, bytes(box))

    def digest_of(self, part: bytes | memoryview) -> bytes:
        """A digest of the cloud's part of all answers."""
        return digest("veilstat/rows/part/1", self.context, bytes(part))

    def label(self, owner: str) -> bytes:
        """What sealed shares are bound to besides the context."""
        return b"answers\0" + owner.encode()

    def encode(self, values: Iterable[int]) -> bytes:
        """Integers modulo Q."""
        return b"".join(value.to_bytes(self.parameters.answer_bytes, "little") for value in values)

    def decode(self, raw: bytes | memoryview) -> list[int]:
        """The inverse of ``encode``."""
        size = self.parameters.answer_bytes
        return [int.from_bytes(raw[start : start + size], "little") for start in range(0, len(raw), size)]

    def answers(self, evaluation: Evaluation) -> tuple[Answer, ...]:
        """Where answers stand in an epoch; CapabilityError where its uploads do not hold them."""
        return tuple(Answer.of(opened, evaluation.layout) for opened in self.opened)


def share_bytes(parameters: RowParameters, count: int) -> int:
    """Bytes of an owner's sealed and signed shares of ``count`` answers."""
    return SEALED_BYTES + DIGEST_BYTES + count * parameters.answer_bytes + SIGNATURE_BYTES


def round_costs(parameters: RowParameters, owners: Sequence[str], count: int) -> tuple[RoundCost, ...]:
    """What each owner sends and receives for ``count`` answers."""
    return (
        RoundCost(COMMIT_ZERO, COMMITMENT_BYTES, 0),
        RoundCost(REVEAL_ZERO, parameters.ciphertext_bytes, parts_size(owners, COMMITMENT_BYTES)),
        RoundCost(DECRYPT, share_bytes(parameters, count), DIGEST_BYTES + parts_size(owners, parameters.ciphertext_bytes)),
    )
