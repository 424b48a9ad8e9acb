"""A data owner's agent: it alone holds the owner's table, keys and policy, and plays the owner's side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from veilstat.architectures.homomorphic.rows.answers import Kept
from veilstat.architectures.interface import Contribution, NoiseSite, StepBinding
from veilstat.architectures.sharing.uploads import UPLOAD_BITS, Header, deal
from veilstat.arithmetic.executor import SERIAL, Executor
from veilstat.dp.ledger import Ledger
from veilstat.errors import RangeError, SchemaError, VeilstatError
from veilstat.language.cut import Cut
from veilstat.protocol.envelope import Envelope
from veilstat.protocol.faults import Fault, ProtocolError
from veilstat.protocol.identity import Identity, Roster
from veilstat.protocol.session import Session, Turn
from veilstat.schema.encoding import Integers

from .approver import Approver, Sessions
from .definition import Definition
from .gate import OpeningRecord, denied
from .opening_file import OpeningFile
from .plan import Plan, StepPlan
from .planner import Planner
from .policy import Policy
from .table import OwnersTable
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
_ANSWERS = {ASK: HELD, WITHDRAW: WITHDRAWN}


@dataclass(frozen=True, slots=True)
class Custom:
    """What an owner's agent does besides, where it is a process of its own; by default all of a study is one process.

    Args:
        answered: remembers queries. openings: keeps what was opened; in memory where they are None.
        table_version: names the table's content; another content is another owner to the record of openings.
        consent: asked about every plan that the policy permits, and raises PolicyDenied to refuse.
        conceal: what others are told of an error that depends on rows.
        executor: does what can be shared out of a step.
    """

    answered: Sessions | None = None
    openings: OpeningFile | None = None
    table_version: str = ""
    consent: Callable[[Plan], None] = lambda plan: None
    conceal: Callable[[VeilstatError], VeilstatError] = lambda error: error
    executor: Executor = SERIAL


class Agent(Approver):
    """One owner's party."""

    def __init__(
        self,
        identity: Identity,
        roster: Roster,
        definition: Definition,
        table: OwnersTable,
        policy: Policy,
        planner: Planner,
        random: Callable[[int], bytes],
        ledger: Ledger,
        custom: Custom = Custom(),
    ) -> None:
        super().__init__(identity, roster, definition, planner, random, custom.answered)
        self.table, self.policy, self.ledger, self.custom = table, policy, ledger, custom
        self.version = custom.table_version
        """Of the rows that answers are over."""
        self.kept: Kept | None = None
        """What is kept of rows that the owner encrypted."""
        fewest = definition.architecture.trust(definition.owners).colluding + 2
        self.record = OpeningRecord(fewest) if custom.openings is None else OpeningRecord.on_disk(fewest, custom.openings)
        self.survivors: tuple[str, ...] | None = None
        self.fault: Fault | None = None
        self.held: dict[str, Held] = {}
        self.offered: Header | None = None
        """What everybody may know of the last upload that was begun."""
        self.silent: set[str] = set()
        """Compute servers that have not answered what this owner asked them."""
        self.answer: str | None = None
        """What they answer with."""

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
        self.offered = header
        root, planes = upload_root(header, self.roster), deal(header, schema, rows.columns, len(rows), self.random)
        servers = self._tell_servers(OFFER, root, header.to_bytes())
        first = Turn((), SendPlanes(self.roster, 0, self.identity, root, planes, self.random))
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
        self.answer = _ANSWERS.get(round_name)
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

    @property
    def is_making_key(self) -> bool:
        """Whether the owner's rows are being encrypted."""
        return False

    def introduce(self) -> None:
        """Say what whoever connects should know."""

    def on_query(self, envelope: Envelope) -> None:
        if self.definition.keeps_rows and self.roster.roles[envelope.sender] == "analyst":
            # Servers answer for this owner; what was meant for them must not end an upload.
            self._note_stranger(envelope)
            return
        if envelope.round != self.answer or envelope.root != self.root or self.roster.roles[envelope.sender] != "compute":
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
        self.custom.consent(plan)

    def takes_part(self, participants: tuple[str, ...]) -> bool:
        return self.name in participants

    def join(self, step: StepPlan, binding: StepBinding, digest: bytes) -> Session:
        if self.survivors is not None and self.survivors != binding.participants:
            raise denied(
                "participants_changed", "an owner was lost in an earlier step of this query; nothing more is opened, start it again"
            )
        try:
            contribution = self._contribution(step, binding.step, digest)
            binding = replace(binding, kept=self.kept, executor=self.custom.executor)
            return self.definition.architecture.owner(binding, contribution, self.random)
        except (SchemaError, RangeError) as error:
            raise self.custom.conceal(error) from None

    def _contribution(self, step: StepPlan, context: bytes, digest: bytes) -> Contribution:
        """Rows, who may see their total, and noise, which is paid for before it is drawn, and after the rows were read and found to fit."""
        rows, noise = self.table.rows(step.cut.columns()), step.noise_of(NoiseSite.OWNERS)
        if noise is None:
            return Contribution(
                rows, authorise=lambda survivors: self._authorise(survivors, step.cut, digest), fewest=self.policy.min_owners
            )

        def paid(size: int) -> Integers:
            with self._refusing():
                self.ledger.spend(noise.rho, noise.promise, context)
            return noise.draw(self.random)

        return Contribution(
            rows, authorise=lambda survivors: self._authorise_noisy(survivors, step.cut), fewest=self.policy.min_owners, noise=paid
        )

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """What may not be spent, or cannot be written down, ends the query in any of its rounds."""
        try:
            yield
        except VeilstatError as error:
            raise ProtocolError(Fault.of(error.at(self.title), self.name)) from None

    def on_finished(self, result: object) -> None:
        if isinstance(result, tuple):
            self.survivors = result

    def _require_owners(self, survivors: tuple[str, ...]) -> None:
        if len(survivors) < self.policy.min_owners:
            raise denied("too_few_survivors", f"{self.title} takes part in totals over at least {self.policy.min_owners} owners")

    def _authorise_noisy(self, survivors: tuple[str, ...], cut: Cut) -> None:
        self._require_owners(survivors)
        self._count_answers(cut)

    def _authorise(self, survivors: tuple[str, ...], cut: Cut, public: bytes) -> None:
        self._require_owners(survivors)
        try:
            self.record.authorise(cut, public, [self._recorded(owner) for owner in survivors])
        except ProtocolError as error:
            raise denied(error.fault.code, f"{self.title}: {error.fault.message}") from None
        self._count_answers(cut)

    def _recorded(self, owner: str) -> str:
        """An owner as the record of openings knows it: the difference of totals over two contents of this table is its rows alone."""
        return f"{owner}, table {self.version}" if owner == self.name and self.version else owner

    def _count_answers(self, cut: Cut) -> None:
        """Before they are decrypted under a key that lasts, where there is one; raises ProtocolError."""
