"""A compute server's party: it holds shares and never a row, and lets nothing be opened that the plan does not list.

Owners may be offline when their shares are opened, so each compute server checks for them: it recomputes the plan,
keeps the record of openings, and refuses totals over fewer owners than any of them permits. One honest server is
enough to refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from veilstat.architectures.interface import StepBinding
from veilstat.language.step import Statistic
from veilstat.protocol.identity import Identity, Roster
from veilstat.protocol.session import Session

from .approver import Approver, Planner
from .definition import Definition
from .gate import OpeningRecord
from .plan import Plan, StepPlan


class ComputeServer(Approver):
    """One compute server."""

    def __init__(
        self,
        identity: Identity,
        roster: Roster,
        definition: Definition,
        registry: Mapping[str, type[Statistic[Any]]],
        planner: Planner,
        random: Callable[[int], bytes],
    ) -> None:
        super().__init__(identity, roster, definition, registry, planner, random)
        self.record = OpeningRecord(definition.architecture.trust(definition.owners).colluding + 2)

    @property
    def title(self) -> str:
        return f"compute server {self.name!r}"

    def consider(self, plan: Plan) -> None:
        """Whatever the plan lists may be opened: what owners permit is for them to say."""

    def takes_part(self, participants: tuple[str, ...]) -> bool:
        return True

    def join(self, step: StepPlan, binding: StepBinding, digest: bytes) -> Session:
        return self.definition.architecture.compute(
            binding, lambda survivors: self.record.authorise(step.cut, digest, survivors), self.random
        )

    def on_finished(self, result: object) -> None:
        """The shares of the result are on their way to the analyst."""
