"""Reading what a party sent: one place where bytes become a value, or a violation that names the sender."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from .faults import violation

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
