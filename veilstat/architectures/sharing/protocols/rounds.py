"""Rounds of three servers on a ring: each sends to the next what it yields, and receives as much from the previous.

A protocol is a generator. It knows no socket: whoever drives it carries its bytes.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, TypeAlias, TypeVar

from veilstat.protocol.faults import violation

SERVERS = 3

T = TypeVar("T")
Protocol: TypeAlias = "Generator[bytes, bytes, T]"


def exchange(payload: bytes) -> Protocol[bytes]:
    """One round.

    Raises:
        ProtocolError: the previous server's message has not the length of ours; all servers send equally much.
    """
    received = yield payload
    if len(received) != len(payload):
        raise violation("malformed", f"the previous server sent {len(received)} bytes in a round of {len(payload)}")
    return received


def advanced(protocol: Protocol[Any], received: bytes | None) -> bytes:
    """What a protocol sends once it has received a message, or when it starts (None); StopIteration where it returns."""
    return next(protocol) if received is None else protocol.send(received)


def gather(protocols: Iterable[Protocol[Any]]) -> Protocol[list[Any]]:
    """Run protocols side by side, their messages joined in order, and return their results.

    They may take different numbers of rounds. Each draws its correlated randomness in the same order at every
    server, since which of them take part in a round is public.
    """
    lanes = [_Lane(protocol) for protocol in protocols]
    active = [lane for lane in lanes if lane.advance(None)]
    while active:
        received = yield from exchange(b"".join([lane.payload for lane in active]))
        start, remaining = 0, []
        for lane in active:
            end = start + len(lane.payload)
            if lane.advance(received[start:end]):
                remaining.append(lane)
            start = end
        active = remaining
    return [lane.result for lane in lanes]


class _Lane:
    """One of several protocols that run side by side, and what it sends next."""

    def __init__(self, protocol: Protocol[Any]) -> None:
        self.protocol = protocol
        self.payload = b""
        self.result: Any = None

    def advance(self, received: bytes | None) -> bool:
        """Deliver a message (None to start); False when the protocol has returned."""
        try:
            self.payload = advanced(self.protocol, received)
        except StopIteration as stop:
            self.result = stop.value
            return False
        return True
