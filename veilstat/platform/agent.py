"""A data owner's agent: it alone holds the owner's table, keys and policy, and plays the owner's side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from veilstat.architectures.homomorphic.rows.answers import Kept
from veilstat.architectures.interface import Contribution, NoiseSite, StepBinding
from veilstat.arithmetic.executor import SERIAL, Executor
from veilstat.dp.ledger import Ledger
from veilstat.dp.mechanism import NoiseShare
from veilstat.errors import RangeError, SchemaError, VeilstatError
from veilstat.language.cut import Cut
from veilstat.protocol.faults import Fault, ProtocolError
from veilstat.protocol.member import Member
from veilstat.protocol.session import Session
from veilstat.schema.encoding import Integers

from .approver import Approver, Sessions
from .definition import Definition
from .gate import denied
from .opening_file import OpeningFile
from .opening_record import OpeningRecord
from .plan import Plan, StepPlan
from .planner import Planner
from .policy import Policy
from .table import OwnersTable


@dataclass(frozen=True, slots=True)
class Mandate:
    """What an owner entrusts to its agent. What is left out fits an agent that shares its process with all others.

    Args:
        table, policy, ledger: the rows, what may be asked of them, and what was spent of their privacy budget.
        table_version: names the table's content; another content is another owner to the record of openings.
        answered: remembers queries. openings: keeps what was opened; in memory where they are None.
        consent: asked about every plan that the policy permits, and raises PolicyDenied to refuse.
        conceal: what others are told of an error that depends on rows.
        executor: does what can be shared out of a step.
    """

    table: OwnersTable
    policy: Policy
    ledger: Ledger
    table_version: str = ""
    answered: Sessions | None = None
    openings: OpeningFile | None = None
    consent: Callable[[Plan], None] = lambda plan: None
    conceal: Callable[[VeilstatError], VeilstatError] = lambda error: error
    executor: Executor = SERIAL


class Agent(Approver):
    """One owner's party."""

    def __init__(self, member: Member, definition: Definition, planner: Planner, random: Callable[[int], bytes], mandate: Mandate) -> None:
        super().__init__(member, definition, planner, random, mandate.answered)
        self.mandate = mandate
        self.table, self.policy, self.ledger = mandate.table, mandate.policy, mandate.ledger
        self.version = mandate.table_version
        """Of the rows that answers are over."""
        self.kept: Kept | None = None
        """What is kept of rows that the owner encrypted."""
        self.record = OpeningRecord(definition.trust.colluding + 2, mandate.openings)
        self.survivors: tuple[str, ...] | None = None

    def introduce(self) -> None:
        """Say what whoever connects should know."""

    @property
    def title(self) -> str:
        return f"data owner {self.name!r}"

    def consider(self, plan: Plan) -> None:
        self.survivors = None
        columns = plan.statistic.columns(self.definition.schema)
        self.policy.check(plan.statistic.name, columns, plan.openings, private=not plan.opens_exactly)
        if plan.privacy is not None and not plan.opens_exactly:
            self.ledger.check(plan.privacy.rho, plan.privacy.promise)
        self.mandate.consent(plan)

    def takes_part(self, participants: tuple[str, ...]) -> bool:
        return self.name in participants

    def join(self, step: StepPlan, binding: StepBinding, digest: bytes) -> Session:
        if self.survivors is not None and self.survivors != binding.participants:
            raise denied(
                "participants_changed", "an owner was lost in an earlier step of this query; nothing more is opened, start it again"
            )
        try:
            contribution = self._contribution(step, binding.step, digest)
            binding = replace(binding, kept=self.kept, executor=self.mandate.executor)
            return self.definition.architecture.owner(binding, contribution, self.random)
        except (SchemaError, RangeError) as error:
            raise self.mandate.conceal(error) from None

    def _contribution(self, step: StepPlan, context: bytes, digest: bytes) -> Contribution:
        """Rows, who may see their total, and noise."""
        rows, noise = self.table.rows(step.cut.columns()), step.noise_of(NoiseSite.OWNERS)
        contribution = Contribution(rows, partial(self._authorise, step, digest), self.policy.min_owners)
        return contribution if noise is None else replace(contribution, noise=partial(self._pay_and_draw, noise, context))

    def _pay_and_draw(self, noise: NoiseShare, context: bytes, size: int) -> Integers:
        """Noise is paid for before it is drawn, and after the rows were read and found to fit."""
        with self._refusing():
            self.ledger.spend(noise.rho, noise.promise, context)
        return noise.draw(self.random)

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

    def _authorise(self, step: StepPlan, public: bytes, survivors: tuple[str, ...]) -> None:
        """Totals without this owner's noise are recorded before they are opened; raises ProtocolError."""
        if len(survivors) < self.policy.min_owners:
            raise denied("too_few_survivors", f"{self.title} takes part in totals over at least {self.policy.min_owners} owners")
        if step.noise_of(NoiseSite.OWNERS) is None:
            try:
                self.record.authorise(step.cut, public, [self._recorded(owner) for owner in survivors])
            except ProtocolError as error:
                raise denied(error.fault.code, f"{self.title}: {error.fault.message}") from None
        self._count_answers(step.cut)

    def _recorded(self, owner: str) -> str:
        """An owner as the record of openings knows it: the difference of totals over two contents of this table is its rows alone."""
        return f"{owner}, table {self.version}" if owner == self.name and self.version else owner

    def _count_answers(self, cut: Cut) -> None:
        """Before they are decrypted under a key that lasts, where there is one; raises ProtocolError."""
