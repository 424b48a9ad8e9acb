"""A data owner's agent: it alone holds the owner's table, keys and policy, and plays the owner's side.

It recomputes every plan and compares digests, verifies the analyst's signature, asks its policy, and answers each
step once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from veilstat.architectures.interface import Contribution, StepBinding
from veilstat.language.errors import VeilstatError
from veilstat.language.step import Statistic
from veilstat.protocol.context import proposal_message, session_root
from veilstat.protocol.envelope import Envelope
from veilstat.protocol.faults import Fault, ProtocolError, violation
from veilstat.protocol.identity import Identity, Roster
from veilstat.protocol.session import ABORT, encode_fault

from . import messages
from .definition import ANALYST, SERVER, Definition
from .gate import OpeningRecord, ReleaseGate, denied
from .messages import Approval, Proposal, StepRequest
from .party import Party
from .plan import Plan
from .policy import Policy
from .query import decode_query
from .table import Table

Planner = Callable[[Statistic[Any], Definition], Plan]


class Agent(Party):
    """One owner's party."""

    def __init__(
        self,
        identity: Identity,
        roster: Roster,
        definition: Definition,
        table: Table,
        policy: Policy,
        registry: Mapping[str, type[Statistic[Any]]],
        planner: Planner,
        random: Callable[[int], bytes],
    ) -> None:
        super().__init__(identity, roster)
        self.definition, self.table, self.policy = definition, table, policy
        self.registry, self.planner, self.random = registry, planner, random
        self.record = OpeningRecord(definition.architecture.trust(definition.owners).colluding + 2)
        self.gate: ReleaseGate | None = None
        self.answered: set[bytes] = set()
        self.survivors: tuple[str, ...] | None = None

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

    def on_finished(self, result: object) -> None:
        self.survivors = cast(tuple[str, ...], result)

    def on_failed(self, fault: Fault) -> None:
        self.gate = None

    def _propose(self, envelope: Envelope) -> None:
        if envelope.root in self.answered:
            self.rejected.append(Fault("ProtocolViolation", "already_answered", "a proposal was replayed", (envelope.sender,)))
            return
        proposal = messages.decode(envelope.payload, Proposal, envelope.sender)
        signed = proposal_message(proposal.plan, proposal.query_id, proposal.query)
        root = session_root(proposal.plan, proposal.query_id, self.roster.digest, self._recipients(), proposal.signature)
        if not self.roster.verifies(ANALYST, signed, proposal.signature) or root != envelope.root:
            raise violation("bad_signature", "a query is not signed by the analyst, or not bound to this roster", envelope.sender)
        self.root, self.session, self.survivors = root, None, None
        self.answered.add(root)
        try:
            plan = self.planner(decode_query(proposal.query, self.registry), self.definition)
            if bytes.fromhex(plan.digest) != proposal.plan:
                raise denied(
                    "plan_differs", "this owner computes another plan for the query; compare versions, schema and study definition"
                )
            self.policy.check(plan.statistic.name, plan.statistic.columns(self.definition.schema), plan.openings)
        except VeilstatError as error:
            self._refuse(Fault(type(error).__name__, error.code, f"data owner {self.name!r}: {error.message}", (self.name,)))
            return
        except ProtocolError as error:
            self._refuse(Fault(error.fault.kind, error.fault.code, f"data owner {self.name!r}: {error.fault.message}", (self.name,)))
            return
        self.gate = ReleaseGate(plan, root)
        self.send(messages.APPROVE, SERVER, messages.encode(Approval([])))

    def _refuse(self, fault: Fault) -> None:
        self.send(ABORT, SERVER, encode_fault(fault))
        self.root, self.gate = None, None

    def _recipients(self) -> tuple[str, ...]:
        return self.definition.architecture.trust(self.definition.owners).recipients

    def _answer(self, envelope: Envelope, gate: ReleaseGate) -> None:
        request = messages.decode(envelope.payload, StepRequest, envelope.sender)
        if self.name not in request.participants:
            self.rejected.append(Fault("QuorumLost", "not_a_participant", "a step runs without this owner, whose approval came late"))
            return
        self._check_request(request)
        index = int.from_bytes(request.index, "little")
        if self.survivors is not None and self.survivors != gate.participants:
            raise denied("participants_changed", "an owner was lost in an earlier step of this query; nothing more is opened")
        digest = messages.public_digest(request.public)
        step, context = gate.authorise(request.label, index, request.participants, digest)
        public = messages.decode_public(request.public, step.cut.broadcast(), step.types, envelope.sender)
        binding = StepBinding(
            self.identity, self.roster, gate.root, context, gate.participants, SERVER, ANALYST, step.cut, public, request.key
        )  # fmt: skip
        try:
            rows = self.table.rows(step.cut.columns())
            contribution = Contribution(rows, authorise=lambda survivors: self._authorise(survivors, step.cut, digest))
            session = self.definition.architecture.owner(binding, contribution, self.random)
        except VeilstatError as error:
            self.fail(Fault(type(error).__name__, error.code, error.message, (self.name,)))
            return
        self.begin(context, session)

    def _check_request(self, request: StepRequest) -> None:
        owners = set(self.definition.owners)
        names = set(request.participants)
        threshold = self.definition.architecture.trust(self.definition.owners).threshold
        if not names <= owners or len(names) != len(request.participants) or len(names) < threshold:
            raise violation("bad_participants", "the analyst named the wrong participants for a step", ANALYST)

    def _authorise(self, survivors: tuple[str, ...], cut: Any, public: bytes) -> None:
        if len(survivors) < self.policy.min_owners:
            raise denied(
                "too_few_survivors", f"data owner {self.name!r} takes part in totals over at least {self.policy.min_owners} owners"
            )
        try:
            self.record.authorise(cut, public, survivors)
        except ProtocolError as error:
            raise denied(error.fault.code, f"data owner {self.name!r}: {error.fault.message}") from None
