"""A party in a process of its own: what arrives is handed to it, what it says is sent, and what it awaits in vain expires."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .memory import Hosted
from .occurrences import Arrived, Lost, Occurrence
from .tcp import Endpoint

_LONGEST_WAIT = 0.5


def serve(
    name: str,
    machine: Hosted,
    endpoint: Endpoint,
    groups: Mapping[str, tuple[str, ...]],
    report: Callable[[Occurrence], None],
    is_over: Callable[[], bool],
) -> None:
    """Serve until ``is_over``, which is asked at least twice a second; ``groups`` are names that stand for several recipients."""
    since = endpoint.clock()
    while not is_over():
        occurrences = endpoint.poll(_LONGEST_WAIT)
        now = endpoint.clock()
        if not machine.waiting or any(isinstance(occurrence, Arrived) for occurrence in occurrences):
            since = now
        elif now - since >= endpoint.timeouts.progress:
            machine.expire()
            since = now
        for occurrence in occurrences:
            match occurrence:
                case Arrived(peer=peer, frame=frame):
                    machine.receive(frame, peer)
                case Lost(fault=fault):
                    machine.lost(fault)
            report(occurrence)
        for event in machine.events():
            for recipient in groups.get(event.recipient, (event.recipient,)):
                endpoint.send(name, recipient, event.frame)
