"""Parties in other processes, as machines of a MemoryNetwork: what they are told travels over an endpoint, and so do their answers.

``MemoryNetwork.settle`` expires a machine when nothing is left to deliver. For a remote party that is the moment to
wait for the network; so every remote party is a tier of its own, before those of the local parties.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from veilstat.protocol.envelope import Envelope
from veilstat.protocol.faults import QUORUM, Fault, ProtocolError
from veilstat.protocol.session import Send

from .machine import Hosted
from .occurrences import Arrived, Lost, Occurrence
from .tcp import Endpoint

_WRITING = 0.05


class RemoteParties:
    """The parties that an embedded study reaches in other processes.

    Args:
        names: the remote parties; ``machines`` has one for each. local: the parties of this process.
        report: told everything but frames.
    """

    def __init__(
        self, endpoint: Endpoint, names: tuple[str, ...], local: Mapping[str, Hosted], report: Callable[[Occurrence], None]
    ) -> None:
        self.endpoint, self.local, self.report = endpoint, local, report
        self.machines = {name: RemoteMachine(name, self) for name in names}
        self._in_vain = False

    def connect(self, timeout: float) -> None:
        """Wait until every party is connected. Called before every query, so that a restart in between fails none.

        Raises:
            ProtocolError: a party did not come within ``timeout`` seconds.
        """
        deadline = self.endpoint.clock() + timeout
        left = 0.0
        while True:
            for occurrence in self.endpoint.poll(left):
                self._take(occurrence)
            if not self.endpoint.unconnected:
                return
            left = deadline - self.endpoint.clock()
            if left <= 0:
                missing = tuple(sorted({peer for _, peer in self.endpoint.unconnected}))
                text = f"{', '.join(missing)} not reached within {timeout:g} seconds; start the servers, compare addresses in the roster"
                raise ProtocolError(Fault(QUORUM, "unreachable", text, missing))

    @property
    def is_awaited(self) -> bool:
        """Whether the network may still bring what a local party waits for, or has yet to take what it was given."""
        return not self._in_vain and (self.endpoint.is_unsent or self._someone_waits)

    @property
    def _someone_waits(self) -> bool:
        return any(machine.waiting for machine in self.local.values())

    def send(self, party: str, peer: str, frame: bytes) -> None:
        """Send a frame of a local party to a remote one."""
        self.endpoint.send(party, peer, frame)
        self._in_vain = False

    def wait(self) -> None:
        """Wait until something comes for a local party, or until waiting is in vain."""
        deadline = self.endpoint.clock() + self.endpoint.timeouts.progress
        while self.is_awaited:
            left = deadline - self.endpoint.clock()
            self._in_vain = left <= 0
            # Where nobody waits, the frames that are left to be written are all that keeps this process.
            longest = left if self._someone_waits else min(left, _WRITING)
            useful = [self._take(occurrence) for occurrence in self.endpoint.poll(max(0.0, longest))]
            if any(useful):
                self._in_vain = False
                return

    def _take(self, occurrence: Occurrence) -> bool:
        match occurrence:
            case Arrived(party, peer, frame):
                self.machines[peer].arrived.append(Send(party, frame))
                return True
            case Lost(party=party, fault=fault):
                self.report(occurrence)
                return self.local[party].lost(fault)
            case _:
                self.report(occurrence)
                return False


class RemoteMachine:
    """One remote party."""

    def __init__(self, name: str, parties: RemoteParties) -> None:
        self.name, self.parties = name, parties
        self.arrived: list[Send] = []

    def receive(self, frame: bytes, carrier: str = "") -> None:
        """Send the frame on, over the connection of the party that signed it."""
        try:
            sender = Envelope.decode(frame).sender
        except ProtocolError:
            # Nobody's connection carries what nobody can read; whoever awaits it will miss it.
            return
        self.parties.send(sender, self.name, frame)

    def events(self) -> Iterator[Send]:
        """What it has answered since the last call."""
        arrived, self.arrived = self.arrived, []
        return iter(arrived)

    @property
    def waiting(self) -> bool:
        """Whether waiting for the network may help."""
        return self.parties.is_awaited

    @property
    def stage(self) -> int:
        """Remote parties wait for rounds of their own, in their own processes."""
        return 0

    def expire(self) -> None:
        """Nothing moves in this process: wait for the others."""
        self.parties.wait()
