"""What data owners and compute servers have in common: each checks every query for itself before it takes part.

It verifies the analyst's signature, recomputes the plan and compares digests, and answers each step once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from veilstat.architectures.interface import StepBinding
from veilstat.errors import PolicyDenied, VeilstatError
from veilstat.protocol.codec import decode
from veilstat.protocol.context import proposal_message, session_root
from veilstat.protocol.envelope import Envelope
from veilstat.protocol.faults import Fault, violation
from veilstat.protocol.member import Member
from veilstat.protocol.session import ABORT, Session, encode_fault

from . import messages
from .definition import ANALYST, SERVER, Definition
from .gate import ReleaseGate
from .messages import Approval, Proposal, StepRequest
from .party import Party
from .plan import Plan, StepPlan
from .planner import Planner


class Sessions(Protocol):
    """The roots of all queries that a party has answered; ``add`` returns once it will be remembered."""

    def __contains__(self, root: object) -> bool: ...

    def add(self, root: bytes) -> None: ...


class Approver(Party):
    """A party that agrees to queries. Subclasses say who they are, what they ask of a plan, and how they take part in a step."""

    def __init__(
        self,
        member: Member,
        definition: Definition,
        planner: Planner,
        random: Callable[[int], bytes],
        answered: Sessions | None = None,
    ) -> None:
        super().__init__(member, definition)
        self.planner, self.random = planner, random
        self.answered: Sessions = set() if answered is None else answered

    @property
    def title(self) -> str:
        """Who this is, for messages."""
        raise NotImplementedError

    def consider(self, plan: Plan) -> None:
        """Refuse a plan by raising a VeilstatError."""
        raise NotImplementedError

    def holds(self) -> list[str]:
        """The owners whose uploaded rows this party holds."""
        return []

    def takes_part(self, participants: tuple[str, ...]) -> bool:
        """Whether this party has a part in a step over these owners."""
        raise NotImplementedError

    def join(self, step: StepPlan, binding: StepBinding, digest: bytes) -> Session:
        """The session of one step; ``digest`` is that of the broadcast values."""
        raise NotImplementedError

    def others(self) -> tuple[str, ...]:
        return (SERVER,)

    def on_query(self, envelope: Envelope) -> None:
        if envelope.sender != ANALYST:
            raise violation("unexpected_sender", f"{envelope.sender!r} spoke for the analyst", envelope.sender)
        match envelope.round:
            case messages.PROPOSE:
                self._propose(envelope)
            case messages.REQUEST:
                if self.gate is None or envelope.root != self.root:
                    raise violation("unknown_session", "a step was requested of a query that is not running here", envelope.sender)
                self._answer(envelope, self.gate)
            case _:
                raise violation("unknown_round", f"{envelope.sender!r} sent a message of an unknown round", envelope.sender)

    def _propose(self, envelope: Envelope) -> None:
        if envelope.root in self.answered:
            self._note_replay(envelope)
            return
        proposal = decode(envelope.payload, Proposal, envelope.sender)
        signed = proposal_message(proposal.plan, proposal.query_id, proposal.query)
        root = session_root(proposal.plan, proposal.query_id, self.roster.digest, self.definition.trust.recipients, proposal.signature)
        if not self.roster.verifies(ANALYST, signed, proposal.signature) or root != envelope.root:
            raise violation(
                "bad_signature",
                "a query is not signed by the analyst, or not bound to this roster; give every party the same roster",
                envelope.sender,
            )
        self._turn_to(root)
        self.answered.add(root)
        try:
            plan = self.planner(proposal.query, self.definition)
            if bytes.fromhex(plan.digest) != proposal.plan:
                raise PolicyDenied(
                    "another plan follows here from the query; compare versions, installed statistics, schema and study definition",
                    code="plan_differs",
                )
            self.consider(plan)
        except VeilstatError as error:
            self.send(ABORT, SERVER, encode_fault(Fault.of(error.at(self.title), self.name)))
            self.root = None
            return
        self.gate = ReleaseGate(plan, root)
        self.send(messages.APPROVE, SERVER, messages.encode(Approval(self.holds())))

    def _answer(self, envelope: Envelope, gate: ReleaseGate) -> None:
        if gate.hears_again(envelope.frame):
            self._note_replay(envelope)
            return
        request = decode(envelope.payload, StepRequest, envelope.sender)
        if not self.takes_part(tuple(request.participants)):
            self.rejected.append(Fault("QuorumLost", "not_a_participant", "a step runs without this owner, whose approval came late"))
            return
        self._check_request(request)
        step, binding = gate.bind(request, self.member)
        try:
            session = self.join(step, binding, messages.public_digest(request.public))
        except VeilstatError as error:
            self.fail(Fault.of(error, self.name))
            return
        self.begin(binding.step, session)

    def _check_request(self, request: StepRequest) -> None:
        owners = set(self.definition.owners)
        names = set(request.participants)
        if not names <= owners or len(names) != len(request.participants) or len(names) < self.definition.trust.threshold:
            raise violation("bad_participants", "the analyst asked for a step over owners that are too few, or not in the study", ANALYST)
