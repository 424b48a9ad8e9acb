"""The coordinator's switchboard by itself: who is connected, who is awaited, and where frames go."""

import os

import pytest

import veilstat as vs
from tests.deployments import OWNERS, SCHEMA
from veilstat.platform.analyst import Analyst
from veilstat.platform.compute_hosts import LocalServers
from veilstat.platform.coordinator import Coordinator
from veilstat.platform.definition import Definition
from veilstat.platform.deployment.owner_lines import _check
from veilstat.platform.deployment.patience import Patience
from veilstat.platform.deployment.switchboard import Switchboard
from veilstat.platform.plan import make_plan
from veilstat.platform.planner import make_planner
from veilstat.platform.policy import Policy
from veilstat.protocol.envelope import NO_STEP, Envelope, seal
from veilstat.protocol.faults import ProtocolError
from veilstat.protocol.member import Member
from veilstat.protocol.session import decode_fault
from veilstat.transports.stream import VERSION, Greeting


class Parties:
    """A coordinator on a switchboard, with lists in place of lines."""

    def __init__(self, folder):
        (folder / "schema.toml").write_text(SCHEMA)
        schema = vs.Schema.from_toml(folder / "schema.toml")
        self.definition = Definition(schema, OWNERS, vs.Masking(colluding=0), dict.fromkeys(OWNERS, Policy().digest))
        self.hosts = LocalServers(self.definition, os.urandom)
        identities, self.roster = self.hosts.identities, self.hosts.roster
        self.now, self.reports, self.heard = 0.0, [], {}
        party = Coordinator(Member(identities["server"], self.roster), self.definition, make_planner())
        self.board = Switchboard(party, Patience(10, lambda: self.now), lambda *words: self.reports.append(words))
        self.analyst = Analyst(Member(identities["analyst"], self.roster), self.definition, os.urandom)

    def plug(self, *names):
        for name in names:
            self.heard[name] = []
            self.board.plug(name, self.heard[name].append)

    def propose(self):
        self.analyst.propose(make_plan(vs.Mean("bp"), self.definition))
        for event in self.analyst.events():
            self.board.take("analyst", event.frame)

    def approve(self, owner):
        from veilstat.platform.messages import Approval, encode

        for frame in seal(self.hosts.identities[owner], self.analyst.root, NO_STEP, "approve", "server", encode(Approval([]))):
            self.board.take(owner, frame)

    def rounds(self, name):
        return [Envelope.decode(frame).round for frame in self.heard[name]]


@pytest.fixture
def parties(tmp_path):
    return Parties(tmp_path)


def test_a_round_closes_as_soon_as_nobody_who_could_still_speak_is_missing(parties):
    parties.plug("analyst", *OWNERS)
    parties.propose()
    parties.approve("north")
    parties.approve("south")
    assert parties.rounds("analyst") == []
    parties.board.unplug("west", "its node was killed")
    assert parties.rounds("analyst") == ["approve"]
    assert ("lost", "west", "its node was killed") in parties.reports


def test_who_comes_back_in_the_middle_of_a_query_hears_nothing_of_it_and_is_not_awaited(parties):
    parties.plug("analyst", *OWNERS)
    parties.propose()
    parties.board.unplug("west", "cut")
    parties.plug("west")
    parties.approve("north")
    parties.approve("south")
    assert parties.rounds("analyst") == ["approve"]
    assert parties.rounds("west") == []
    parties.propose()
    assert parties.rounds("west") == ["propose"]


def test_the_silent_are_awaited_as_long_as_patience_lasts(parties):
    parties.plug("analyst", *OWNERS)
    parties.propose()
    parties.board.tick()
    parties.approve("north")
    parties.approve("south")
    parties.now = 9.9
    parties.board.tick()
    assert parties.rounds("analyst") == []
    parties.now = 10.0
    parties.board.tick()
    assert parties.rounds("analyst") == ["approve"]


def test_without_enough_owners_a_query_ends_at_once(parties):
    parties.plug("analyst", "north")
    parties.propose()
    parties.approve("north")
    (frame,) = parties.heard["analyst"]
    assert decode_fault(Envelope.decode(frame).payload, "server").code == "quorum_lost"


def test_an_analyst_who_leaves_ends_the_query_for_everybody(parties):
    parties.plug("analyst", *OWNERS)
    parties.propose()
    parties.board.unplug("analyst", "closed")
    assert parties.rounds("north") == ["propose", "abort"]
    assert parties.board.party.root is None


def test_what_nobody_can_read_goes_nowhere_and_is_noted(parties):
    parties.plug("analyst", *OWNERS)
    parties.board.take("north", b"x" * 300)
    assert parties.heard == {"analyst": [], "north": [], "south": [], "west": []}
    assert parties.reports[-1] == ("unreadable", "north", "malformed")


def test_a_line_that_leads_elsewhere_or_to_another_version_is_refused_by_name(parties):
    digest = parties.roster.digest
    _check("north", Greeting(VERSION, vs.__version__, "north", digest).encode(), digest)
    for greeting, words in (
        (Greeting(VERSION, "9.9.9", "north", digest).encode(), f"runs veilstat 9.9.9 .* this is veilstat {vs.__version__}"),
        (Greeting(VERSION + 1, vs.__version__, "north", digest).encode(), "install the same version"),
        (Greeting(VERSION, vs.__version__, "south", digest).encode(), "the agent of 'south'"),
        (Greeting(VERSION, vs.__version__, "north", bytes(32)).encode(), "another roster"),
        (b"\xc1", "could not be read"),
    ):
        with pytest.raises(ProtocolError, match=words):
            _check("north", greeting, digest)
