"""A person's word on plans: queries wait for it by the digest of their plan, and a grant is good for one of them.

Nobody is kept waiting on a connection: a query that needs a person is refused with ``approval_pending``, and asked
again once the plan was granted. The file is replaced before the answer that depends on it leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import msgspec

from veilstat.errors import PolicyDenied, SchemaError, VeilstatError

from ..durable import replace_file
from ..plan import Plan

MOST_PENDING = 100


class Verdict(StrEnum):
    """What became of a plan."""

    PENDING = "pending"
    GRANTED = "granted"
    DENIED = "denied"


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A plan that a person is asked about."""

    digest: str
    title: str
    text: str
    asked: str
    verdict: Verdict = Verdict.PENDING


@dataclass(slots=True)
class Approvals:
    """The plans that wait, were granted or denied.

    Args:
        path: where they are kept. needs_person: whether a statistic needs a person's word. now: the clock.

    Raises:
        VeilstatError: the file was damaged.
    """

    path: Path
    needs_person: Callable[[str], bool]
    now: Callable[[], datetime]
    _entries: dict[str, Entry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.path.exists():
            return
        try:
            entries = msgspec.json.decode(self.path.read_bytes(), type=list[Entry])
        except msgspec.MsgspecError:
            raise VeilstatError(
                f"the file of approvals {str(self.path)!r} is damaged; remove it, and grant again what it held", code="record_damaged"
            ) from None
        self._entries = {entry.digest: entry for entry in entries}

    def consent(self, plan: Plan) -> None:
        """Take part in a query if a person has granted its plan, once for each grant.

        Raises:
            PolicyDenied: a person has yet to look at it, or has denied it. VeilstatError: that could not be written down.
        """
        if not self.needs_person(plan.statistic.name):
            return
        entry = self._entries.get(plan.digest)
        if entry is None:
            self._ask(plan)
        elif entry.verdict is Verdict.DENIED:
            raise PolicyDenied("a person has denied this plan, and may still grant it; speak to this owner", code="approval_denied")
        elif entry.verdict is Verdict.GRANTED:
            self._keep({digest: other for digest, other in self._entries.items() if digest != plan.digest})
            return
        raise PolicyDenied(f"a person must approve the plan {plan.digest[:12]}; ask again once it is granted", code="approval_pending")

    def entries(self) -> tuple[Entry, ...]:
        """All of them, the oldest first."""
        return tuple(self._entries.values())

    def find(self, prefix: str) -> Entry:
        """The plan whose digest begins so; SchemaError where there is none, or more than one."""
        found = [entry for digest, entry in self._entries.items() if prefix and digest.startswith(prefix)]
        if len(found) != 1:
            what = "no plan" if not found else "more than one plan"
            raise SchemaError(f"there is {what} whose digest begins with {prefix!r}; `veilstat approvals list` shows them", code="no_plan")
        return found[0]

    def decide(self, prefix: str, verdict: Verdict) -> Entry:
        """A person's word; errors as ``find``, and VeilstatError if it could not be written down."""
        entry = msgspec.structs.replace(self.find(prefix), verdict=verdict)
        self._keep(self._entries | {entry.digest: entry})
        return entry

    def _ask(self, plan: Plan) -> None:
        if sum(entry.verdict is Verdict.PENDING for entry in self._entries.values()) >= MOST_PENDING:
            raise PolicyDenied("too many plans wait for a person already; ask again later", code="approvals_full")
        asked = self.now().isoformat(timespec="seconds")
        self._keep(self._entries | {plan.digest: Entry(plan.digest, plan.title, str(plan), asked)})

    def _keep(self, entries: dict[str, Entry]) -> None:
        try:
            replace_file(self.path, msgspec.json.encode(list(entries.values())))
        except OSError as error:
            text = f"the file of approvals cannot be written ({error.strerror}), so nothing was asked, granted or denied; make room for it"
            raise VeilstatError(text, code="record_failed") from None
        self._entries = entries
