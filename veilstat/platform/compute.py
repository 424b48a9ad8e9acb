"""A compute server's party: it holds shares and never a row, and lets nothing be opened that the plan does not list.

Owners may be offline when their shares are opened, so each compute server checks for them: it recomputes the plan,
asks the policies of owners that uploaded their rows, keeps their privacy ledgers and the record of openings, and refuses totals over fewer
owners than any of them permits. One honest server is enough to refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from veilstat.architectures.interface import Custody, StepBinding, no_objection
from veilstat.architectures.sharing.uploads import Header, planes
from veilstat.dp.ledger import Budget
from veilstat.language.disclosure import NoiseSite
from veilstat.language.errors import ProtocolViolation, VeilstatError
from veilstat.language.step import Statistic
from veilstat.protocol.envelope import NO_STEP, Envelope, seal
from veilstat.protocol.faults import Fault, ProtocolError, violation
from veilstat.protocol.identity import Identity, Roster
from veilstat.protocol.session import ABORT, Send, Session, encode_fault

from . import messages, upload
from .approver import Approver, Planner
from .definition import Definition
from .gate import OpeningRecord, denied
from .ledgers import LedgersForOthers, OpenLedger, Promise, in_memory
from .opening_file import OpeningFile
from .plan import Plan, StepPlan
from .policy import Policy
from .upload_store import UploadStore


class ComputeServer(Approver):
    """One compute server; ``store`` keeps uploaded rows where the architecture has any, ``openings`` what was opened,
    ``ledgers`` what was spent for owners who uploaded them.
    """

    beginnings: ClassVar[frozenset[str]] = Approver.beginnings | {upload.ASK, upload.OFFER, upload.WITHDRAW}

    def __init__(
        self,
        identity: Identity,
        roster: Roster,
        definition: Definition,
        registry: Mapping[str, type[Statistic[Any]]],
        planner: Planner,
        random: Callable[[int], bytes],
        store: UploadStore | None = None,
        openings: OpeningFile | None = None,
        ledgers: OpenLedger = in_memory,
    ) -> None:
        super().__init__(identity, roster, definition, registry, planner, random)
        self.store, self.ledgers = store, LedgersForOthers(ledgers)
        fewest = definition.architecture.trust(definition.owners).colluding + 2
        self.record = OpeningRecord(fewest) if openings is None else OpeningRecord.on_disk(fewest, openings)

    @property
    def title(self) -> str:
        return f"compute server {self.name!r}"

    def on_query(self, envelope: Envelope) -> None:
        if self.store is not None and self.roster.roles[envelope.sender] == "owner":
            self._hear_owner(envelope, self.store)
        else:
            super().on_query(envelope)

    def consider(self, plan: Plan) -> None:
        """Whatever the plan lists may be opened, as far as owners who may be offline permit it."""
        columns = plan.statistic.columns(self.definition.schema)
        for owner in self.holds():
            try:
                self._policy(owner).check(plan.statistic.name, columns, plan.openings, private=not plan.opens_exactly)
            except VeilstatError as error:
                raise error.at(f"data owner {owner!r}") from None
        if plan.privacy is not None and not plan.opens_exactly:
            self.ledgers.check(self._budgets(self.holds()), plan.privacy.rho, plan.privacy.promise)

    def budget(self, owner: str) -> Budget:
        """What is spent and left of the budget of an owner who uploaded its rows, as far as this server knows."""
        return self.ledgers.budget(owner, self._policy(owner).budget)

    def holds(self) -> list[str]:
        if self.store is None:
            return []
        return [owner for owner in self.definition.owners if self.store.header(owner) is not None]

    def takes_part(self, participants: tuple[str, ...]) -> bool:
        return True

    def join(self, step: StepPlan, binding: StepBinding, digest: bytes) -> Session:
        def authorise(survivors: tuple[str, ...]) -> None:
            self.record.authorise(step.cut, digest, survivors if self.store is None else [self._version(owner) for owner in survivors])

        custody = Custody(authorise if step.opens_exactly else no_objection)
        if self.store is not None:
            self._check_company(binding.participants)
            custody = replace(custody, uploads=self._rows)
        noise = step.noise_of(NoiseSite.SERVERS)
        if noise is not None:
            self.ledgers.spend(self._budgets(binding.participants), noise.rho, noise.promise, binding.step)
            custody = replace(custody, noise=lambda size: noise.draw(self.random))
        return self.definition.architecture.compute(binding, custody, self.random)

    def _budgets(self, owners: Iterable[str]) -> dict[str, Promise]:
        return {owner: self._policy(owner).budget for owner in owners}

    def _check_company(self, participants: tuple[str, ...]) -> None:
        """Owners that may be offline said with how many others they want to stand in one total."""
        for owner in participants:
            fewest = self._policy(owner).min_owners
            if len(participants) < fewest:
                raise denied("too_few_survivors", f"data owner {owner!r} takes part in totals over at least {fewest} owners")

    def _version(self, owner: str) -> str:
        """An owner and its upload: the difference of answers over two versions is that owner's alone."""
        assert self.store is not None
        header = self.store.header(owner)
        return f"{owner}, upload {0 if header is None else header.version}"

    def on_finished(self, result: object) -> None:
        """The shares of the result are on their way to the analyst, or an owner's rows are on disk."""

    def _rows(self, owner: str) -> Any:
        assert self.store is not None
        header = self.store.header(owner)
        return self.store.rows(owner, 0 if header is None else header.version)

    def _policy(self, owner: str) -> Policy:
        assert self.store is not None
        header = self.store.header(owner)
        return Policy.from_json(header.terms) if header is not None else Policy()

    def _hear_owner(self, envelope: Envelope, store: UploadStore) -> None:
        """An owner asks what is held of it, offers its rows, or withdraws them."""
        if envelope.round == upload.ASK:
            self._say_held(envelope, store)
            return
        if self.waiting and envelope.root == self.root:
            self._note_replay(envelope)
            return
        if self.waiting:
            self._refuse_owner(envelope, Fault("QuorumLost", "server_busy", f"{self.title} is busy; try again later", (self.name,)))
            return
        self.root, self.gate, self.session = envelope.root, None, None
        try:
            match envelope.round:
                case upload.OFFER:
                    self._receive_offer(envelope, store)
                case upload.WITHDRAW:
                    store.withdraw(envelope.sender, upload.withdrawn_version(envelope.payload, envelope.sender, envelope.root, self.roster))
                    self.send(upload.WITHDRAWN, envelope.sender, b"")
                case _:
                    raise violation("unknown_round", f"{envelope.sender!r} sent a message of an unknown round", envelope.sender)
        except VeilstatError as error:
            culprits = (envelope.sender,) if isinstance(error, ProtocolViolation) else error.culprits
            self._refuse_owner(envelope, Fault(type(error).__name__, error.code, error.message, culprits))
        except ProtocolError as error:
            self._refuse_owner(envelope, error.fault)

    def _say_held(self, envelope: Envelope, store: UploadStore) -> None:
        """Whatever runs goes on."""
        try:
            header = store.header(envelope.sender)
            held = upload.Held(0 if header is None else header.version, store.largest_version(envelope.sender))
        except VeilstatError as error:
            self._refuse_owner(envelope, Fault(type(error).__name__, error.code, error.message, (self.name,)))
            return
        self._tell_owner(envelope, upload.HELD, messages.encode(held))

    def _receive_offer(self, envelope: Envelope, store: UploadStore) -> None:
        owner, header = envelope.sender, Header.from_bytes(bytes(envelope.payload))
        if upload.upload_root(header, self.roster) != envelope.root:
            raise violation("bad_root", f"{owner!r} bound an upload to another root", owner)
        if Policy.from_json(header.terms).digest != self.definition.policies.get(owner):
            raise violation("policy_differs", f"{owner!r} offered rows under another policy than it published", owner)
        store.check(owner, header)
        count = len(planes(self.definition.schema, header.complete))
        collect = upload.CollectPlanes(
            self.identity, owner, envelope.root, count, 2 * header.plane_bytes, lambda found: store.receive(owner, header, found)
        )
        its = upload.session(self.identity, self.roster, envelope.root, (owner,), collect.start())
        self.begin(its.binding.step, its)

    def _refuse_owner(self, envelope: Envelope, fault: Fault) -> None:
        self._tell_owner(envelope, ABORT, encode_fault(fault))

    def _tell_owner(self, envelope: Envelope, round_name: str, payload: bytes) -> None:
        for frame in seal(self.identity, envelope.root, NO_STEP, round_name, envelope.sender, payload):
            self._outbox.append(Send(envelope.sender, frame))
