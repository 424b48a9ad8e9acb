"""The analyst's party: signs queries, asks for steps, and alone learns what is opened."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from veilstat.architectures.interface import Released
from veilstat.language.cut import Cut
from veilstat.language.step import Arrays
from veilstat.protocol.codec import decode
from veilstat.protocol.context import proposal_message, session_root
from veilstat.protocol.envelope import NO_STEP, Envelope, seal
from veilstat.protocol.faults import Fault, violation
from veilstat.protocol.member import Member
from veilstat.protocol.session import Send

from . import messages
from .definition import PARTIES, SERVER, Definition
from .gate import ReleaseGate
from .messages import Approval, Proposal, StepRequest
from .party import Party
from .plan import Plan, StepPlan


class Analyst(Party):
    """The analyst's side of one query after another.

    ``propose`` and ``request`` put messages into the outbox; once the network has settled, ``participants``,
    ``released`` or ``fault`` say what came of them.
    """

    def __init__(self, member: Member, definition: Definition, random: Callable[[int], bytes]) -> None:
        super().__init__(member, definition)
        self.random = random
        self.participants: tuple[str, ...] | None = None
        self.released: Released | None = None
        self.cut: Cut | None = None
        self.opened: list[tuple[str, Released]] = []

    def others(self) -> tuple[str, ...]:
        return (SERVER,)

    def propose(self, plan: Plan) -> None:
        """Sign a query and send it to the owners."""
        query_id = self.random(messages.QUERY_ID_BYTES)
        digest = bytes.fromhex(plan.digest)
        signature = self.identity.sign(proposal_message(digest, query_id, plan.query))
        root = session_root(digest, query_id, self.roster.digest, plan.trust.recipients, signature)
        self._turn_to(root)
        self.gate, self.participants, self.released, self.fault = ReleaseGate(plan, root), None, None, None
        self._to_owners(messages.PROPOSE, messages.encode(Proposal(plan.query, digest, query_id, signature)))

    def request(self, step: StepPlan, index: int, public: Arrays) -> None:
        """Ask for one opening; ``public`` holds integers on their lattices."""
        assert self.gate is not None and self.participants is not None
        architecture = self.definition.architecture
        secret, key = architecture.announce(step.cut, self.definition.owners, self.random)
        raw = messages.encode_public(step.cut.broadcast(), step.types, public)
        request = StepRequest(step.label, index.to_bytes(8, "little"), list(self.participants), key, raw)
        _, binding = self.gate.bind(request, self.member)
        self.released, self.cut = None, step.cut
        self._to_owners(messages.REQUEST, messages.encode(request))
        self.begin(binding.step, architecture.analyst(binding, secret))

    @property
    def waiting(self) -> bool:
        return (self.root is not None and self.participants is None) or super().waiting

    def expire(self) -> None:
        if self.root is not None and self.participants is None:
            self.fail(
                Fault(
                    "QuorumLost",
                    "no_answer",
                    "the server did not answer the proposal; nothing was opened. Ask again once it is reachable",
                    (SERVER,),
                )
            )
        else:
            super().expire()

    def on_query(self, envelope: Envelope) -> None:
        if envelope.sender != SERVER or envelope.round != messages.APPROVE or envelope.root != self.root:
            raise violation("unexpected_message", f"{envelope.sender!r} sent a message that has no place here", envelope.sender)
        owners = decode(envelope.payload, Approval, envelope.sender).owners
        if not set(owners) <= set(self.definition.owners) or len(set(owners)) != len(owners):
            raise violation("bad_participants", "the server named owners twice, or some that are not in the study", SERVER)
        if self.participants is None:
            self.participants = tuple(sorted(owners))

    def on_finished(self, result: object) -> None:
        assert isinstance(result, Released) and self.cut is not None
        if self._is_possible(result.values, self.cut):
            self.released = result
            return
        # a range check is an oracle on what was opened, so nobody is told
        self._fail(
            violation(
                "impossible_total",
                "what was opened is no total of data within the agreed bounds, so a party sent something else than the protocol says; "
                "a sum does not tell which one",
            ).fault
        )

    @staticmethod
    def _is_possible(values: npt.NDArray[np.object_], cut: Cut) -> bool:
        is_total = [opening.resolution is None for opening in cut.openings for _ in opening.elements]
        return all(low <= value <= high for low, value, high, kept in zip(cut.lower, values, cut.upper, is_total, strict=False) if kept)

    def _to_owners(self, round_name: str, payload: bytes) -> None:
        """The server passes these frames on as they are."""
        assert self.root is not None
        self._outbox += [Send(SERVER, frame) for frame in seal(self.member, self.root, NO_STEP, round_name, PARTIES, payload)]
