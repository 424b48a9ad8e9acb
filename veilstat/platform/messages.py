"""Messages of a query as a whole: proposal, approval, and the request of each step, with their sizes.

Like everything on the wire they have a schema and a limit; broadcast values are integers of fixed width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from veilstat.language.step import Arrays, WireType
from veilstat.protocol.context import DIGEST_BYTES, digest
from veilstat.protocol.envelope import array_bytes, binary_bytes, names_bytes, text_bytes
from veilstat.protocol.faults import violation
from veilstat.protocol.identity import SIGNATURE_BYTES

PROPOSE, APPROVE, REQUEST = "propose", "approve", "request"
QUERY_ID_BYTES = 16


class Proposal(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The analyst's signed query: canonical JSON, the plan's digest, a random id."""

    query: bytes
    plan: bytes
    query_id: bytes
    signature: bytes


class Approval(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Which owners agreed."""

    owners: list[str]


class StepRequest(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One opening: which step, which time, over whom, the analyst's key for it, and the broadcast values."""

    label: str
    index: bytes
    participants: list[str]
    key: bytes
    public: bytes


APPROVAL_BYTES = array_bytes(1) + array_bytes(0)
"""Bytes of the Approval of one owner, who holds its rows itself."""


def proposal_bytes(query: bytes) -> int:
    """Bytes of a Proposal."""
    parts = (len(query), DIGEST_BYTES, QUERY_ID_BYTES, SIGNATURE_BYTES)
    return array_bytes(len(parts)) + sum(map(binary_bytes, parts))


def request_bytes(label: str, owners: Sequence[str], key: int, public: int) -> int:
    """Bytes of a StepRequest."""
    return (
        array_bytes(5) + text_bytes(len(label.encode())) + binary_bytes(8) + names_bytes(owners) + binary_bytes(key) + binary_bytes(public)
    )


def encode(message: msgspec.Struct) -> bytes:
    """MessagePack."""
    return msgspec.msgpack.encode(message)


def public_width(wire: WireType) -> int:
    """Bytes of each broadcast integer."""
    return wire.interval.magnitude_bits // 8 + 1


def public_bytes(names: Sequence[str], types: Mapping[str, WireType]) -> int:
    """Bytes of the broadcast values of one opening."""
    return sum(types[name].size * public_width(types[name]) for name in names)


def encode_public(names: Sequence[str], types: Mapping[str, WireType], values: Arrays) -> bytes:
    """Broadcast integers in order of name, little-endian two's complement of fixed width."""
    parts = []
    for name in names:
        width = public_width(types[name])
        parts += [int(value).to_bytes(width, "little", signed=True) for value in values[name].reshape(-1)]
    return b"".join(parts)


def decode_public(raw: bytes, names: Sequence[str], types: Mapping[str, WireType], sender: str) -> Arrays:
    """The inverse of ``encode_public``; a violation where a value leaves its declared bounds."""
    if len(raw) != public_bytes(names, types):
        raise violation("malformed", f"{sender!r} broadcast values of the wrong length", sender)
    values, start = {}, 0
    for name in names:
        wire, width = types[name], public_width(types[name])
        integers = [
            int.from_bytes(raw[start + place * width : start + (place + 1) * width], "little", signed=True) for place in range(wire.size)
        ]
        bounds = wire.interval
        if any(not bounds.low <= value <= bounds.high for value in integers):
            raise violation("public_out_of_bounds", f"{sender!r} broadcast {name!r} outside its declared bounds", sender)
        values[name] = np.array(integers, dtype=object).reshape(wire.shape)
        start += wire.size * width
    return values


def public_digest(raw: bytes) -> bytes:
    """The digest of the broadcast values, which enters the step's context."""
    return digest("veilstat/public/1", raw)
