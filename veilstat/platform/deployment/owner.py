"""An owner's agent as a process (`veilstat owner`): it alone reads the table, and answers signed envelopes on a Unix socket."""

from __future__ import annotations

import asyncio
import secrets
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from veilstat import __version__
from veilstat.dp.ledger_file import open_ledger
from veilstat.errors import QuorumLost, SchemaError
from veilstat.protocol.faults import QUORUM, Fault, ProtocolError
from veilstat.protocol.member import Member
from veilstat.transports.stream import VERSION, Greeting, Stream, listen

from ..agent import Agent, Mandate
from ..definition import SERVER
from ..driver import as_error
from ..epoch_agent import EpochAgent
from ..identity_file import read_identity
from ..opening_file import OpeningFile
from ..plan import Plan
from ..planner import make_planner
from ..policy import Policy
from ..policy_file import PolicyFile, load_policy
from ..roster_file import read_roster
from ..session_file import SessionFile
from ..streamed_table import StreamedTable
from ..study_file import load_definition
from ..threads import cores, executor_of
from ..upload_agent import UploadAgent
from .approvals import Approvals
from .approvals_socket import answer_person
from .encrypted_rows import EncryptedRows, KeyLog
from .epoch_directory import open_store
from .journal import Journal, Sparing
from .owner_file import OwnerFile, load_owner
from .patience import Patience
from .plainly import plainly
from .refusals import Refusals
from .rows import Rows, RowsErrands, StaysHere
from .shared_rows import SharedRows

_LOOKS = 0.25


def run_owner(path: Path) -> None:
    """Serve the agent of an owner's file until SIGTERM or SIGINT.

    Raises:
        SchemaError: a file is missing or wrong. CapabilityError: a key or a directory is not kept well, a socket cannot be
        listened on. VeilstatError: what the agent must remember is damaged.
    """
    config = load_owner(path)
    journal = Journal(config.state / "owner.log", lambda: datetime.now(UTC))
    sys.excepthook = journal.write_crash
    rules = PolicyFile(Policy()) if config.policy is None else load_policy(config.policy)
    approvals = Approvals(config.state / "approvals.json", rules.needs_person, lambda: datetime.now(UTC))
    agent = make_agent(config, rules.policy, approvals, journal)
    host = AgentHost(agent, journal, Patience(config.progress, time.monotonic))
    rows = _rows(agent, host, rules)
    with plainly():
        asyncio.run(_serve(host, config, approvals, RowsErrands(rows, journal), journal))


def _rows(agent: Agent, host: AgentHost, rules: PolicyFile) -> Rows:
    if isinstance(agent, UploadAgent):
        return SharedRows(agent, host.settle, rules)
    if isinstance(agent, EpochAgent):
        return EncryptedRows(agent, host.keys, host.speak)
    return StaysHere()


def make_agent(config: OwnerFile, policy: Policy, approvals: Approvals, journal: Journal) -> Agent:
    """The agent's party, with all that it remembers; errors as ``run_owner``."""
    roster = read_roster(config.roster).roster
    definition = load_definition(config.study)
    if dict(roster.roles) != definition.roles:
        raise SchemaError(
            f"{config.roster.name} lists other parties than {config.study.name}; make the certificates anew", code="roster_differs"
        )
    if config.party not in definition.owners:
        raise SchemaError(f"{config.party!r} is no data owner of the study; there are: {', '.join(definition.owners)}", code="bad_owner")
    if definition.policies.get(config.party) != policy.digest:
        raise SchemaError(
            f"the policy of {config.party!r} is not the one that the study publishes; [policies] in {config.study.name} names it",
            code="policy_differs",
        )
    identity = read_identity(config.identity, config.party, roster.keys[config.party])
    table = StreamedTable(config.party, config.open_table(definition.schema), definition.schema, identity.sealing_secret)
    refusals = Refusals(config.state / "refusals", config.party, journal, time.time)
    mandate = Mandate(
        table,
        policy,
        open_ledger(config.state / "ledger", policy.budget),
        table.content.version,
        SessionFile(config.state / "sessions"),
        OpeningFile(config.state / "openings"),
        _consent(approvals, refusals),
        refusals.conceal,
        executor_of(cores()),
    )
    member = Member(identity, roster)
    if definition.keeps_epochs:
        store = open_store(config.state / "epoch", definition, roster)
        return EpochAgent(member, definition, make_planner(), secrets.token_bytes, mandate, store)
    kind = UploadAgent if definition.keeps_rows else Agent
    return kind(member, definition, make_planner(), secrets.token_bytes, mandate)


def _consent(approvals: Approvals, refusals: Refusals) -> Callable[[Plan], None]:
    def consent(plan: Plan) -> None:
        refusals.check()
        approvals.consent(plan)

    return consent


class AgentHost:
    """Hands frames of connections to the agent; its answers go to the connection that spoke last, what it begins itself to all."""

    def __init__(self, agent: Agent, journal: Journal, patience: Patience) -> None:
        self.agent, self.journal, self.patience = agent, journal, patience
        self._caused = Sparing(journal, patience.clock)
        self.greeting = Greeting(VERSION, __version__, agent.name, agent.roster.digest).encode()
        self._streams: set[Stream] = set()
        self._speaker: Stream | None = None
        self._running: bytes | None = None
        self._moved = asyncio.Event()
        self.keys = KeyLog(agent, journal)

    async def settle(self, begin: Callable[[], None], moved: Callable[[], None] = lambda: None) -> None:
        """Let the agent begin something, and call ``moved`` whenever it hears anything, until it waits for nobody.

        Raises:
            QuorumLost: nobody is connected who could carry its words. VeilstatError: it failed.
        """
        if not self._streams:
            raise QuorumLost(
                "the coordinator is not connected to this agent; see that it runs, and the owner's node if there is one, and try again",
                code="coordinator_lost",
            )
        self._speaker = None
        begin()
        self._answer()
        while self.agent.waiting:
            await self._moved.wait()
            self._moved.clear()
            moved()
        if self.agent.fault is not None:
            raise as_error(self.agent.fault)

    async def serve(self, stream: Stream) -> None:
        """One connection, until it ends or says what nobody should."""
        reason = "closed"
        self._streams.add(stream)
        try:
            stream.send(self.greeting)
            # Whoever connects may know nothing of what the owner said before.
            self.agent.introduce()
            for event in self.agent.events():
                stream.send(event.frame)
            while True:
                frame = await stream.receive()
                self._hear(stream, frame)
                await stream.flush()
        except (OSError, EOFError):
            pass
        except ProtocolError as error:
            reason = error.fault.code
        finally:
            stream.close()
            self._streams.discard(stream)
            self._left(stream)
            self._caused.write("connection_ended", reason=reason)

    def speak(self) -> None:
        """Send what the agent says of its own accord."""
        self._answer()

    async def watch(self) -> None:
        """Let waits expire."""
        while True:
            await asyncio.sleep(_LOOKS)
            if self.patience.is_over(self.agent.awaits):
                self.agent.expire()
                self._answer()
                self._moved.set()

    def close(self) -> None:
        """Hang up on everybody, also on who has stopped reading."""
        for stream in self._streams:
            stream.drop()

    def _hear(self, stream: Stream, frame: bytes) -> None:
        self.agent.receive(frame)
        if not self.agent.rejected:
            # Whoever only repeats frames, or makes them up, is answered nothing and ends nothing by leaving.
            self._speaker = stream
        self._answer()
        self._moved.set()
        malformed = any(fault.code == "malformed" for fault in self.agent.rejected)
        for fault in self.agent.rejected:
            self._caused.write("rejected", code=fault.code, culprits=fault.culprits)
        self.agent.rejected.clear()
        if malformed:
            raise ProtocolError(Fault("ProtocolViolation", "malformed", "a frame could not be read"))

    def _answer(self) -> None:
        for event in self.agent.events():
            for stream in self._streams if self._speaker is None else (self._speaker,):
                stream.send(event.frame)
        self._note()

    def _note(self) -> None:
        """Write down what began and what ended."""
        root = None if self.agent.gate is None else self.agent.root
        if root != self._running and root is not None and self.agent.gate is not None:
            plan = self.agent.gate.plan
            self.journal.write("query", root=root.hex()[:16], plan=plan.digest, query=plan.title)
        elif root is None and self._running is not None and self.agent.fault is not None:
            self.journal.write("query_ended", root=self._running.hex()[:16], code=self.agent.fault.code, culprits=self.agent.fault.culprits)
        self._running = root
        self.keys.note()

    def _left(self, stream: Stream) -> None:
        if stream is self._speaker or not self._streams:
            self._speaker = None
            self.agent.lost(
                Fault(QUORUM, "party_lost", "the connection to the coordinator is over, and with it what ran; try again", (SERVER,))
            )
            self._answer()
            self._moved.set()


async def _serve(host: AgentHost, config: OwnerFile, approvals: Approvals, errands: RowsErrands, journal: Journal) -> None:
    is_over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, is_over.set)
    # An error that nobody foresaw ends the group, and with it the process: a session is never resumed.
    async with asyncio.TaskGroup() as group:
        relays = await listen(config.socket, lambda stream: group.create_task(host.serve(stream)), config.relays)
        person = await listen(config.approvals, lambda stream: group.create_task(answer_person(stream, approvals, errands, journal)))
        watching = group.create_task(host.watch())
        journal.write(
            "started", party=config.party, roster=host.agent.roster.digest.hex()[:16], study=host.agent.definition.digest.hex()[:16]
        )
        await is_over.wait()
        for server in (relays, person):
            server.close()
        watching.cancel()
        host.close()
    journal.write("ended", party=config.party)
