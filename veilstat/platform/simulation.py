"""The embedded study: all parties in one process, with the same protocols as everywhere.

Every owner's table stays with its own agent; whatever another party learns went through the network as bytes.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import pandas as pd

from veilstat.architectures.interface import Architecture, Released
from veilstat.dp.ledger import Budget
from veilstat.errors import CapabilityError, SchemaError
from veilstat.protocol.envelope import Envelope
from veilstat.protocol.faults import ProtocolError, quorum_lost
from veilstat.protocol.identity import Roster
from veilstat.protocol.member import Member
from veilstat.schema.schema import Schema
from veilstat.statistics.interface import Statistic
from veilstat.statistics.results import Result
from veilstat.statistics.solve import solve
from veilstat.transports.machine import Hosted, Machine
from veilstat.transports.memory import Fault, MemoryNetwork, Reorder

from .agent import Agent, Mandate
from .analyst import Analyst
from .compute_hosts import ComputeHosts, LocalServers, fleeting_directories
from .coordinator import Coordinator
from .definition import ANALYST, PARTIES, SERVER, Definition
from .driver import Driver, Progress, as_error, no_progress
from .epoch_agent import EpochAgent
from .epoch_store import EpochStore
from .epochs import ASK, study_digest
from .ledgers import OpenLedger, in_directory, in_memory
from .plan import Plan
from .planner import make_planner
from .policy import Policy
from .published import configure
from .study import Study
from .table import Table
from .threads import cores, executor_of
from .upload_agent import UploadAgent


@dataclass(frozen=True, slots=True)
class Observed:
    """What one party other than the owners saw: every frame that reached it, and what became clear to it."""

    party: str
    frames: tuple[bytes, ...]
    opened: tuple[tuple[str, Released], ...]

    @property
    def envelopes(self) -> tuple[Envelope, ...]:
        """The frames, parsed."""
        parsed = []
        for frame in self.frames:
            try:
                parsed.append(Envelope.decode(frame))
            except ProtocolError:
                continue
        return tuple(parsed)

    @property
    def payload_bytes(self) -> bytes:
        """All payloads, joined."""
        return b"".join(bytes(envelope.payload) for envelope in self.envelopes)


class Simulation:
    """Parties of one study in one process; ``run`` answers a plan."""

    def __init__(
        self,
        definition: Definition,
        tables: Mapping[str, pd.DataFrame],
        policies: Mapping[str, Policy],
        faults: Iterable[Fault],
        random: Callable[[int], bytes],
        hosts: ComputeHosts,
        ledgers: OpenLedger = in_memory,
        added: Iterable[type[Statistic[Any]]] = (),
    ) -> None:
        identities, roster = hosts.identities, hosts.roster
        planner = make_planner(*added)
        self.definition, self.hosts = definition, hosts
        epochs, self.random = self._epoch_stores(definition, roster), random
        executor = executor_of(cores())
        members = {name: Member(identity, roster) for name, identity in identities.items()}
        self.analyst = Analyst(members[ANALYST], definition, random)

        def make_agent(name: str) -> Agent:
            table, policy = Table(name, tables[name], definition.schema), policies.get(name, Policy())
            mandate = Mandate(table, policy, ledgers(name, policy.budget), executor=executor)
            if name in epochs:
                return EpochAgent(members[name], definition, planner, random, mandate, epochs[name])
            kind = UploadAgent if definition.keeps_rows else Agent
            return kind(members[name], definition, planner, random, mandate)

        self.agents = {name: make_agent(name) for name in definition.owners}
        self.coordinator = Coordinator(members[SERVER], definition, planner, epochs.get(SERVER), executor=executor)
        local: dict[str, Hosted] = {SERVER: self.coordinator, **self.agents, ANALYST: self.analyst}
        machines: dict[str, Machine] = {**local, **hosts.machines(local, planner)}
        kept = (SERVER, *hosts.observable, ANALYST)
        self.network = MemoryNetwork(machines, {PARTIES: definition.approvers}, faults, members, kept, hosts.tiers)
        if definition.keeps_rows:
            for owner in definition.owners:
                self.upload(owner)
        if definition.keeps_epochs:
            self.open_epoch()

    def open_epoch(self) -> None:
        """Have all owners make a key and encrypt their rows under it, in place of what they encrypted before.

        Raises:
            VeilstatError: an owner was lost, or refused.
        """
        for agent in self.agents.values():
            assert isinstance(agent, EpochAgent)
            agent.ask_for_key()
        self.network.settle()
        asked = self.coordinator.wishes
        if not self.coordinator.may_open_epoch:
            lost = tuple(sorted(set(self.agents) - set(asked)))
            raise as_error(quorum_lost(ASK, len(asked), len(self.agents), lost).fault)
        self.coordinator.open_epoch()
        self.network.settle()
        faults = [agent.fault for agent in self.agents.values()]
        fault = next((fault for fault in (*faults, self.coordinator.fault) if fault is not None), None)
        if fault is not None:
            raise as_error(fault)

    def upload(self, owner: str) -> None:
        """Share an owner's rows with the compute servers, in place of those that it shared before. Where owners encrypt
        their rows under a common key, all of them make a new key and encrypt theirs again.

        Raises:
            VeilstatError: a server refused, or was lost.
        """
        agent = self._agent(owner)
        match agent:
            case EpochAgent():
                agent.rejoin()
                self.open_epoch()
            case UploadAgent():
                self._settle_owner(agent, agent.ask_versions)
                self._settle_owner(agent, agent.offer_rows)
            case _:
                raise _no_uploads()

    def withdraw(self, owner: str) -> None:
        """Remove an owner's rows from the compute servers; the version is never taken again. Where rows are encrypted, the
        owner gives up its share of the key, without which nothing is decrypted.

        Raises:
            VeilstatError: there is no upload, or a server was lost.
        """
        agent = self._agent(owner)
        match agent:
            case EpochAgent():
                agent.give_up_key()
            case UploadAgent():
                self._settle_owner(agent, agent.ask_versions)
                self._settle_owner(agent, agent.withdraw_rows)
            case _:
                raise _no_uploads()

    def _epoch_stores(self, definition: Definition, roster: Roster) -> dict[str, EpochStore]:
        """For the server and every owner, as long as this object lives."""
        if not definition.keeps_epochs:
            return {}
        directories, study = fleeting_directories(self, (SERVER, *definition.owners)), study_digest(definition, roster)
        return {name: EpochStore(directory, study) for name, directory in directories.items()}

    def _settle_owner(self, agent: Agent, begin: Callable[[], None]) -> None:
        """Let an owner ask the compute servers something, until all have answered."""
        self.hosts.ready()
        begin()
        self.network.settle()
        if agent.fault is not None:
            raise as_error(agent.fault)

    def _agent(self, owner: str) -> Agent:
        if owner not in self.agents:
            raise SchemaError(f"there is no data owner {owner!r}; there are: {', '.join(self.agents)}", code="bad_owner")
        return self.agents[owner]

    def run(self, plan: Plan, progress: Progress = no_progress) -> Result:
        """The result of a plan, with its receipt."""
        self.hosts.ready()
        before, sent = self._bytes(), self._sent()

        def traffic() -> tuple[int, int]:
            now = self._bytes()
            return max(now[name] - before[name] for name in self.definition.owners), self._sent() - sent

        return Driver(plan, self.analyst, self.network.settle, solve, progress).answer(traffic, time.perf_counter)

    def budget(self) -> dict[str, Budget]:
        """What is spent and left of every owner's privacy budget, kept by whoever adds noise: owners, or servers while these are offline."""
        if self.definition.keeps_rows:
            return {name: self.hosts.budget(name) for name in self.agents}
        return {name: agent.ledger.budget for name, agent in self.agents.items()}

    @property
    def observed(self) -> dict[str, Observed]:
        """What every party other than the owners saw so far."""
        opened = tuple(self.analyst.opened)
        recipients = self.definition.trust.recipients
        return {
            name: Observed(name, tuple(self.network.traffic[name].frames), opened if name in recipients else ())
            for name in (SERVER, *self.hosts.observable, ANALYST)
        }

    def _sent(self) -> int:
        return sum(its.sent for its in self.network.traffic.values())

    def _bytes(self) -> dict[str, int]:
        return {name: its.sent + its.received for name, its in self.network.traffic.items()}


def _no_uploads() -> CapabilityError:
    return CapabilityError(
        "in this study rows stay with their owners; they are shared once, and can be taken back, with vs.Sharing(servers=3, entry='rows') "
        "or vs.Homomorphic(entry='rows')",
        code="no_uploads",
    )


def simulate(
    tables: Mapping[str, pd.DataFrame],
    schema: Schema,
    architecture: str | Architecture = "masking",
    *,
    policies: Mapping[str, Policy] | None = None,
    faults: Iterable[Fault] = (),
    certificates: str | Path | None = None,
    ledgers: str | Path | None = None,
    statistics: Iterable[type[Statistic[Any]]] = (),
) -> Study:
    """A study in one process: every data owner's table stays with its own simulated party.

    Args:
        tables: a DataFrame for each data owner, rows split over owners; NaN is missing.
        schema: agreed columns with bounds.
        architecture: "masking", "sharing", "homomorphic" or "clear", or a configured one such as ``vs.Masking(colluding=2)``.
        policies: what each owner permits; all, by default.
        faults: what goes wrong, for tests (``vs.testing``).
        certificates: the directory that `veilstat certificates` made, if the compute servers run as processes of their own
            (`veilstat server`); by default they run in this one.
        ledgers: a directory in which owners, and compute servers for owners who uploaded their rows, keep what was spent of
            privacy budgets; in memory, by default. Servers that run as processes of their own keep them where their file says.
        statistics: classes of statistics beside those that are installed, which all parties of this study then have.

    Raises:
        SchemaError: tables or schema are of the wrong kind. CapabilityError: the architecture cannot serve these owners.
    """
    if not isinstance(tables, Mapping):
        raise SchemaError("tables must be a mapping from data owner to DataFrame", code="wrong_type")
    if not isinstance(schema, Schema):
        raise SchemaError("schema must be a vs.Schema", code="wrong_type")
    if not isinstance(policies, (Mapping, NoneType)) or not all(isinstance(rule, Policy) for rule in (policies or {}).values()):
        raise SchemaError("policies must be a mapping from data owner to vs.Policy", code="wrong_type")
    if not isinstance(faults, (list, tuple)) or not all(isinstance(fault, Fault) for fault in faults):
        raise SchemaError("faults must be a list of vs.testing.Dropout and its like", code="wrong_type")
    rules = dict(policies or {})
    stranger = [name for name in rules if name not in tables]
    if stranger:
        raise SchemaError(f"there is a policy for {stranger[0]!r}, who is no data owner", code="bad_owner")
    digests = {name: rules.get(name, Policy()).digest for name in tables}
    definition = Definition(schema, tuple(tables), _configured(architecture), digests)
    absent = [
        fault.party
        for fault in faults
        if not isinstance(fault, Reorder) and not (isinstance(fault.party, str) and fault.party in definition.roles)
    ]
    if absent:
        raise SchemaError(f"a fault names {absent[0]!r}, who is no party of the study", code="bad_fault")
    added = tuple(statistics)
    folder = None if ledgers is None else Path(ledgers)
    kept = in_memory if folder is None else in_directory(folder)
    hosts = _hosts(definition, certificates, folder)
    return Study(definition, Simulation(definition, tables, rules, faults, secrets.token_bytes, hosts, kept, added), added)


def _hosts(definition: Definition, certificates: str | Path | None, ledgers: Path | None) -> ComputeHosts:
    if certificates is None:
        return LocalServers(definition, secrets.token_bytes, ledgers)
    from .remote_servers import RemoteServers

    return RemoteServers(definition, Path(certificates))


def _configured(architecture: str | Architecture) -> Architecture:
    """By name an architecture in its default configuration."""
    if isinstance(architecture, str):
        return configure(architecture, {})
    if isinstance(architecture, type) or not hasattr(architecture, "supports"):
        raise CapabilityError(
            "architecture must be a name such as 'masking', or a configuration such as vs.Masking()", code="unknown_architecture"
        )
    return architecture
