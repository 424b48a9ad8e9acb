"""One party's side of one step: collects each round's messages and moves from round to round.

A session is fed bytes and told when a round has expired; it answers with events. It owns no socket and no clock.
Messages that arrive early are kept, resent ones are ignored, and whatever the protocol forbids ends the session
with a fault that names the culprits. A session that has ended never resumes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import msgspec

from .codec import decode
from .envelope import BLOCK_BYTES, Envelope, seal
from .faults import Fault, ProtocolError, UnreportedError, quorum_lost, violation
from .identity import Identity, Roster
from .member import Member

ABORT = "abort"
# Blocks, of 1 MiB at most: one layer of a computation on rows may take hundreds, and come before the round that it is for.
_MOST_EARLY = 1 << 10
_LONGEST_LAYER = 9


@dataclass(frozen=True, slots=True)
class Message:
    """What a party wants to say."""

    round: str
    recipient: str
    payload: bytes | memoryview


@dataclass(frozen=True, slots=True)
class Send:
    """Event: a frame for a recipient."""

    recipient: str
    frame: bytes


@dataclass(frozen=True, slots=True)
class Finished:
    """Event: the session reached its end with a result."""

    result: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """Event: the session ended without a result."""

    fault: Fault


Event: TypeAlias = "Send | Finished | Failed"


class Round(Protocol):
    """What a party waits for, and what it does when it has it. Holds only what later rounds need."""

    @property
    def name(self) -> str:
        """The round whose messages are awaited."""
        ...

    @property
    def senders(self) -> frozenset[str]:
        """Who is to send one."""
        ...

    @property
    def quorum(self) -> int:
        """With how many the round may close when it expires."""
        ...

    @property
    def largest(self) -> int:
        """Bytes above which a payload is refused."""
        ...

    def take(self, sender: str, payload: memoryview) -> None:
        """Accept one complete message; raises ProtocolError."""
        ...

    def close(self) -> Turn:
        """Everything has arrived, or the quorum has and time is up; raises ProtocolError."""
        ...


@dataclass(frozen=True, slots=True)
class Turn:
    """What follows a round: messages to send, and either the next round or the result."""

    send: tuple[Message, ...]
    following: Round | None = None
    result: Any = None


@dataclass(frozen=True, slots=True)
class Binding:
    """Whose session this is and what it is bound to; ``rounds`` lists the names of all rounds in order."""

    identity: Identity
    roster: Roster
    root: bytes
    step: bytes
    rounds: tuple[str, ...]
    tell_on_abort: tuple[str, ...]


@dataclass(slots=True)
class _Partial:
    """A message of several blocks: those that arrived behind each other are one buffer, which is the only copy of them."""

    blocks: int
    joined: int = 0
    content: bytearray = field(default_factory=bytearray, repr=False)
    ahead: dict[int, memoryview] = field(default_factory=dict, repr=False)

    def put(self, envelope: Envelope) -> None:
        self.ahead[envelope.sequence] = envelope.payload
        while self.joined in self.ahead:
            self.content += self.ahead.pop(self.joined)
            self.joined += 1


class Session:
    """The machine around a chain of rounds."""

    def __init__(self, binding: Binding, first: Turn) -> None:
        self.binding, self._member = binding, Member(binding.identity, binding.roster)
        self._events: list[Event] = []
        self._round: Round | None = None
        self._arrived: set[str] = set()
        self._partial: dict[str, _Partial] = {}
        self._seen: dict[tuple[str, str, int], bytes] = {}
        self._early: list[Envelope] = []
        self._ended = False
        self._follow(first)

    def events(self) -> Iterator[Event]:
        """Everything that happened since the last call, in order."""
        events, self._events = self._events, []
        return iter(events)

    @property
    def waiting_for(self) -> str | None:
        """The round whose messages are awaited; None once the session has ended."""
        return None if self._ended or self._round is None else self._round.name

    @property
    def awaited(self) -> frozenset[str]:
        """The parties whose messages are awaited."""
        return frozenset() if self._ended or self._round is None else self._round.senders - self._arrived

    @property
    def stage(self) -> int:
        """The place of that round among the rounds: who waits in an earlier one gives up first."""
        rank = None if self.waiting_for is None else self._rank(self.waiting_for)
        return 0 if rank is None else rank[0]

    def receive(self, envelope: Envelope) -> None:
        """Take one envelope that was addressed to this session and whose signature was verified."""
        if self._ended:
            return
        try:
            self._take(envelope)
        except ProtocolError as error:
            self._refuse(error)

    def expire(self, round_name: str) -> None:
        """Time is up for a round: go on with those who answered, or end."""
        if self.waiting_for != round_name or self._round is None:
            return
        try:
            if len(self._arrived) < self._round.quorum:
                missing = tuple(sorted(self._round.senders - self._arrived))
                raise quorum_lost(round_name, len(self._arrived), self._round.quorum, missing)
            self._close()
        except ProtocolError as error:
            self._refuse(error)

    def fail(self, fault: Fault, told_by: str = "") -> None:
        """End with a fault and tell the others, except the one who told."""
        if self._ended:
            return
        payload = encode_fault(fault)
        for recipient in self.binding.tell_on_abort:
            if recipient != told_by:
                self._send(Message(ABORT, recipient, payload))
        self._end(Failed(fault))

    def _refuse(self, error: ProtocolError) -> None:
        if isinstance(error, UnreportedError):
            self._end(Failed(error.fault))
        else:
            self.fail(error.fault)

    def _take(self, envelope: Envelope) -> None:
        sender = envelope.sender
        if envelope.round == ABORT:
            self.fail(decode_fault(envelope.payload, sender), told_by=sender)
            return
        key = (sender, envelope.round, envelope.sequence)
        if key in self._seen:
            if self._seen[key] != envelope.digest:
                raise violation("equivocation", f"{sender!r} sent two different messages in round {envelope.round}", sender)
            return
        rank = self._rank(envelope.round)
        if rank is None:
            raise violation("unknown_round", f"{sender!r} sent a message of an unknown round", sender)
        current = self._round
        assert current is not None
        now = self._rank(current.name)
        assert now is not None
        if rank < now:
            return
        if rank > now:
            if sum(early.sender == sender for early in self._early) >= _MOST_EARLY:
                raise violation("flood", f"{sender!r} sent too many messages ahead of time", sender)
            self._seen[key] = envelope.digest
            self._early.append(envelope)
            return
        if sender not in current.senders:
            raise violation("unexpected_sender", f"{sender!r} has no part in round {current.name}", sender)
        if envelope.blocks > 1 + current.largest // BLOCK_BYTES:
            raise violation("too_large", f"{sender!r} announced a message above the limit in round {current.name}", sender)
        self._seen[key] = envelope.digest
        self._assemble(current, envelope)

    def _rank(self, round_name: str) -> tuple[int, int] | None:
        """The place of a round: its name among the rounds, and its layer (``name/7``) where it has layers."""
        name, _, layer = round_name.partition("/")
        if name not in self.binding.rounds or (layer and not (layer.isascii() and layer.isdigit() and len(layer) <= _LONGEST_LAYER)):
            return None
        return self.binding.rounds.index(name), int(layer or 0)

    def _assemble(self, current: Round, envelope: Envelope) -> None:
        sender = envelope.sender
        partial = self._partial.setdefault(sender, _Partial(envelope.blocks))
        if partial.blocks != envelope.blocks:
            raise violation("equivocation", f"{sender!r} changed the length of its message in round {current.name}", sender)
        payload = envelope.payload
        if envelope.blocks > 1:
            partial.put(envelope)
            if partial.joined < partial.blocks:
                return
            payload = memoryview(partial.content).toreadonly()
        del self._partial[sender]
        if len(payload) > current.largest:
            raise violation(
                "too_large",
                f"{sender!r} sent {len(payload):,} bytes in round {current.name}, at most {current.largest:,} are expected",
                sender,
            )
        current.take(sender, payload)
        self._arrived.add(sender)
        if self._arrived >= current.senders:
            self._close()

    def _close(self) -> None:
        assert self._round is not None
        self._follow(self._round.close())

    def _follow(self, turn: Turn) -> None:
        for message in turn.send:
            self._send(message)
        self._round, self._arrived, self._partial = turn.following, set(), {}
        if turn.following is None:
            self._end(Finished(turn.result))
            return
        early, self._early = self._early, []
        for envelope in early:
            self._seen.pop((envelope.sender, envelope.round, envelope.sequence))
            if not self._ended:
                self._take(envelope)

    def _send(self, message: Message) -> None:
        binding = self.binding
        for frame in seal(self._member, binding.root, binding.step, message.round, message.recipient, message.payload):
            self._events.append(Send(message.recipient, frame))

    def _end(self, event: Event) -> None:
        self._ended = True
        self._round, self._early, self._partial = None, [], {}
        self._events.append(event)


class _FaultMessage(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    kind: str
    code: str
    message: str
    culprits: Sequence[str]


def encode_fault(fault: Fault) -> bytes:
    """A fault as it travels."""
    return msgspec.msgpack.encode(_FaultMessage(fault.kind, fault.code, fault.message, fault.culprits))


def decode_fault(payload: memoryview | bytes, sender: str) -> Fault:
    """A fault that a party reported; a violation if it is malformed."""
    plain = decode(payload, _FaultMessage, sender, "a report")
    return Fault(plain.kind, plain.code, plain.message[:2000], tuple(plain.culprits[:1000]))
