"""The server: forwards the analyst's signed words to the owners, collects approvals, and plays the server's side.

It is trusted with nothing but following the protocol: it holds no row, no key and no plan of its own making.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import ClassVar

from veilstat.architectures.addition import Addition, SumHere
from veilstat.architectures.homomorphic.rows.answers import Kept
from veilstat.architectures.interface import EpochBinding, KeepsEpochs
from veilstat.arithmetic.executor import SERIAL, Executor
from veilstat.errors import VeilstatError
from veilstat.protocol.codec import decode
from veilstat.protocol.envelope import NO_STEP, Envelope, seal
from veilstat.protocol.faults import QUORUM, Fault, quorum_lost, violation
from veilstat.protocol.member import Member
from veilstat.protocol.session import ABORT, Send, encode_fault

from . import epochs, messages
from .definition import ANALYST, PARTIES, SERVER, Definition
from .epoch_store import EpochStore
from .gate import ReleaseGate
from .messages import Approval, Proposal, StepRequest
from .party import Party
from .planner import Planner


class Coordinator(Party):
    """The server's party; ``epoch_store`` keeps encrypted rows where the architecture has any, ``addition`` adds masked vectors,
    ``executor`` takes their masks off, or multiplies ciphertexts.
    """

    beginnings: ClassVar[frozenset[str]] = Party.beginnings | {epochs.ASK}

    def __init__(
        self,
        member: Member,
        definition: Definition,
        planner: Planner,
        epoch_store: EpochStore | None = None,
        addition: Addition = SumHere,
        executor: Executor = SERIAL,
    ) -> None:
        super().__init__(member, definition)
        self.planner, self.addition, self.executor = planner, addition, executor
        self.epochs = epoch_store
        self.kept = None if epoch_store is None else epoch_store.at_start()
        self.wishes: dict[str, bytes] = {}
        """The words of owners who ask for a new key, by owner, as they signed them."""
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

    def lost(self, fault: Fault) -> bool:
        # A key is the owners' own matter.
        return not (self.is_making_key and fault.culprits == (ANALYST,)) and super().lost(fault)

    def on_query(self, envelope: Envelope) -> None:
        match envelope.round:
            case epochs.ASK if envelope.sender in self.definition.owners and self.epochs is not None:
                self._hear_wish(envelope)
            case messages.PROPOSE if envelope.sender == ANALYST:
                self._propose(envelope)
            case messages.APPROVE if envelope.sender in self.definition.approvers and envelope.root == self.root:
                if self.approved is not None:
                    self.approved[envelope.sender] = decode(envelope.payload, Approval, envelope.sender)
                    if set(self.approved) == set(self.definition.approvers):
                        self._conclude()
            case messages.REQUEST if envelope.sender == ANALYST and self.gate is not None and envelope.root == self.root:
                self._serve(envelope, self.gate)
            case _:
                raise violation("unexpected_message", f"{envelope.sender!r} sent a message that has no place here", envelope.sender)

    @property
    def may_open_epoch(self) -> bool:
        """Whether all owners ask for a new key, and none is being made."""
        return set(self.wishes) == set(self.definition.owners) and not self.is_making_key

    def open_epoch(self) -> None:
        """Have all owners, who ask for it, make a key and encrypt their rows under it. A former one stays until then."""
        architecture = self.definition.architecture
        assert isinstance(architecture, KeepsEpochs) and self.may_open_epoch
        opening, self.wishes = epochs.encode_opening(self.wishes), {}
        root = epochs.epoch_root(self.definition, self.roster, opening)
        self._turn_to(root)
        self.approved, self.fault = None, None
        self.send(epochs.OPEN, PARTIES, opening)
        its = architecture.epoch_server(EpochBinding(self.identity, self.roster, root, SERVER, PARTIES, self._keep))
        self.begin(its.binding.step, its)

    def refusal(self, recipient: str, root: bytes, fault: Fault) -> Iterator[bytes]:
        """Frames that end what is bound to a root at its party, whatever runs here."""
        return seal(self.member, root, NO_STEP, ABORT, recipient, encode_fault(fault))

    def on_finished(self, result: object) -> None:
        if isinstance(result, Kept):
            # What owners asked for while it was made is made, and nothing runs any more.
            self.wishes, self.root = {}, None

    def _keep(self, kept: Kept) -> Kept:
        """Put the rows of an epoch where they last, in place of the former ones."""
        assert self.epochs is not None
        self.kept = None
        self.kept = self.epochs.keep(kept)
        return self.kept

    def _hear_wish(self, envelope: Envelope) -> None:
        if envelope.root != epochs.asking_root(self.definition, self.roster):
            self._note_stranger(envelope)
        elif len(envelope.payload) == epochs.WISH_BYTES:
            self.wishes[envelope.sender] = envelope.frame
        else:
            self.wishes.pop(envelope.sender, None)

    def on_failed(self, fault: Fault) -> None:
        self.approved = None

    def _group(self) -> str:
        return PARTIES

    def _propose(self, envelope: Envelope) -> None:
        if envelope.root in self.answered:
            self._note_replay(envelope)
            return
        self.answered.add(envelope.root)
        if self.is_making_key:
            self._put_off(envelope)
            return
        proposal = decode(envelope.payload, Proposal, envelope.sender)
        self._turn_to(envelope.root)
        self.approved = {}
        try:
            plan = self.planner(proposal.query, self.definition)
        except VeilstatError as error:
            self.fail(Fault.of(error, envelope.sender))
            return
        self.gate = ReleaseGate(plan, envelope.root)
        self._forward(envelope)

    def _put_off(self, envelope: Envelope) -> None:
        words = "the data owners are making a key and encrypting their rows; ask again in a minute"
        self.say(envelope.root, ABORT, ANALYST, encode_fault(Fault(QUORUM, "epoch_running", words)))

    def _conclude(self) -> None:
        """Everybody has answered, or nothing more will come."""
        assert self.approved is not None
        needed, servers = self.definition.trust.threshold, set(self.definition.servers)
        owners, lost = self._agreed(self.approved), tuple(sorted(servers - set(self.approved)))
        if lost:
            self.fail(quorum_lost(messages.APPROVE, len(servers) - len(lost), len(servers), lost).fault)
        elif len(owners) < needed:
            self.fail(quorum_lost(messages.APPROVE, len(owners), needed, tuple(sorted(set(self.definition.owners) - owners))).fault)
        else:
            self.approved = None
            self.send(messages.APPROVE, ANALYST, messages.encode(Approval(sorted(owners))))

    def _agreed(self, approved: Mapping[str, Approval]) -> set[str]:
        """The owners who agreed, or whose uploads all servers hold where owners are not asked."""
        owners = set(self.definition.owners)
        if self.definition.keeps_rows:
            return owners.intersection(*(approval.owners for approval in approved.values()))
        return owners & set(approved)

    def _serve(self, envelope: Envelope, gate: ReleaseGate) -> None:
        if gate.hears_again(envelope.frame):
            self._note_replay(envelope)
            return
        request = decode(envelope.payload, StepRequest, envelope.sender)
        _, binding = gate.bind(request, self.member)
        binding = replace(binding, kept=self.kept, addition=self.addition, executor=self.executor)
        try:
            session = self.definition.architecture.server(binding)
        except VeilstatError as error:
            self.fail(Fault.of(error))
            return
        self._forward(envelope)
        self.begin(binding.step, session)

    def _forward(self, envelope: Envelope) -> None:
        """Pass on the analyst's own signed frame, unchanged."""
        self._outbox.append(Send(PARTIES, envelope.frame))
