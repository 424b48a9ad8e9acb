"""A compute server's party: it holds shares and never a row, and lets nothing be opened that the plan does not list.

Owners may be offline when their shares are opened, so each compute server checks for them: it recomputes the plan,
asks the policies of owners that uploaded their rows, keeps their privacy ledgers and the record of openings, and refuses totals over fewer
owners than any of them permits. One honest server is enough to refuse.

A query runs on the uploads that were there when it began: an owner that replaces its rows meanwhile replaces them for
later queries; one that withdraws them ends it before its next step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

from veilstat.architectures.interface import Custody, NoiseSite, StepBinding, no_objection
from veilstat.architectures.sharing.uploads import UploadedRows
from veilstat.dp.ledger import Budget
from veilstat.errors import PolicyDenied, VeilstatError
from veilstat.protocol.envelope import Envelope
from veilstat.protocol.faults import ProtocolError
from veilstat.protocol.member import Member
from veilstat.protocol.session import Send, Session

from .approver import Approver
from .definition import Definition
from .gate import denied
from .ledgers import LedgersForOthers, OpenLedger, Promise, in_memory
from .opening_file import OpeningFile
from .opening_record import OpeningRecord, isolated_owners
from .plan import Plan, StepPlan
from .planner import Planner
from .policy import Policy
from .upload_desk import UploadDesk
from .upload_store import UploadStore

_UPLOAD = ", upload "


class ComputeServer(Approver):
    """One compute server; ``store`` keeps uploaded rows where the architecture has any, ``openings`` what was opened,
    ``ledgers`` what was spent for owners who uploaded them.
    """

    def __init__(
        self,
        member: Member,
        definition: Definition,
        planner: Planner,
        random: Callable[[int], bytes],
        store: UploadStore | None = None,
        openings: OpeningFile | None = None,
        ledgers: OpenLedger = in_memory,
    ) -> None:
        super().__init__(member, definition, planner, random)
        self.store, self.ledgers = store, LedgersForOthers(ledgers)
        self.desks = (
            {}
            if store is None
            else {owner: UploadDesk(member, definition, store, partial(self._forget, owner)) for owner in definition.owners}
        )
        self.pinned: dict[str, UploadedRows] = {}
        """The uploads that the query runs on, by owner."""
        self.record = OpeningRecord(definition.trust.colluding + 2, openings)

    @property
    def title(self) -> str:
        return f"compute server {self.name!r}"

    def receive(self, frame: bytes, carrier: str = "") -> None:
        desk = self._desk(frame)
        if desk is None:
            super().receive(frame, carrier)
        else:
            desk.receive(frame, carrier)

    @property
    def waiting(self) -> bool:
        return super().waiting or any(desk.waiting for desk in self.desks.values())

    @property
    def awaited(self) -> frozenset[str]:
        """Whom the query waits for. An upload that stands still must not make others impatient with it, so owners count between queries only."""
        return super().awaited or frozenset().union(*(desk.awaited for desk in self.desks.values()))

    def expire(self) -> None:
        """Of what is ``awaited``: a query that waits in vain ends no upload that comes meanwhile."""
        if super().waiting:
            super().expire()
        else:
            for desk in self.desks.values():
                desk.expire()

    def events(self) -> Iterator[Send]:
        yield from super().events()
        for desk in self.desks.values():
            yield from desk.events()

    def consider(self, plan: Plan) -> None:
        """Whatever the plan lists may be opened, as far as owners who may be offline permit it."""
        columns = plan.statistic.columns(self.definition.schema)
        self.pinned = self._current_uploads()
        for owner, rows in self.pinned.items():
            try:
                if _policy(rows).digest != self.definition.policies.get(owner):
                    raise PolicyDenied(
                        "its rows came with another policy than the study publishes now; they must be shared again", code="policy_differs"
                    )
                _policy(rows).check(plan.statistic.name, columns, plan.openings, private=not plan.opens_exactly)
            except VeilstatError as error:
                raise error.at(f"data owner {owner!r}") from None
        if plan.privacy is not None and not plan.opens_exactly:
            self.ledgers.check(self._budgets(self.holds()), plan.privacy.rho, plan.privacy.promise)

    def budget(self, owner: str) -> Budget:
        """What is spent and left of the budget of an owner who uploaded its rows, as far as this server knows."""
        uploads = self._current_uploads()
        policy = _policy(uploads[owner]) if owner in uploads else Policy()
        return self.ledgers.budget(owner, policy.budget)

    def holds(self) -> list[str]:
        return list(self.pinned)

    def takes_part(self, participants: tuple[str, ...]) -> bool:
        return True

    def join(self, step: StepPlan, binding: StepBinding, digest: bytes) -> Session:
        def authorise(survivors: tuple[str, ...]) -> None:
            if self.store is None:
                self.record.authorise(step.cut, digest, survivors)
            else:
                self._require_uploads(survivors)
                self.record.authorise(step.cut, digest, [_version(self.pinned[owner]) for owner in survivors], self._isolated)

        custody = Custody(authorise if step.opens_exactly else no_objection)
        if self.store is not None:
            self._require_uploads(binding.participants)
            custody = replace(custody, uploads=self.pinned.__getitem__)
        noise = step.noise_of(NoiseSite.SERVERS)
        if noise is not None:
            self.ledgers.spend(self._budgets(binding.participants), noise.rho, noise.promise, binding.step)
            custody = replace(custody, noise=lambda size: noise.draw(self.random))
        return self.definition.architecture.compute(binding, custody, self.random)

    def on_finished(self, result: object) -> None:
        """The shares of the result are on their way to the analyst."""

    def _desk(self, frame: bytes) -> UploadDesk | None:
        """That of the owner whom a frame names as its sender: owners who upload their rows have no other business here."""
        try:
            return self.desks.get(Envelope.decode(frame).sender)
        except ProtocolError:
            return None

    def _budgets(self, owners: Iterable[str]) -> dict[str, Promise]:
        return {owner: _policy(self.pinned[owner]).budget for owner in owners}

    def _current_uploads(self) -> dict[str, UploadedRows]:
        """What every owner has uploaded and not withdrawn; files that are replaced stay readable for who has opened them."""
        if self.store is None:
            return {}
        headers = {owner: self.store.header(owner) for owner in self.definition.owners}
        return {owner: self.store.rows(owner, header.version) for owner, header in headers.items() if header is not None}

    def _forget(self, owner: str) -> None:
        """The owner has withdrawn its rows, from what runs too."""
        self.pinned.pop(owner, None)

    def _require_uploads(self, participants: tuple[str, ...]) -> None:
        """All rows are still here, and their owners stand in a total with as many others as they said, who may be offline."""
        gone = [owner for owner in participants if owner not in self.pinned]
        if gone:
            raise denied(
                "upload_withdrawn", f"{', '.join(gone)} withdrew its rows while the query ran; nothing more is opened, start it again"
            )
        for owner in participants:
            fewest = _policy(self.pinned[owner]).min_owners
            if len(participants) < fewest:
                raise denied("too_few_survivors", f"data owner {owner!r} takes part in totals over at least {fewest} owners")

    def _isolated(self, expression: str, before: frozenset[str], now: frozenset[str]) -> str:
        """Why a sum over these versions of uploads is not opened after one over those."""
        then, current = (dict(name.rsplit(_UPLOAD, 1) for name in names) for names in (before, now))
        replaced = sorted(owner for owner in then.keys() & current.keys() if then[owner] != current[owner])
        if not replaced:
            return isolated_owners(expression, frozenset(then), frozenset(current))
        return (
            f"{expression!r} was opened before {', '.join(replaced)} replaced its rows, and the difference of the two answers would tell what changed there. "
            f"Ask for what opens none of the same sums, or ask again once {self.record.fewest} owners have replaced theirs"
        )


def _policy(rows: UploadedRows) -> Policy:
    """The policy that came with an upload, for when its owner is offline."""
    return Policy.from_json(rows.header.terms)


def _version(rows: UploadedRows) -> str:
    """An owner and its upload, as the record of openings names it: the difference of answers over two versions is that owner's alone."""
    return f"{rows.header.owner}{_UPLOAD}{rows.header.version}"
