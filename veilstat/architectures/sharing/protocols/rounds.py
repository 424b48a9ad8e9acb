"""Rounds of three servers on a ring: each sends to the next what it yields, and receives as much from the previous.

A protocol is a generator. It knows no socket: whoever drives it carries its bytes.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

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


@dataclass(frozen=True, slots=True)
class Run(Generic[T]):
    """What three servers ended with, how many rounds they took, and what each received in each round."""

    results: tuple[T, ...]
    received: tuple[tuple[bytes, ...], ...] = field(repr=False)

    @property
    def rounds(self) -> int:
        """Messages that each server sent."""
        return len(self.received[0])

    @property
    def bytes_per_server(self) -> int:
        """Payload that each server sent."""
        return sum(len(payload) for payload in self.received[0])


def run_three(protocols: Iterable[Protocol[T]]) -> Run[T]:
    """Run the protocols of servers 0, 1 and 2 in one process.

    Raises:
        RuntimeError: they did not all end in the same round.
    """
    lanes = [_Lane(protocol) for protocol in protocols]
    received: list[list[bytes]] = [[] for _ in lanes]
    going = [lane.advance(None) for lane in lanes]
    while all(going):
        payloads = [lane.payload for lane in lanes]
        for index in range(len(lanes)):
            received[index].append(payloads[index - 1])
        going = [lane.advance(received[index][-1]) for index, lane in enumerate(lanes)]
    if any(going):
        raise RuntimeError("a server ended before the others")
    return Run(tuple(lane.result for lane in lanes), tuple(tuple(payloads) for payloads in received))
