"""A data owner's agent: it alone holds the owner's table, keys and policy, and plays the owner's side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from veilstat.architectures.interface import Contribution, StepBinding
from veilstat.language.cut import Cut
from veilstat.language.step import Statistic
from veilstat.protocol.faults import ProtocolError
from veilstat.protocol.identity import Identity, Roster
from veilstat.protocol.session import Session

from .approver import Approver, Planner
from .definition import Definition
from .gate import OpeningRecord, denied
from .plan import Plan, StepPlan
from .policy import Policy
from .table import Table


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
    ) -> None:
        super().__init__(identity, roster, definition, registry, planner, random)
        self.table, self.policy = table, policy
        self.record = OpeningRecord(definition.architecture.trust(definition.owners).colluding + 2)
        self.survivors: tuple[str, ...] | None = None

    @property
    def title(self) -> str:
        return f"data owner {self.name!r}"

    def consider(self, plan: Plan) -> None:
        self.survivors = None
        self.policy.check(plan.statistic.name, plan.statistic.columns(self.definition.schema), plan.openings)

    def takes_part(self, participants: tuple[str, ...]) -> bool:
        return self.name in participants

    def join(self, step: StepPlan, binding: StepBinding, digest: bytes) -> Session:
        if self.survivors is not None and self.survivors != binding.participants:
            raise denied("participants_changed", "an owner was lost in an earlier step of this query; nothing more is opened")
        contribution = Contribution(
            self.table.rows(step.cut.columns()),
            fewest=self.policy.min_owners,
            authorise=lambda survivors: self._authorise(survivors, step.cut, digest),
        )
        return self.definition.architecture.owner(binding, contribution, self.random)

    def on_finished(self, result: object) -> None:
        self.survivors = cast(tuple[str, ...], result)

    def _authorise(self, survivors: tuple[str, ...], cut: Cut, public: bytes) -> None:
        if len(survivors) < self.policy.min_owners:
            raise denied("too_few_survivors", f"{self.title} takes part in totals over at least {self.policy.min_owners} owners")
        try:
            self.record.authorise(cut, public, survivors)
        except ProtocolError as error:
            raise denied(error.fault.code, f"{self.title}: {error.fault.message}") from None
