"""Rounds, labels and layouts of messages between owners, compute servers and the analyst.

1. share: every owner seals to every compute server the components that the server is to hold.
2. tally: the servers tell each other whose components arrived; all go on with those that arrived everywhere.
3. compute: servers that multiply exchange one message per layer of the circuit, each with its neighbour on the ring.
4. result: every server seals its component of the answer to the analyst, who adds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from veilstat.architectures.interface import RoundCost
from veilstat.arithmetic.agreement import PUBLIC_KEY_BYTES, SEALED_BYTES
from veilstat.protocol.context import DIGEST_BYTES
from veilstat.protocol.envelope import array_bytes, binary_bytes, names_bytes
from veilstat.protocol.faults import violation

SHARE, TALLY, COMPUTE, RESULT = "share", "tally", "compute", "result"
ROUNDS = (SHARE, TALLY, COMPUTE, RESULT)
_FEWEST_BYTES = 4


class Tally(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Whose components arrived at a server, its key for this step, and the digest of the uploads where rows are used."""

    owners: list[str]
    key: bytes
    uploads: bytes


class Part(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A server's component of the answer, sealed, and whose data it holds."""

    owners: list[str]
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Share:
    """What an owner seals to a server: its components, and the fewest owners that it wants in one total."""

    fewest: int
    payload: bytes

    def encode(self) -> bytes:
        return self.fewest.to_bytes(_FEWEST_BYTES, "little") + self.payload

    @staticmethod
    def decode(raw: bytes, size: int, sender: str) -> Share:
        """Parse; a violation by ``sender`` where the payload has not ``size`` bytes."""
        if len(raw) != _FEWEST_BYTES + size:
            raise violation("malformed", f"{sender!r} sent shares of the wrong length", sender)
        return Share(int.from_bytes(raw[:_FEWEST_BYTES], "little"), raw[_FEWEST_BYTES:])


def share_label(owner: str, server: str) -> bytes:
    """What a sealed share is bound to besides its step."""
    return b"share\0" + owner.encode() + b"\0" + server.encode()


def result_label(server: str) -> bytes:
    """What a sealed part of the answer is bound to besides its step."""
    return b"result\0" + server.encode()


def share_size(payload: int) -> int:
    """Bytes of a sealed share."""
    return SEALED_BYTES + _FEWEST_BYTES + payload


def tally_size(owners: Sequence[str]) -> int:
    """Bytes of a Tally over all owners, at most."""
    return array_bytes(3) + names_bytes(owners) + binary_bytes(PUBLIC_KEY_BYTES) + binary_bytes(DIGEST_BYTES)


def part_size(owners: Sequence[str], payload: int) -> int:
    """Bytes of a Part over all owners, at most."""
    return array_bytes(2) + names_bytes(owners) + binary_bytes(SEALED_BYTES + payload)


def round_costs(servers: Sequence[str], payloads: Sequence[int]) -> tuple[RoundCost, ...]:
    """What each owner sends to every server, for payloads of so many bytes."""
    return tuple(RoundCost(SHARE, share_size(payload), 0, server) for server, payload in zip(servers, payloads, strict=True))
