"""Uploads through the coordinator's switchboard, one frame at a time: whatever is lost, wherever, no server is left with half of one."""

import os

import pandas as pd
import pytest

import veilstat as vs
from tests.deployments import OWNERS, SCHEMA, TABLES
from veilstat.dp.ledger import Ledger
from veilstat.platform.agent import Mandate
from veilstat.platform.analyst import Analyst
from veilstat.platform.compute_hosts import LocalServers
from veilstat.platform.coordinator import Coordinator
from veilstat.platform.definition import ANALYST, SERVER, Definition
from veilstat.platform.deployment.patience import Patience
from veilstat.platform.deployment.switchboard import Switchboard
from veilstat.platform.driver import Driver
from veilstat.platform.party import MOST_REJECTED
from veilstat.platform.plan import make_plan
from veilstat.platform.planner import make_planner
from veilstat.platform.policy import Policy
from veilstat.platform.table import Table
from veilstat.platform.upload_agent import UploadAgent
from veilstat.protocol.envelope import NO_STEP, Envelope, seal
from veilstat.protocol.member import Member
from veilstat.statistics.solve import solve

SERVERS = ("compute1", "compute2", "compute3")
POOLED = pd.concat(TABLES.values())


class Parties:
    """Owners, servers and analyst around a switchboard, with a queue in place of lines; ``lose`` may swallow any frame."""

    def __init__(self, folder):
        (folder / "schema.toml").write_text(SCHEMA)
        schema = vs.Schema.from_toml(folder / "schema.toml")
        architecture = vs.Sharing(servers=3, entry="rows")
        self.definition = Definition(schema, OWNERS, architecture, dict.fromkeys(OWNERS, Policy().digest))
        self.hosts = LocalServers(self.definition, os.urandom)
        self.roster = self.hosts.roster
        its = {name: Member(identity, self.roster) for name, identity in self.hosts.identities.items()}
        planner = make_planner()
        self.servers = dict(self.hosts.machines({}, planner))
        self.agents = {
            name: UploadAgent(
                its[name], self.definition, planner, os.urandom, Mandate(Table(name, TABLES[name], schema), Policy(), Ledger(None))
            )
            for name in OWNERS
        }
        self.analyst = Analyst(its[ANALYST], self.definition, os.urandom)
        self.now, self.reports, self.queue, self.passed = 0.0, [], [], 0
        self.lose = lambda number, recipient, frame: False
        party = Coordinator(its[SERVER], self.definition, planner)
        self.board = Switchboard(party, Patience(10, lambda: self.now), lambda *words: self.reports.append(words))
        self.machines = {**self.servers, **self.agents, ANALYST: self.analyst}
        for name in self.machines:
            self.plug(name)

    def plug(self, name):
        self.board.plug(name, lambda frame: self.queue.append((name, frame)))

    def unplug(self, name):
        self.board.unplug(name, "cut")
        self.queue = [(recipient, frame) for recipient, frame in self.queue if recipient != name]

    def settle(self):
        """Deliver until nothing moves."""
        while True:
            for name, machine in self.machines.items():
                for event in machine.events():
                    for recipient in SERVERS if event.recipient == "parties" else (event.recipient,):
                        self.carry(name, recipient, event.frame)
            if not self.queue:
                return
            recipient, frame = self.queue.pop(0)
            self.machines[recipient].receive(frame)

    def carry(self, name, recipient, frame):
        self.passed += 1
        if self.lose(self.passed, recipient, frame):
            return
        if name in SERVERS and recipient in SERVERS:
            self.queue.append((recipient, frame))
        elif name in self.board.ports:
            self.board.take(name, frame)

    def upload(self, owner):
        """The owner's fault, or None: what `veilstat rows share` does."""
        agent = self.agents[owner]
        for begin in (agent.ask_versions, agent.offer_rows):
            begin()
            self.settle()
            if agent.waiting:
                agent.expire()
                self.settle()
            if agent.fault is not None:
                return agent.fault
        return None

    def expire_servers(self):
        for server in self.servers.values():
            server.expire()
        self.settle()

    def versions(self, owner):
        return [server.store.largest_version(owner) for server in self.servers.values()]

    def mean(self):
        return Driver(make_plan(vs.Mean("bp"), self.definition), self.analyst, self.settle, solve).run()


@pytest.fixture
def parties(tmp_path):
    its = Parties(tmp_path)
    for owner in OWNERS:
        assert its.upload(owner) is None
    its.passed = 0
    return its


def test_owners_that_shared_their_rows_are_not_needed_for_a_query(parties):
    for owner in OWNERS:
        parties.unplug(owner)
    assert parties.mean().estimate == POOLED["bp"].mean()


def frames_of_an_upload(folder):
    folder.mkdir()
    counting = Parties(folder)
    assert counting.upload("north") is None
    return counting.passed


def test_no_frame_that_is_lost_leaves_half_an_upload_or_stops_the_next(parties, tmp_path):
    for lost in range(1, 1 + frames_of_an_upload(tmp_path / "other")):
        before = parties.versions("north")
        parties.passed, parties.lose = 0, lambda number, recipient, frame, lost=lost: number == lost
        fault = parties.upload("north")
        parties.lose = lambda *_: False
        parties.expire_servers()
        assert fault is not None
        assert fault.kind == "QuorumLost"
        complete = max(before) + 1
        assert set(parties.versions("north")) <= {*before, complete}
        assert not list(parties.servers["compute1"].store.directory.glob("*.part"))
        assert parties.upload("north") is None
        assert len(set(parties.versions("north"))) == 1
        assert min(parties.versions("north")) > max(before)


@pytest.mark.parametrize("gone", ["compute2", "north"])
def test_a_line_that_breaks_at_any_frame_is_told_at_once_and_does_not_stop_the_next_upload(parties, tmp_path, gone):
    agent = parties.agents["north"]
    for place in range(1, 1 + frames_of_an_upload(tmp_path / "other")):

        def cut(number, recipient, frame, place=place):
            if number == place and gone in parties.board.ports:
                parties.unplug(gone)
            return False

        parties.passed, parties.lose = 0, cut
        agent.ask_versions()
        parties.settle()
        if agent.fault is None and not agent.waiting:
            agent.offer_rows()
            parties.settle()
        if gone == "compute2" and agent.fault is not None:
            assert (agent.fault.code, agent.fault.culprits) == ("party_lost", ("compute2",))
            assert "try again once it is" in agent.fault.message
        assert (gone == "north") >= agent.waiting
        parties.lose = lambda *_: False
        parties.plug(gone)
        # No server was told to give up: the owner's next upload takes the place of this one by itself.
        assert parties.upload("north") is None
        assert len(set(parties.versions("north"))) == 1


def test_an_upload_that_stands_still_stops_no_other_owner_s(parties):
    parties.lose = lambda number, recipient, frame: Envelope.decode(frame).round == "plane/1"
    agent = parties.agents["north"]
    agent.ask_versions()
    parties.settle()
    agent.offer_rows()
    parties.settle()
    assert agent.waiting
    parties.lose = lambda *_: False
    assert parties.upload("south") is None
    assert parties.versions("south") == [2, 2, 2]
    assert parties.versions("north") == [1, 1, 1]
    assert parties.mean().estimate == POOLED["bp"].mean()


def test_bytes_of_an_upload_are_not_those_of_the_query_beside_it(parties):
    for owner in OWNERS:
        parties.unplug(owner)
    parties.mean()
    alone = dict(parties.board.bytes)
    parties.plug("north")
    agent = parties.agents["north"]
    agent.ask_versions()
    parties.settle()
    agent.offer_rows()
    assert parties.mean().estimate == POOLED["bp"].mean()
    assert parties.versions("north") == [2, 2, 2]
    assert dict(parties.board.bytes) == alone


def test_who_speaks_for_another_owner_is_not_passed_on(parties):
    forged = seal(parties.hosts.identities["south"], bytes(32), NO_STEP, "ask", "compute1", b"")
    for frame in forged:
        parties.board.take("north", frame)
    assert parties.queue == []
    assert parties.reports[-1] == ("rejected", "north", "unexpected_sender")


def test_frames_of_an_earlier_upload_change_nothing(parties):
    frames = []
    parties.lose = lambda number, recipient, frame: frames.append((recipient, frame)) or False
    assert parties.upload("north") is None
    parties.lose = lambda *_: False
    assert parties.upload("north") is None
    said = [(recipient, frame) for recipient, frame in frames if Envelope.decode(frame).sender == "north"]
    answered = [(recipient, frame) for recipient, frame in frames if recipient == "north"]
    assert len(said) > 6
    for _, frame in said:
        parties.board.take("north", frame)
    for _, frame in answered:
        parties.agents["north"].receive(frame)
    parties.settle()
    assert parties.versions("north") == [3, 3, 3]
    assert parties.mean().estimate == POOLED["bp"].mean()
    assert parties.upload("north") is None


def test_what_owners_lines_bring_in_any_number_fills_no_server(parties):
    (frame,) = seal(parties.hosts.identities["north"], bytes(32), NO_STEP, "plane", "compute1", b"")
    for _ in range(MOST_REJECTED + 500):
        parties.board.take("north", frame)
    parties.settle()
    assert len(parties.servers["compute1"].desks["north"].rejected) == MOST_REJECTED
    assert parties.upload("north") is None


def test_an_offer_that_is_repeated_in_the_middle_of_its_upload_does_not_begin_it_anew(parties):
    offers = []

    def repeat(number, recipient, frame):
        match Envelope.decode(frame).round:
            case "offer":
                offers.append((recipient, frame))
            case "plane/2":
                parties.queue.extend(offers)
        return False

    parties.lose = repeat
    assert parties.upload("north") is None
    assert len(offers) == 3
    assert parties.versions("north") == [2, 2, 2]


def test_a_query_that_reaches_an_agent_all_the_same_ends_no_upload(parties):
    agent = parties.agents["north"]
    parties.analyst.propose(make_plan(vs.Mean("bp"), parties.definition))
    (proposal,) = [event.frame for event in parties.analyst.events()]
    agent.ask_versions()
    parties.settle()
    agent.offer_rows()
    agent.receive(proposal)
    parties.settle()
    assert agent.fault is None
    assert parties.versions("north") == [2, 2, 2]
