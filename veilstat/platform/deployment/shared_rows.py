"""`veilstat rows` where compute servers keep an owner's rows in shares: upload them, see who holds what, take them back."""

from __future__ import annotations

from dataclasses import dataclass

from veilstat.architectures.sharing.uploads import planes
from veilstat.errors import PolicyDenied

from ..policy import Policy
from ..policy_file import PolicyFile
from ..upload import planes_kept
from ..upload_agent import UploadAgent
from .rows import Say, Settle

_TOLD_PARTS = 10


@dataclass(frozen=True, slots=True)
class SharedRows:
    """One owner's rows at the compute servers.

    Args:
        settle: lets the agent begin something, and waits for its end. rules: the owner's policy.
    """

    agent: UploadAgent
    settle: Settle
    rules: PolicyFile

    async def share(self, say: Say) -> None:
        """Deal the rows to all servers, in place of what they hold.

        Raises:
            PolicyDenied: a person is to approve queries. SchemaError, RangeError: the rows do not fit the schema.
            VeilstatError: a server refused, or was lost.
        """
        if not self.rules.is_unattended:
            raise PolicyDenied(
                "the policy's `approval` asks a person about queries, but compute servers answer them while this owner is away, when nobody can be asked; "
                "take `approval` out of the policy's file and let its published rules decide (statistics, columns, most_openings, budget), or agree on entry = 'totals'",
                code="approval_offline",
            )
        await self.settle(self.agent.ask_versions)
        await self.settle(self.agent.offer_rows, _Progress(self.agent, say))
        offered = self.agent.offered
        assert offered is not None
        say(f"{_names(self.agent)} hold version {offered.version} of these rows, declared as {offered.rows:,}; this agent may go offline")

    async def show(self, say: Say) -> None:
        """Which version each server holds, and what the policy lets them answer.

        Raises:
            VeilstatError: a server did not answer.
        """
        await self.settle(self.agent.ask_versions)
        held = {server: its.stored for server, its in sorted(self.agent.held.items())}
        for server, version in held.items():
            say(f"{server} holds version {version}" if version else f"{server} holds nothing")
        if not any(held.values()):
            say("nothing can be asked about these rows; share them with: veilstat rows share")
        elif len(set(held.values())) > 1:
            say("queries are refused, since the servers hold different versions; share the rows again: veilstat rows share")
        else:
            say(f"without this owner the servers answer {permitted(self.agent.policy)}")

    async def withdraw(self, say: Say) -> None:
        """Have all servers remove what they hold.

        Raises:
            SchemaError: they hold nothing. VeilstatError: a server refused, or was lost.
        """
        await self.settle(self.agent.ask_versions)
        await self.settle(self.agent.withdraw_rows)
        say(f"{_names(self.agent)} have removed these rows; nothing more is opened over them")


@dataclass(slots=True)
class _Progress:
    """Says a few times how far an upload has come."""

    agent: UploadAgent
    say: Say
    told: int = 0

    def __call__(self) -> None:
        count = len(planes(self.agent.definition.schema, ()))
        part = planes_kept(self.agent.session) * _TOLD_PARTS // count
        if part > self.told:
            self.told = part
            self.say(f"{100 * part // _TOLD_PARTS} % of the shares are with all servers")


def permitted(policy: Policy) -> str:
    """What a policy lets others ask, in words."""
    words = ["all statistics" if policy.statistics is None else ", ".join(policy.statistics)]
    words.append("of all columns" if policy.columns is None else f"of {', '.join(policy.columns)}")
    if policy.most_openings is not None:
        words.append(f"with at most {policy.most_openings} numbers a query")
    words.append(f"over at least {policy.min_owners} owners together")
    if policy.budget is not None:
        epsilon, delta = policy.budget
        words.append(f"with noise within (epsilon {epsilon:g}, delta {delta:g}) in all")
    return " ".join(words)


def _names(agent: UploadAgent) -> str:
    return ", ".join(agent.definition.servers)
