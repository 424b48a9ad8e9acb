"""A party in a process of its own: what arrives is handed to it, what it says is sent, and what it awaits in vain expires.

Whoever waits says so now and then, as only a process that runs can. So of several that wait for each other, those that
wait for a silent peer give up first, and what they say ends the others, who wait for somebody who is waiting: the peer
that is named is the one that does not run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from veilstat.protocol.envelope import Envelope
from veilstat.protocol.faults import ProtocolError

from .machine import Hosted
from .occurrences import Arrived, Lost, Occurrence
from .tcp import Endpoint

_LONGEST_WAIT = 0.5
_BEATS = 4
"""How often in a round's time a waiting party is heard of."""
_EXTENSION = 2
"""How much longer a round lasts whose missing senders are all heard of."""


def serve(
    name: str,
    machine: Hosted,
    endpoint: Endpoint,
    groups: Mapping[str, tuple[str, ...]],
    report: Callable[[Occurrence], None],
    is_over: Callable[[], bool],
) -> None:
    """Serve until ``is_over``, which is asked at least twice a second; ``groups`` are names that stand for several recipients."""
    since = beaten = endpoint.clock()
    while not is_over():
        awaited = machine.awaited
        occurrences = endpoint.poll(_LONGEST_WAIT)
        now = endpoint.clock()
        if not machine.waiting or any(_is_from(awaited, occurrence) for occurrence in occurrences):
            since = now
        elif now - since >= endpoint.timeouts.progress * (1 if _awaits_silence(name, machine, endpoint) else _EXTENSION):
            machine.expire()
            since = now
        if machine.waiting and now - beaten >= endpoint.timeouts.progress / _BEATS:
            endpoint.beat(name)
            beaten = now
        for occurrence in occurrences:
            match occurrence:
                case Arrived(peer=peer, frame=frame):
                    machine.receive(frame, peer)
                case Lost(fault=fault):
                    machine.lost(fault)
            report(occurrence)
        if machine.awaited != awaited:
            since = now
        for event in machine.events():
            for recipient in groups.get(event.recipient, (event.recipient,)):
                endpoint.send(name, recipient, event.frame)


def _is_from(awaited: frozenset[str], occurrence: Occurrence) -> bool:
    """Whether a frame is of somebody who is awaited, or says so where somebody else brings it: a name that nobody has verified can still delay."""
    if not isinstance(occurrence, Arrived) or not awaited:
        return False
    try:
        return occurrence.peer in awaited or Envelope.decode(occurrence.frame).sender in awaited
    except ProtocolError:
        return False


def _awaits_silence(name: str, machine: Hosted, endpoint: Endpoint) -> bool:
    """Whether somebody who is awaited was not heard of for half of a round's time."""
    longest = endpoint.timeouts.progress / 2
    return not machine.awaited or any(endpoint.silence(name, peer) > longest for peer in machine.awaited)
