"""The coordinator's middle: signed frames go where their envelopes say, or to the coordinator's own party. Sans I/O.

Whoever is lost is awaited no more: a round closes as soon as nobody who could still speak is missing. What owners and
compute servers say to each other of rows belongs to no query: it passes beside one, and whoever waits in it for a
server that is lost is told at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from veilstat.protocol.envelope import Envelope
from veilstat.protocol.faults import QUORUM, Fault, ProtocolError

from ..coordinator import Coordinator
from ..definition import ANALYST, PARTIES, SERVER
from .patience import Patience

Port = Callable[[bytes], None]


class Switchboard:
    """Joins the parties that are connected at present; ``report`` is told of events by name and party."""

    def __init__(self, party: Coordinator, patience: Patience, report: Callable[[str, str, str], None]) -> None:
        self.party, self.patience, self.report = party, patience, report
        self.ports: dict[str, Port] = {}
        self.bytes: Counter[str] = Counter()
        """What each party sent and received in the running query, or the last one."""
        self._root: bytes | None = None
        self._present: set[str] = set()
        self._uploads: dict[str, bytes] = {}
        """The root of what each owner said last to a compute server beside the query."""

    def plug(self, name: str, port: Port) -> None:
        """A party is connected; it takes part from the next query on."""
        self.ports[name] = port
        self.report("connected", name, "")

    def unplug(self, name: str, why: str) -> None:
        """A party is gone, and with it what it knew of the running query."""
        if self.ports.pop(name, None) is None:
            return
        self._present.discard(name)
        self.report("lost", name, why)
        words = f"the connection to {name!r} is over ({why}), and with it the query; start it again once {name!r} is connected"
        self.party.lost(Fault(QUORUM, "party_lost", words, (name,)))
        self._uploads.pop(name, None)
        if name in self.party.definition.servers:
            for owner, root in self._uploads.items():
                self._refuse(owner, root, f"the connection to {name!r} is over ({why}); try again once it is back", name)
        self._settle()

    def take(self, origin: str, frame: bytes) -> None:
        """A frame from a connected party. What nobody can read goes nowhere."""
        try:
            envelope = Envelope.decode(frame)
        except ProtocolError as error:
            self.report("unreadable", origin, error.fault.code)
            return
        if origin != envelope.sender:
            # A word that somebody else repeats could take the place of its owner's last one.
            self.report("rejected", origin, "unexpected_sender")
            return
        if self._is_beside(envelope):
            self._pass_beside(envelope)
            return
        self.bytes[origin] += len(frame)
        if envelope.recipient in (SERVER, PARTIES):
            self.party.receive(frame, origin)
        else:
            self._deliver(envelope.recipient, frame)
        self._settle()

    def begin(self, act: Callable[[], None]) -> None:
        """Let the coordinator's party begin something."""
        act()
        self._settle()

    def tick(self) -> None:
        """Called several times a second: lets waits expire."""
        if self.patience.is_over(self.party.awaits):
            self.party.expire()
            self._settle()

    def _is_beside(self, envelope: Envelope) -> bool:
        """Whether a frame is of an upload: between an owner and a compute server, and of no query that runs."""
        roles = self.party.roster.roles
        pair = {roles.get(envelope.sender), roles.get(envelope.recipient)}
        return self.party.definition.keeps_rows and pair == {"owner", "compute"} and envelope.root != self._root

    def _pass_beside(self, envelope: Envelope) -> None:
        origin, recipient, root = envelope.sender, envelope.recipient, envelope.root
        port = self.ports.get(recipient)
        if origin in self.party.definition.owners:
            self._uploads[origin] = root
            if port is None:
                self._refuse(origin, root, f"{recipient!r} is not connected to the coordinator; try again once it is", recipient)
        if port is not None:
            port(envelope.frame)

    def _refuse(self, owner: str, root: bytes, words: str, culprit: str) -> None:
        """Tell an owner that nobody will answer."""
        port = self.ports.get(owner)
        if port is not None:
            for frame in self.party.refusal(owner, root, Fault(QUORUM, "party_lost", words, (culprit,))):
                port(frame)

    def _settle(self) -> None:
        """Deliver what the coordinator says, until it waits for somebody who can still speak."""
        self._pump()
        while self.party.waiting and self.party.awaited and self.party.awaited.isdisjoint(self._present):
            self.party.expire()
            self._pump()

    def _pump(self) -> None:
        if self.party.root != self._root:
            self._root, self._present = self.party.root, set(self.ports)
            if self._root is not None:
                self.bytes.clear()
                self.report("epoch" if self.party.is_making_key else "query", SERVER, self._root.hex()[:16])
        for event in self.party.events():
            for recipient in self.party.definition.approvers if event.recipient == PARTIES else (event.recipient,):
                self._deliver(recipient, event.frame)
        for fault in self.party.rejected:
            self.report("rejected", ", ".join(fault.culprits), fault.code)
        self.party.rejected.clear()

    def _deliver(self, recipient: str, frame: bytes) -> None:
        port = self.ports.get(recipient)
        # Who joined after the query began knows nothing of it; the analyst's session is the query's own.
        if port is not None and (recipient in self._present or recipient == ANALYST):
            self.bytes[recipient] += len(frame)
            port(frame)
