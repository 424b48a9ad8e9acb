"""Epochs through the coordinator's switchboard, with everybody's files: whoever dies in whatever round, none is half done and the next one works."""

import os

import pytest

import veilstat as vs
from tests.encrypted_rows import SCHEMA, tables
from veilstat.dp.ledger import Ledger
from veilstat.platform.agent import Mandate
from veilstat.platform.analyst import Analyst
from veilstat.platform.compute_hosts import LocalServers
from veilstat.platform.coordinator import Coordinator
from veilstat.platform.definition import ANALYST, SERVER, Definition
from veilstat.platform.deployment.epoch_opener import PAUSE, EpochOpener
from veilstat.platform.deployment.patience import Patience
from veilstat.platform.deployment.private import make_private
from veilstat.platform.deployment.switchboard import Switchboard
from veilstat.platform.driver import Driver
from veilstat.platform.epoch_agent import EpochAgent
from veilstat.platform.epoch_store import EpochStore
from veilstat.platform.epochs import study_digest
from veilstat.platform.plan import make_plan
from veilstat.platform.planner import make_planner
from veilstat.platform.policy import Policy
from veilstat.platform.table import Table
from veilstat.protocol.envelope import Envelope
from veilstat.protocol.faults import QUORUM, Fault
from veilstat.protocol.member import Member
from veilstat.statistics.solve import solve

OWNERS = ("o0", "o1", "o2")
TOTAL = sum(int(frame["x"].sum()) for frame in tables().values())
PATIENCE = 10.0
planner = make_planner()


class Parties:
    """Owners and a coordinator that can be killed and started again, an analyst, and a queue in place of lines."""

    def __init__(self, folder):
        self.folder = folder
        self.definition = Definition(SCHEMA, OWNERS, vs.Homomorphic(entry="rows", smudging_bits=40), dict.fromkeys(OWNERS, Policy().digest))
        hosts = LocalServers(self.definition, os.urandom)
        self.roster = hosts.roster
        self.members = {name: Member(identity, self.roster) for name, identity in hosts.identities.items()}
        self.now, self.reports, self.queue, self.agents, self.rounds = 0.0, [], [], {}, []
        self.dies = {}
        """Who dies before which round's first frame from it, or to it if it is the server, passes."""
        self.analyst = Analyst(self.members[ANALYST], self.definition, os.urandom)
        self.start(SERVER, *OWNERS)

    def start(self, *names):
        for name in names:
            make_private(self.folder / name)
            store = EpochStore(self.folder / name, study_digest(self.definition, self.roster))
            if name == SERVER:
                party = Coordinator(self.members[name], self.definition, planner, store)
                self.board = Switchboard(party, Patience(PATIENCE, self.clock), lambda *words: self.reports.append(words))
                self.opener = EpochOpener(self.board, self.clock)
                for owner in self.agents:
                    self.connect(owner)
                continue
            mandate = Mandate(Table(name, tables()[name], SCHEMA), Policy(), Ledger(None))
            self.agents[name] = EpochAgent(self.members[name], self.definition, planner, os.urandom, mandate, store)
            self.connect(name)

    def connect(self, owner):
        self.board.plug(owner, lambda frame: self.queue.append((owner, frame)))
        self.agents[owner].tell_wish()

    def kill(self, name):
        if name == SERVER:
            self.queue.clear()
            for agent in self.agents.values():
                agent.lost(Fault(QUORUM, "party_lost", "the line is over", (SERVER,)))
                agent.events()
            self.start(SERVER)
            return
        del self.agents[name]
        self.queue = [(recipient, frame) for recipient, frame in self.queue if recipient != name]
        self.board.unplug(name, "killed")

    def clock(self):
        return self.now

    def settle(self):
        """Deliver until nothing moves."""
        while True:
            for name in list(self.agents):
                for event in self.agents[name].events() if name in self.agents else ():
                    if not self.carry(name, event.frame):
                        break
            for event in self.analyst.events() if ANALYST in self.board.ports else ():
                self.board.take(ANALYST, event.frame)
            if not self.queue:
                return
            recipient, frame = self.queue.pop(0)
            if recipient == ANALYST:
                self.analyst.receive(frame)
            elif recipient in self.agents:
                self.agents[recipient].receive(frame)

    def carry(self, name, frame):
        """Whether the frame passed, and nobody died of it."""
        round_name = Envelope.decode(frame).round
        self.rounds.append(round_name)
        for victim in (name, SERVER):
            if self.dies.get(victim) == round_name:
                del self.dies[victim]
                self.kill(victim)
                return False
        self.board.take(name, frame)
        return True

    def pass_time(self, seconds):
        """As the processes' watches do, four times a second."""
        for _ in range(int(4 * seconds)):
            self.now += 0.25
            self.board.tick()
            self.opener.tick()
            self.settle()

    def ask_all(self):
        for agent in self.agents.values():
            agent.rejoin()
            agent.ask_for_key()
        self.settle()

    def sum(self):
        self.analyst = Analyst(self.members[ANALYST], self.definition, os.urandom)
        self.board.plug(ANALYST, lambda frame: self.queue.append((ANALYST, frame)))
        try:
            return Driver(make_plan(vs.Sum("x"), self.definition), self.analyst, self.settle, solve).run().estimate
        finally:
            self.board.unplug(ANALYST, "closed")
            self.settle()

    def events(self, name):
        return [words[1:] for words in self.reports if words[0] == name]


@pytest.fixture
def parties(tmp_path):  # not the ones that are fed by hand
    return Parties(tmp_path)


def test_a_key_is_made_when_the_last_owner_asks_and_not_before(parties):
    for owner in OWNERS[:2]:
        parties.agents[owner].ask_for_key()
    parties.pass_time(1)
    assert not parties.events("epoch")
    parties.agents["o2"].ask_for_key()
    parties.pass_time(1)
    assert len(parties.events("epoch_made")) == 1
    assert parties.board.party.root is None
    assert parties.sum() == TOTAL
    parties.pass_time(2 * PAUSE)
    assert len(parties.events("epoch")) == 1


def test_an_owner_that_repeats_anothers_old_word_wastes_nobodys_attempt(parties):
    old = parties.agents["o1"]
    old.ask_for_key()
    [word] = [event.frame for event in old.events() if Envelope.decode(event.frame).payload]
    parties.ask_all()
    parties.board.take("o0", word)
    assert parties.reports[-1] == ("rejected", "o0", "unexpected_sender")
    parties.pass_time(1)
    assert len(parties.events("epoch")) == len(parties.events("epoch_made")) == 1


@pytest.mark.parametrize("victim", ["o1", SERVER])
@pytest.mark.parametrize("round_name", ["epoch_commit", "epoch_reveal", "epoch_upload/0", "epoch_keep/0"])
def test_whoever_dies_while_a_key_is_made_the_former_one_answers_or_none_and_another_one_is_made_by_itself(parties, victim, round_name):
    parties.ask_all()
    parties.pass_time(1)
    parties.dies = {victim: round_name}
    parties.ask_all()
    parties.pass_time(PAUSE)
    assert not parties.dies
    if victim == "o1":
        assert [code for _, code in parties.events("epoch_failed")] == ["quorum_lost"]
        parties.start("o1")
        parties.settle()
        if round_name == "epoch_keep/0":
            with pytest.raises((vs.CapabilityError, vs.ProtocolViolation)) as error:
                parties.sum()
            assert error.value.code in ("no_epoch", "epoch_differs")
        else:
            assert parties.sum() == TOTAL
    parties.pass_time(PAUSE)
    assert len(parties.events("epoch_made")) == 2
    assert parties.sum() == TOTAL
    parties.pass_time(2 * PAUSE)
    assert len(parties.events("epoch_made")) == 2


def test_an_owner_that_falls_silent_is_waited_for_as_long_as_the_study_says(parties):
    parties.ask_all()
    take, parties.board.take = parties.board.take, lambda name, frame: None if name == "o1" else take(name, frame)
    parties.pass_time(1)
    assert parties.board.party.is_making_key
    parties.pass_time(PATIENCE)
    assert parties.events("epoch_failed") == [("o1", "quorum_lost")]


def test_keys_wait_for_the_analyst_to_leave_and_an_analyst_for_a_key(parties):
    parties.ask_all()
    parties.board.plug(ANALYST, lambda frame: None)
    parties.pass_time(1)
    assert not parties.events("epoch")
    parties.board.unplug(ANALYST, "closed")
    parties.now += 0.25
    parties.opener.tick()
    parties.board.plug(ANALYST, lambda frame: None)
    parties.board.unplug(ANALYST, "closed")
    assert parties.board.party.is_making_key
    with pytest.raises(vs.QuorumLost) as error:
        parties.sum()
    assert error.value.code == "epoch_running"
    parties.settle()
    assert parties.sum() == TOTAL


def test_what_was_asked_for_while_a_key_was_made_is_made_though_no_owner_says_so(parties):
    """Else a coordinator that has the key before owners have heard so would begin another one."""
    take = parties.board.take
    parties.ask_all()
    parties.board.take = lambda name, frame: None if Envelope.decode(frame).payload == b"" else take(name, frame)
    parties.pass_time(2 * PAUSE)
    assert len(parties.events("epoch")) == 1
