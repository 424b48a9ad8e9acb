"""The server: forwards the analyst's signed words to the owners, collects approvals, and plays the server's side.

It is trusted with nothing but following the protocol: it holds no row, no key and no plan of its own making.
"""

from __future__ import annotations

from veilstat.architectures.addition import Addition, SumHere
from veilstat.architectures.homomorphic.rows.answers import Kept
from veilstat.architectures.interface import EpochBinding, KeepsEpochs, StepBinding
from veilstat.arithmetic.executor import SERIAL, Executor
from veilstat.errors import VeilstatError
from veilstat.protocol.envelope import Envelope
from veilstat.protocol.faults import Fault, quorum_lost, violation
from veilstat.protocol.identity import Identity, Roster
from veilstat.protocol.session import Send

from . import epochs, messages
from .definition import ANALYST, PARTIES, SERVER, Definition
from .epoch_store import EpochStore
from .gate import ReleaseGate
from .messages import Approval, Proposal, StepRequest
from .party import Party
from .planner import Planner


class Coordinator(Party):
    """The server's party; ``epoch_store`` keeps encrypted rows where the architecture has any, ``addition`` adds masked vectors,
    ``executor`` takes their masks off.
    """

    def __init__(
        self,
        identity: Identity,
        roster: Roster,
        definition: Definition,
        planner: Planner,
        epoch_store: EpochStore | None = None,
        addition: Addition = SumHere,
        executor: Executor = SERIAL,
    ) -> None:
        super().__init__(identity, roster)
        self.addition, self.executor = addition, executor
        self.epochs = epoch_store
        self.kept = None if epoch_store is None else epoch_store.kept()
        self.fault: Fault | None = None
        self.definition, self.planner = definition, planner
        self.gate: ReleaseGate | None = None
        self.approved: dict[str, Approval] | None = None
        self.answered: set[bytes] = set()

    def others(self) -> tuple[str, ...]:
        return (*self.definition.owners, *self.definition.servers, ANALYST)

    @property
    def waiting(self) -> bool:
        return self.approved is not None or super().waiting

    @property
    def awaited(self) -> frozenset[str]:
        return super().awaited if self.approved is None else frozenset(self.definition.approvers) - set(self.approved)

    def expire(self) -> None:
        if self.approved is None:
            super().expire()
            return
        self._conclude()

    def on_query(self, envelope: Envelope) -> None:
        match envelope.round:
            case messages.PROPOSE if envelope.sender == ANALYST:
                self._propose(envelope)
            case messages.APPROVE if envelope.sender in self.definition.approvers and envelope.root == self.root:
                if self.approved is not None:
                    self.approved[envelope.sender] = messages.decode(envelope.payload, Approval, envelope.sender)
                    if set(self.approved) == set(self.definition.approvers):
                        self._conclude()
            case messages.REQUEST if envelope.sender == ANALYST and self.gate is not None and envelope.root == self.root:
                self._serve(envelope, self.gate)
            case _:
                raise violation("unexpected_message", f"{envelope.sender!r} sent a message that has no place here", envelope.sender)

    def open_epoch(self, identifier: bytes) -> None:
        """Have all owners make a key and encrypt their rows under it; ``identifier`` is random and never used again."""
        architecture = self.definition.architecture
        assert isinstance(architecture, KeepsEpochs) and self.epochs is not None
        self.session, self.gate, self.approved, self.fault, self.kept = None, None, None, None, None
        self.root = epochs.epoch_root(self.definition, self.roster, identifier)
        self.send(epochs.OPEN, PARTIES, identifier)
        its = architecture.epoch_server(EpochBinding(self.identity, self.roster, self.root, SERVER, PARTIES, self.epochs.keep))
        self.begin(its.binding.step, its)

    def on_finished(self, result: object) -> None:
        if isinstance(result, Kept):
            self.kept = result

    def on_failed(self, fault: Fault) -> None:
        self.gate, self.approved, self.fault = None, None, fault

    def _group(self) -> str:
        return PARTIES

    def _propose(self, envelope: Envelope) -> None:
        if envelope.root in self.answered:
            self._note_replay(envelope)
            return
        self.answered.add(envelope.root)
        proposal = messages.decode(envelope.payload, Proposal, envelope.sender)
        self.root, self.session, self.approved = envelope.root, None, {}
        try:
            plan = self.planner(proposal.query, self.definition)
        except VeilstatError as error:
            self.fail(Fault(type(error).__name__, error.code, error.message, (envelope.sender,)))
            return
        self.gate = ReleaseGate(plan, envelope.root)
        self._forward(envelope)

    def _conclude(self) -> None:
        """Everybody has answered, or nothing more will come."""
        assert self.approved is not None
        needed = self.definition.architecture.trust(self.definition.owners).threshold
        servers = set(self.definition.servers)
        owners = self._agreed()
        lost = tuple(sorted(servers - set(self.approved)))
        if lost:
            self.fail(quorum_lost(messages.APPROVE, len(servers) - len(lost), len(servers), lost).fault)
        elif len(owners) < needed:
            self.fail(quorum_lost(messages.APPROVE, len(owners), needed, tuple(sorted(set(self.definition.owners) - owners))).fault)
        else:
            self._report_approvals()

    def _agreed(self) -> set[str]:
        """The owners who agreed, or whose uploads all servers hold where owners are not asked."""
        assert self.approved is not None
        owners = set(self.definition.owners)
        if owners & set(self.definition.approvers):
            return owners & set(self.approved)
        return owners.intersection(*(approval.owners for approval in self.approved.values()))

    def _report_approvals(self) -> None:
        assert self.approved is not None
        approval = messages.encode(Approval(sorted(self._agreed())))
        self.approved = None
        self.send(messages.APPROVE, ANALYST, approval)

    def _serve(self, envelope: Envelope, gate: ReleaseGate) -> None:
        if gate.hears_again(envelope.frame):
            self._note_replay(envelope)
            return
        request = messages.decode(envelope.payload, StepRequest, envelope.sender)
        step, context = gate.authorise(
            request.label, int.from_bytes(request.index, "little"), request.participants, messages.public_digest(request.public)
        )
        public = messages.decode_public(request.public, step.cut.broadcast(), step.types, envelope.sender)
        binding = StepBinding(
            self.identity,
            self.roster,
            gate.root,
            context,
            gate.participants,
            SERVER,
            ANALYST,
            step.cut,
            public,
            request.key,
            self.kept,
            self.addition,
            self.executor,
        )
        try:
            session = self.definition.architecture.server(binding)
        except VeilstatError as error:
            self.fail(Fault(type(error).__name__, error.code, error.message, error.culprits))
            return
        self._forward(envelope)
        self.begin(context, session)

    def _forward(self, envelope: Envelope) -> None:
        """Pass on the analyst's own signed frame, unchanged."""
        self._outbox.append(Send(PARTIES, envelope.frame))
