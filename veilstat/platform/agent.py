"""A data owner's agent: it alone holds the owner's table, keys and policy, and plays the owner's side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from veilstat.architectures.homomorphic.row_answers import Kept
from veilstat.architectures.homomorphic.row_parameters import MOST_ANSWERS
from veilstat.architectures.interface import Contribution, EpochBinding, KeepsEpochs, StepBinding
from veilstat.architectures.sharing.uploads import UPLOAD_BITS, Header, deal
from veilstat.dp.ledger import Ledger
from veilstat.language.cut import Cut
from veilstat.language.disclosure import NoiseSite
from veilstat.language.errors import PolicyDenied, SchemaError, VeilstatError
from veilstat.language.step import Statistic
from veilstat.protocol.envelope import Envelope
from veilstat.protocol.faults import Fault, ProtocolError, violation
from veilstat.protocol.identity import Identity, Roster
from veilstat.protocol.session import Session, Turn

from . import epochs
from .approver import Approver, Planner
from .definition import PARTIES, SERVER, Definition
from .epoch_store import EpochStore
from .gate import OpeningRecord, denied
from .plan import Plan, StepPlan
from .policy import Policy
from .table import Table
from .upload import (
    ASK,
    HELD,
    OFFER,
    VERSION_BYTES,
    WITHDRAW,
    WITHDRAWN,
    Held,
    SendPlanes,
    padded,
    read_held,
    session,
    upload_root,
    withdrawal_root,
)  # fmt: skip

_ROOT_BYTES = 32


class Agent(Approver):
    """One owner's party; ``epoch_store`` keeps encrypted rows and the owner's share of their key where the architecture has any."""

    beginnings: ClassVar[frozenset[str]] = Approver.beginnings | {epochs.OPEN}

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
        ledger: Ledger,
        epoch_store: EpochStore | None = None,
    ) -> None:
        super().__init__(identity, roster, definition, registry, planner, random)
        self.table, self.policy, self.ledger, self.epochs = table, policy, ledger, epoch_store
        self.kept = None if epoch_store is None else epoch_store.kept()
        self.record = OpeningRecord(definition.architecture.trust(definition.owners).colluding + 2)
        self.survivors: tuple[str, ...] | None = None
        self.fault: Fault | None = None
        self.held: dict[str, Held] = {}
        self.silent: set[str] = set()
        """Compute servers that have not answered what this owner asked them."""

    def ask_versions(self) -> None:
        """Ask all compute servers which versions of this owner's rows they hold; ``held`` collects the answers."""
        self.held = {}
        self.silent = set(self._tell_servers(ASK, self.random(_ROOT_BYTES), b""))

    def offer_rows(self) -> None:
        """With the answers of all servers, begin to share this owner's rows with them, as a version that none of them has seen.

        Raises:
            SchemaError, RangeError: the table does not fit the schema.
        """
        schema = self.definition.schema
        rows = self.table.rows(tuple(column.name for column in schema))
        header = Header(
            owner=self.name,
            version=1 + max(held.largest for held in self.held.values()),
            schema=schema.digest.hex(),
            complete=(),
            rows=min(padded(len(rows)), schema.max_rows),
            ring_bits=UPLOAD_BITS,
            identifier=self.random(16).hex(),
            terms=self.policy.to_json(),
        )
        root, planes = upload_root(header, self.roster), deal(header, schema, rows.columns, len(rows), self.random)
        servers = self._tell_servers(OFFER, root, header.to_bytes())
        first = Turn((), SendPlanes(self.identity, self.roster, root, planes, self.random))
        its = session(self.identity, self.roster, root, servers, first)
        self.begin(its.binding.step, its)

    def withdraw_rows(self) -> None:
        """With the answers of all servers, ask them to remove what they hold of this owner.

        Raises:
            SchemaError: none of them holds anything.
        """
        version = max(held.stored for held in self.held.values())
        if version == 0:
            raise SchemaError(f"{self.title} has uploaded nothing, or has withdrawn it", code="upload_unknown")
        root = withdrawal_root(self.name, version, self.roster)
        self.silent = set(self._tell_servers(WITHDRAW, root, version.to_bytes(VERSION_BYTES, "little")))

    def _tell_servers(self, round_name: str, root: bytes, payload: bytes) -> tuple[str, ...]:
        """Begin something with all compute servers, and say which they are."""
        self.root, self.session, self.gate, self.fault = root, None, None, None
        servers = self.roster.with_role("compute")
        for server in servers:
            self.send(round_name, server, payload)
        return servers

    @property
    def waiting(self) -> bool:
        return bool(self.silent) or super().waiting

    def expire(self) -> None:
        if self.silent:
            lost = tuple(sorted(self.silent))
            self.fail(Fault("QuorumLost", "no_answer", f"{', '.join(lost)} did not answer; try again", lost))
        else:
            super().expire()

    def give_up_key(self) -> None:
        """Forget the share of the key that rows are encrypted under: nobody can decrypt anything of them any more. The owner
        takes part in no other key until ``rejoin``.

        Raises:
            SchemaError: there is none.
        """
        if self.epochs is None or self.kept is None:
            raise SchemaError(f"{self.title} holds no share of a key of encrypted rows", code="upload_unknown")
        self.epochs.withdraw()
        self.kept = None

    def rejoin(self) -> None:
        """Take part in the next key."""
        if self.epochs is not None:
            self.epochs.rejoin()

    def on_query(self, envelope: Envelope) -> None:
        if envelope.round == epochs.OPEN and envelope.sender == SERVER and self.epochs is not None:
            self._join_epoch(envelope, self.epochs)
            return
        if envelope.round not in (HELD, WITHDRAWN) or envelope.root != self.root or self.roster.roles[envelope.sender] != "compute":
            super().on_query(envelope)
            return
        if envelope.round == HELD:
            self.held[envelope.sender] = read_held(envelope.payload, envelope.sender)
        self.silent.discard(envelope.sender)

    def on_failed(self, fault: Fault) -> None:
        super().on_failed(fault)
        self.fault = fault
        self.silent = set()

    @property
    def title(self) -> str:
        return f"data owner {self.name!r}"

    def consider(self, plan: Plan) -> None:
        self.survivors = None
        columns = plan.statistic.columns(self.definition.schema)
        self.policy.check(plan.statistic.name, columns, plan.openings, private=not plan.opens_exactly)
        if plan.privacy is not None and not plan.opens_exactly:
            self.ledger.check(plan.privacy.rho, plan.privacy.promise)

    def takes_part(self, participants: tuple[str, ...]) -> bool:
        return self.name in participants

    def join(self, step: StepPlan, binding: StepBinding, digest: bytes) -> Session:
        if self.survivors is not None and self.survivors != binding.participants:
            raise denied(
                "participants_changed", "an owner was lost in an earlier step of this query; nothing more is opened, start it again"
            )
        contribution = self._contribution(step, binding.step, digest)
        return self.definition.architecture.owner(replace(binding, kept=self.kept), contribution, self.random)

    def _join_epoch(self, envelope: Envelope, store: EpochStore) -> None:
        """Make a key with the other owners, and encrypt all rows under it."""
        architecture, schema = self.definition.architecture, self.definition.schema
        assert isinstance(architecture, KeepsEpochs)
        if envelope.root in self.answered:
            self._note_replay(envelope)
            return
        if envelope.root != epochs.epoch_root(self.definition, self.roster, bytes(envelope.payload)):
            self.rejected.append(violation("bad_root", f"{envelope.sender!r} bound a key to another study", envelope.sender).fault)
            return
        self.answered.add(envelope.root)
        self.root, self.session, self.gate, self.fault, self.kept = envelope.root, None, None, None, None
        try:
            if store.is_withdrawn:
                raise PolicyDenied(
                    f"{self.title} has withdrawn its rows; it takes part again when it uploads them", code="upload_withdrawn"
                )
            rows = self.table.rows(tuple(column.name for column in schema))
        except VeilstatError as error:
            self.fail(Fault(type(error).__name__, error.code, error.message, (self.name,)))
            return
        binding = EpochBinding(self.identity, self.roster, envelope.root, SERVER, PARTIES, store.keep)
        declared = min(padded(len(rows)), schema.max_rows)
        its = architecture.epoch_owner(binding, rows.columns, len(rows), declared, self.random)
        self.begin(its.binding.step, its)

    def _contribution(self, step: StepPlan, context: bytes, digest: bytes) -> Contribution:
        """Rows, who may see their total, and noise, which is paid for before it is drawn."""
        rows, noise = self.table.rows(step.cut.columns()), step.noise_of(NoiseSite.OWNERS)
        if noise is None:
            return Contribution(
                rows, authorise=lambda survivors: self._authorise(survivors, step.cut, digest), fewest=self.policy.min_owners
            )
        self.ledger.spend(noise.rho, noise.promise, context)
        return Contribution(rows, authorise=self._require_owners, fewest=self.policy.min_owners, noise=lambda size: noise.draw(self.random))

    def on_finished(self, result: object) -> None:
        if isinstance(result, tuple):
            self.survivors = result
        elif isinstance(result, Kept) and self.epochs is not None:
            try:
                self.epochs.keep_secret(result)
            except VeilstatError as error:
                self.fail(Fault(type(error).__name__, error.code, error.message, (self.name,)))
                return
            self.kept = result

    def _require_owners(self, survivors: tuple[str, ...]) -> None:
        if len(survivors) < self.policy.min_owners:
            raise denied("too_few_survivors", f"{self.title} takes part in totals over at least {self.policy.min_owners} owners")

    def _authorise(self, survivors: tuple[str, ...], cut: Cut, public: bytes) -> None:
        self._require_owners(survivors)
        try:
            self.record.authorise(cut, public, survivors)
        except ProtocolError as error:
            raise denied(error.fault.code, f"{self.title}: {error.fault.message}") from None
        if self.epochs is not None:
            self._count_answers(cut.size, self.epochs)

    def _count_answers(self, count: int, store: EpochStore) -> None:
        try:
            store.spend(count, MOST_ANSWERS)
        except VeilstatError as error:
            raise ProtocolError(Fault(type(error).__name__, error.code, f"{self.title}: {error.message}", (self.name,))) from None
