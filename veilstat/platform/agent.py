"""A data owner's agent: it alone holds the owner's table, keys and policy, and plays the owner's side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from veilstat.architectures.interface import Contribution, StepBinding
from veilstat.architectures.sharing.uploads import UPLOAD_BITS, Header, deal
from veilstat.dp.ledger import Ledger
from veilstat.language.cut import Cut
from veilstat.language.errors import SchemaError
from veilstat.language.step import Statistic
from veilstat.protocol.envelope import Envelope
from veilstat.protocol.faults import Fault, ProtocolError
from veilstat.protocol.identity import Identity, Roster
from veilstat.protocol.session import Session, Turn

from .approver import Approver, Planner
from .definition import Definition
from .gate import OpeningRecord, denied
from .plan import Plan, StepPlan
from .policy import Policy
from .table import Table
from .upload import OFFER, WITHDRAW, WITHDRAWN, SendPlanes, padded, session, upload_root, withdrawal_root


class Agent(Approver):
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
        ledger: Ledger,
    ) -> None:
        super().__init__(identity, roster, definition, registry, planner, random)
        self.table, self.policy, self.ledger = table, policy, ledger
        self.record = OpeningRecord(definition.architecture.trust(definition.owners).colluding + 2)
        self.survivors: tuple[str, ...] | None = None
        self.upload: Header | None = None
        self.fault: Fault | None = None
        self.withdrawn: set[str] = set()

    def offer_rows(self, version: int) -> None:
        """Begin to share this owner's rows with all compute servers; once all is on disk there, ``stored`` says so.

        Raises:
            SchemaError, RangeError: the table does not fit the schema.
        """
        schema = self.definition.schema
        rows = self.table.rows(tuple(column.name for column in schema))
        header = Header(
            owner=self.name,
            version=version,
            schema=schema.digest.hex(),
            complete=(),
            rows=min(padded(len(rows)), schema.max_rows),
            ring_bits=UPLOAD_BITS,
            identifier=self.random(16).hex(),
            terms=self.policy.to_json(),
        )
        self.root, self.fault, self.upload = upload_root(header, self.roster), None, header
        planes = deal(header, schema, rows.columns, len(rows), self.random)
        servers = self.roster.with_role("compute")
        for server in servers:
            self.send(OFFER, server, header.to_bytes())
        its = session(
            self.identity, self.roster, self.root, servers, Turn((), SendPlanes(self.identity, self.roster, self.root, planes, self.random))
        )
        self.begin(its.binding.step, its)

    def withdraw_rows(self) -> None:
        """Ask all compute servers to remove this owner's upload; ``withdrawn`` collects who did."""
        if self.upload is None:
            raise SchemaError(f"{self.title} has uploaded nothing", code="upload_unknown")
        self.root, self.session, self.fault, self.withdrawn = withdrawal_root(self.upload, self.roster), None, None, set()
        for server in self.roster.with_role("compute"):
            self.send(WITHDRAW, server, b"")

    def on_query(self, envelope: Envelope) -> None:
        if envelope.round == WITHDRAWN and envelope.root == self.root and self.roster.roles[envelope.sender] == "compute":
            self.withdrawn.add(envelope.sender)
        else:
            super().on_query(envelope)

    def on_failed(self, fault: Fault) -> None:
        super().on_failed(fault)
        self.fault = fault

    @property
    def title(self) -> str:
        return f"data owner {self.name!r}"

    def consider(self, plan: Plan) -> None:
        self.survivors = None
        columns = plan.statistic.columns(self.definition.schema)
        self.policy.check(plan.statistic.name, columns, plan.openings, private=plan.privacy is not None)
        for step in plan.steps:
            if step.noise is not None:
                self.ledger.check(step.noise.rho)

    def takes_part(self, participants: tuple[str, ...]) -> bool:
        return self.name in participants

    def join(self, step: StepPlan, binding: StepBinding, digest: bytes) -> Session:
        if self.survivors is not None and self.survivors != binding.participants:
            raise denied("participants_changed", "an owner was lost in an earlier step of this query; nothing more is opened")
        return self.definition.architecture.owner(binding, self._contribution(step, binding.step, digest), self.random)

    def _contribution(self, step: StepPlan, context: bytes, digest: bytes) -> Contribution:
        """Rows, who may see their total, and noise, which is paid for before it is drawn."""
        rows, noise = self.table.rows(step.cut.columns()), step.noise
        if noise is None:
            return Contribution(
                rows, authorise=lambda survivors: self._authorise(survivors, step.cut, digest), fewest=self.policy.min_owners
            )
        self.ledger.spend(noise.rho, context)
        return Contribution(rows, authorise=self._require_owners, fewest=self.policy.min_owners, noise=lambda size: noise.draw(self.random))

    def on_finished(self, result: object) -> None:
        if isinstance(result, tuple):
            self.survivors = result

    def _require_owners(self, survivors: tuple[str, ...]) -> None:
        if len(survivors) < self.policy.min_owners:
            raise denied("too_few_survivors", f"{self.title} takes part in totals over at least {self.policy.min_owners} owners")

    def _authorise(self, survivors: tuple[str, ...], cut: Cut, public: bytes) -> None:
        self._require_owners(survivors)
        try:
            self.record.authorise(cut, public, survivors)
        except ProtocolError as error:
            raise denied(error.fault.code, f"{self.title}: {error.fault.message}") from None
