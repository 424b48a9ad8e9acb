"""Reading what a party sent: one place where bytes become a value, or a violation that names the sender."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from .faults import violation

LENGTH_BYTES = 4

_T = TypeVar("_T")


def decode(payload: bytes | memoryview, kind: type[_T], sender: str, what: str = "a message") -> _T:
    """A MessagePack value of the given type.

    Raises:
        ProtocolError: a violation by ``sender``; text that is no UTF-8 is as unreadable as everything else.
    """
    try:
        return msgspec.msgpack.decode(payload, type=kind)
    except (msgspec.MsgspecError, ValueError):
        raise violation("malformed", f"{sender!r} sent {what} that could not be read", sender) from None


def with_head(head: object, parts: Iterable[bytes | memoryview]) -> bytes:
    """A MessagePack value, after its length in ``LENGTH_BYTES``, and raw bytes behind it."""
    encoded = msgspec.msgpack.encode(head)
    return b"".join((len(encoded).to_bytes(LENGTH_BYTES, "little"), encoded, *parts))


def split_head(payload: memoryview) -> tuple[memoryview, memoryview]:
    """The two parts of what ``with_head`` made, the first still encoded."""
    end = LENGTH_BYTES + int.from_bytes(payload[:LENGTH_BYTES], "little")
    return payload[LENGTH_BYTES:end], payload[end:]
