"""What all parties share: opening envelopes, refusing what is not for them, and handing on to the right session."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import ClassVar

from veilstat.protocol.envelope import NO_STEP, Envelope, seal
from veilstat.protocol.faults import Fault, ProtocolError, violation
from veilstat.protocol.member import Member
from veilstat.protocol.session import ABORT, Failed, Finished, Send, Session, decode_fault, encode_fault

from .definition import PARTIES, Definition
from .gate import ReleaseGate
from .messages import PROPOSE

MOST_REJECTED = 1000
_MOST_EARLY = 64


class Party:
    """A machine that serves one query at a time: ``receive`` frames, ``expire`` waits, collect ``events``.

    Subclasses say what a message of the query (``on_query``), the end of a step (``on_finished``) and the end of
    the query (``on_failed``) mean to them.
    """

    beginnings: ClassVar[frozenset[str]] = frozenset((PROPOSE,))
    """Messages that begin something new; others must belong to what runs."""

    def __init__(self, member: Member, definition: Definition) -> None:
        self.member, self.definition = member, definition
        self.identity, self.roster = member.identity, member.roster
        self.rejected: deque[Fault] = deque(maxlen=MOST_REJECTED)
        """The last frames that were refused; anybody can send any number of them."""
        self.root: bytes | None = None
        self.gate: ReleaseGate | None = None
        """What the query that runs may still open."""
        self.fault: Fault | None = None
        """What ended the last one that failed."""
        self.session: Session | None = None
        self.step = NO_STEP
        self._outbox: list[Send] = []
        self._early: list[Envelope] = []

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    def waiting(self) -> bool:
        """Whether something is awaited that may never come."""
        return self._in_session

    @property
    def is_making_key(self) -> bool:
        """Whether a key is being made that rows are encrypted under: a session that is no query's."""
        return self.definition.keeps_epochs and self.gate is None and self._in_session

    @property
    def awaited(self) -> frozenset[str]:
        """The parties that it waits for."""
        return frozenset() if self.session is None else self.session.awaited

    @property
    def stage(self) -> int:
        """How far it has come in what it waits for: of several that wait, the one in the earliest round gives up first."""
        return 0 if self.session is None else self.session.stage

    @property
    def awaits(self) -> tuple[str, ...] | None:
        """Names what is awaited, differently in each round; None where nothing is."""
        if not self.waiting or self.root is None:
            return None
        return (self.root.hex(), self.step.hex(), "" if self.session is None else self.session.waiting_for or "")

    def receive(self, frame: bytes, carrier: str = "") -> None:
        """Take a frame from anybody; what was not signed by a party of the roster is refused and noted.

        ``carrier`` is the party that brought it, as far as the transport knows: whom an unsigned frame names is no evidence.
        """
        try:
            envelope = Envelope.decode(frame)
        except ProtocolError as error:
            self.rejected.append(_brought(error.fault, carrier))
            return
        try:
            envelope.verify(self.member)
            if envelope.recipient not in (self.name, self._group()):
                raise violation("misdirected", f"a message for another party reached {self.name!r}")
        except ProtocolError as error:
            fault = _brought(error.fault, carrier)
            self.rejected.append(fault)
            if envelope.root == self.root:
                self.fail(fault)
            return
        try:
            self._route(envelope)
        except ProtocolError as error:
            self.fail(error.fault)

    def expire(self) -> None:
        """Nothing more will come for what is awaited now."""
        if self.session is not None and self.session.waiting_for is not None:
            self.session.expire(self.session.waiting_for)
            self._drain()

    def events(self) -> Iterator[Send]:
        """Frames to be sent since the last call."""
        outbox, self._outbox = self._outbox, []
        return iter(outbox)

    def fail(self, fault: Fault) -> None:
        """End the query, telling the others."""
        if self.root is None:
            self.rejected.append(fault)
            return
        if self.session is not None and self._in_session:
            self.session.fail(fault)
            self._drain()
            return
        for recipient in self.others():
            self.send(ABORT, recipient, encode_fault(fault))
        self._fail(fault)

    def lost(self, fault: Fault) -> bool:
        """The process of the fault's culprits is gone. Owners may drop out; without any other party the query ends, which is said."""
        if self.root is None or all(self.roster.roles[name] == "owner" for name in fault.culprits):
            return False
        self.fail(fault)
        return True

    def send(self, round_name: str, recipient: str, payload: bytes) -> None:
        """Send a message of the query itself, outside any step."""
        assert self.root is not None
        self.say(self.root, round_name, recipient, payload)

    def say(self, root: bytes, round_name: str, recipient: str, payload: bytes) -> None:
        """Send a message that is bound to a root and to no step, whatever runs here."""
        self._outbox += [Send(recipient, frame) for frame in seal(self.member, root, NO_STEP, round_name, recipient, payload)]

    def begin(self, step: bytes, session: Session) -> None:
        """Start a step's session, with whatever arrived for it already."""
        self.step, self.session = step, session
        early, self._early = self._early, []
        for envelope in early:
            if envelope.root == self.root and envelope.step == step:
                session.receive(envelope)
        self._drain()

    def others(self) -> tuple[str, ...]:
        """Whom to tell when the query fails."""
        raise NotImplementedError

    def on_query(self, envelope: Envelope) -> None:
        """A message of the query itself."""
        raise NotImplementedError

    def on_finished(self, result: object) -> None:
        """The step's session has ended with a result."""
        raise NotImplementedError

    def on_failed(self, fault: Fault) -> None:
        """The query has ended without one."""

    @property
    def _in_session(self) -> bool:
        return self.session is not None and self.session.waiting_for is not None

    def _turn_to(self, root: bytes) -> None:
        """Leave what ran for what is bound to another root."""
        self.root, self.session, self.gate = root, None, None

    def _group(self) -> str:
        return PARTIES if self.roster.roles[self.name] in ("owner", "compute") else self.name

    def _route(self, envelope: Envelope) -> None:
        if envelope.step == NO_STEP:
            if envelope.round == ABORT and envelope.root == self.root:
                self._hear_abort(envelope)
            elif envelope.round != ABORT:
                if envelope.root != self.root and envelope.round not in self.beginnings:
                    self._note_stranger(envelope)
                    return
                if envelope.blocks != 1:
                    raise violation("too_large", f"{envelope.sender!r} sent a message of a query in several blocks", envelope.sender)
                self.on_query(envelope)
        elif self.session is not None and envelope.root == self.root and envelope.step == self.step:
            self.session.receive(envelope)
            self._drain()
        elif self._may_come_early(envelope):
            self._early.append(envelope)
        else:
            self._note_stranger(envelope)

    def _note_stranger(self, envelope: Envelope) -> None:
        """Whoever replays an old frame must not end the query that runs now."""
        words = f"{envelope.sender!r} spoke of a query or step that is not running here"
        self.rejected.append(violation("unknown_session", words, envelope.sender).fault)

    def _note_replay(self, envelope: Envelope) -> None:
        """What was heard already is done already."""
        words = f"the {envelope.round} of {envelope.sender!r} was replayed"
        self.rejected.append(violation("already_answered", words, envelope.sender).fault)

    def _may_come_early(self, envelope: Envelope) -> bool:
        """Compute servers may hear of a step from owners and from each other before the analyst's request reaches them."""
        if self.roster.roles[self.name] != "compute" or self.root is None or envelope.root != self.root:
            return False
        return sum(early.sender == envelope.sender for early in self._early) < _MOST_EARLY

    def _hear_abort(self, envelope: Envelope) -> None:
        fault = decode_fault(envelope.payload, envelope.sender)
        for recipient in self.others():
            if recipient != envelope.sender and self.roster.roles[self.name] == "server":
                self.send(ABORT, recipient, encode_fault(fault))
        self._fail(fault)

    def _drain(self) -> None:
        session = self.session
        if session is None:
            return
        for event in session.events():
            match event:
                case Send():
                    self._outbox.append(event)
                case Finished(result):
                    self.on_finished(result)
                case Failed(fault):
                    self._fail(fault)

    def _fail(self, fault: Fault) -> None:
        self.root, self.session, self.gate, self.step, self._early = None, None, None, NO_STEP, []
        self.fault = fault
        self.on_failed(fault)


def _brought(fault: Fault, carrier: str) -> Fault:
    """The fault of a frame whose sender is not known, laid to whoever brought it."""
    return fault if not carrier else Fault(fault.kind, fault.code, f"{fault.message}; {carrier!r} brought it", (carrier,))
