"""A deployment's parties, from their files, in one process: the real switchboard, lists in place of lines, and whoever is asked meddles with every frame.

There is no clock: where nothing moves any more, what is awaited expires, the coordinator's rounds first and the analyst's last, and then what is late arrives.
"""

from collections import deque
from datetime import UTC, datetime

import veilstat as vs
from tests.test_owner_agent import analyst
from veilstat.platform.coordinator import Coordinator
from veilstat.platform.deployment.approvals import Approvals
from veilstat.platform.deployment.journal import Journal
from veilstat.platform.deployment.owner import make_agent
from veilstat.platform.deployment.owner_file import load_owner
from veilstat.platform.deployment.patience import Patience
from veilstat.platform.deployment.switchboard import Switchboard
from veilstat.platform.driver import Driver
from veilstat.platform.identity_file import read_identity
from veilstat.platform.plan import make_plan
from veilstat.platform.planner import make_planner
from veilstat.platform.policy import Policy
from veilstat.platform.server import compute_server
from veilstat.platform.server_file import load_server
from veilstat.protocol.envelope import NO_STEP, Envelope, seal
from veilstat.protocol.faults import QUORUM, Fault
from veilstat.protocol.member import Member
from veilstat.statistics.solve import solve

MOST_EXPIRED = 200
"""How many waits may end in vain in one query, before it is called a hang."""


def now():
    return datetime(2026, 1, 2, tzinfo=UTC)


class Wires:
    """Every frame on a line between two parties passes ``carry(origin, target, envelope)``, which gives the frames that arrive, in order."""

    def __init__(self, deployment):
        self.folder = deployment.folder
        self.analyst = analyst(deployment)
        self.roster, self.definition = self.analyst.roster, self.analyst.definition
        self.identity = read_identity(self.folder / "private/server.pem", "server", self.roster.keys["server"])
        self.carry = lambda origin, target, envelope: [envelope.frame]
        self.lines, self.late, self.moved, self.expired = deque(), [], 0, 0
        self.parties = {"analyst": self.analyst}
        self.start_coordinator()
        for name in self.definition.roles:
            if name not in ("analyst", "server"):
                self.start(name)

    def start_coordinator(self):
        party = Coordinator(Member(self.identity, self.roster), self.definition, make_planner())
        self.reports = []
        self.board = Switchboard(party, Patience(1, lambda: 0.0), lambda *words: self.reports.append(words))
        for name in self.parties:
            self.plug(name)

    def start(self, name):
        """A party that remembers what its files do, and its line."""
        self.parties[name] = self.compute_server(name) if name in self.definition.servers else self.agent(name)
        self.plug(name)

    def plug(self, name):
        self.board.plug(name, lambda frame: self.lines.append(("server", name, frame)))

    def agent(self, name):
        config = load_owner(self.folder / f"{name}.toml")
        approvals = Approvals(config.state / "approvals.json", lambda statistic: False, now)
        return make_agent(config, Policy(), approvals, Journal(config.state / "owner.log", now))

    def compute_server(self, name):
        config = load_server(self.folder / f"{name}.toml")
        member = Member(read_identity(config.identity, name, self.roster.keys[name]), self.roster)
        return compute_server(member, self.definition, config)

    def lose_line(self, name):
        """The line between a party and the coordinator breaks; both notice."""
        self._forget_frames(name, "server")
        self.board.unplug(name, "lost")
        self.parties[name].lost(lost("server"))

    def kill(self, name):
        """A party's process is gone; whoever has a connection to it notices."""
        self._forget_frames(name, *self.parties)
        self.parties.pop(name)
        self.board.unplug(name, "killed")
        for server in set(self.definition.servers) & set(self.parties):
            self.parties[server].lost(lost(name))

    def kill_coordinator(self):
        """The coordinator's process, with the gateway, is replaced by another one."""
        for name in list(self.parties):
            self._forget_frames(name, "server")
            self.parties[name].lost(lost("server"))
        self.start_coordinator()
        raise vs.QuorumLost("the gateway is gone", code="gateway_lost")

    def _forget_frames(self, name, *others):
        self.lines = deque(line for line in self.lines if not {line[0], line[1]} <= {name, "server", *others} or name not in line[:2])

    def ask(self, query):
        """The answer, or what the analyst is told."""
        self.moved, self.expired = 0, 0
        driver = Driver(make_plan(query, self.definition), self.analyst, self.settle, solve)
        try:
            return driver.run()
        finally:
            self.contributors = driver.contributors
            self.lines.clear()
            self.board.unplug("analyst", "closed")
            self.plug("analyst")
            self.settle()

    def share_rows(self):
        """What every owner does once with `veilstat rows share`."""
        for name in self.definition.owners:
            for begin in (self.parties[name].ask_versions, self.parties[name].offer_rows):
                begin()
                self.settle()

    def sign(self, envelope, round_name, payload):
        """The coordinator's own words, to the recipient of another frame."""
        return list(seal(self.identity, envelope.root, NO_STEP, round_name, envelope.recipient, payload))

    def codes(self, name):
        """What a party refused, and what ended its query."""
        party = self.parties[name]
        fault = getattr(party, "fault", None)
        return {entry.code for entry in party.rejected} | ({fault.code} if fault else set())

    def settle(self):
        """Move frames until nobody says anything, and let waits expire."""
        while True:
            self._hear()
            while self.lines:
                origin, target, frame = self.lines.popleft()
                for given in self.carry(origin, target, Envelope.decode(frame)):
                    self.deliver(origin, target, given)
            if not self._expire():
                return
            self.lines.extend(self.late)
            self.late.clear()

    def deliver(self, origin, target, frame):
        """Hand over one frame, and take what is said to it."""
        self.moved += 1
        if target == "server":
            self.board.take(origin, frame)
        elif target in self.parties:
            self.parties[target].receive(frame, origin)
        self._hear()

    def _hear(self):
        for name, party in self.parties.items():
            for event in party.events():
                is_direct = {name, event.recipient} <= set(self.definition.servers)
                if is_direct or name in self.board.ports:
                    self.lines.append((name, event.recipient if is_direct else "server", event.frame))

    def _expire(self):
        tiers = (("server",), self.definition.servers, self.definition.owners, ("analyst",))
        everybody = {**self.parties, "server": self.board.party}
        for tier in tiers:
            waiting = [everybody[name] for name in tier if name in everybody and everybody[name].waiting]
            if waiting:
                self.expired += 1
                assert self.expired < MOST_EXPIRED, "the query hangs"
                min(waiting, key=lambda party: party.stage).expire()
                self.board._settle()
                return True
        return False


def lost(name):
    return Fault(QUORUM, "party_lost", f"the connection to {name!r} is over, and with it the query", (name,))
