"""Several frames in one body: each behind its length (4 bytes, little-endian)."""

from __future__ import annotations

from collections.abc import Iterable

from veilstat.protocol.envelope import LARGEST_FRAME
from veilstat.protocol.faults import violation

_LENGTH_BYTES = 4


def pack(frames: Iterable[bytes]) -> bytes:
    """The frames as one body."""
    return b"".join(part for frame in frames for part in (len(frame).to_bytes(_LENGTH_BYTES, "little"), frame))


def unpack(body: bytes) -> list[bytes]:
    """The frames of a body; ProtocolError for anything that ``pack`` does not write."""
    frames, start = [], 0
    while start < len(body):
        end = start + _LENGTH_BYTES
        length = int.from_bytes(body[start:end], "little")
        if not 0 < length <= LARGEST_FRAME or len(body) < end + length:
            raise violation("malformed", "a body is no sequence of frames behind their lengths")
        frames.append(body[end : end + length])
        start = end + length
    return frames
