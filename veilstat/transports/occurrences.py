"""What an endpoint reports: frames, lost peers, and lines for a log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from veilstat.protocol.faults import Fault


@dataclass(frozen=True, slots=True)
class Arrived:
    """A frame from a peer for a party of this process."""

    party: str
    peer: str
    frame: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """The session of a party of this process with a peer is over, and with it whatever was running between them."""

    party: str
    peer: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class Notice:
    """What happened (connected, broken, unreachable, refused) between a party and whom, and why."""

    what: str
    party: str
    peer: str
    why: str = ""


Occurrence: TypeAlias = "Arrived | Lost | Notice"
