"""A deployment's owners and analyst, with their files, in the hands of a coordinator that deviates: it has the server's key and carries every frame."""

from datetime import UTC, datetime

from tests.deployments import OWNERS, Deployment
from tests.test_owner_agent import analyst
from veilstat.platform.coordinator import Coordinator
from veilstat.platform.deployment.approvals import Approvals
from veilstat.platform.deployment.journal import Journal
from veilstat.platform.deployment.owner import make_agent
from veilstat.platform.deployment.owner_file import load_owner
from veilstat.platform.driver import Driver
from veilstat.platform.identity_file import read_identity
from veilstat.platform.plan import make_plan
from veilstat.platform.planner import make_planner
from veilstat.platform.policy import Policy
from veilstat.protocol.envelope import Envelope, seal
from veilstat.protocol.member import Member
from veilstat.statistics.solve import solve


def now():
    return datetime(2026, 1, 2, tzinfo=UTC)


class Head:
    """Does what the coordinator does, except where ``carry`` says otherwise, which is given every frame before its recipient is, or ``hear``, what owners say."""

    def __init__(self, folder, architecture="masking", options="colluding = 0"):
        self.folder = Deployment(folder, architecture, options).folder
        self.agents = {name: self.wake(name) for name in OWNERS}
        self.analyst = analyst(self)
        roster = self.analyst.roster
        self.identity = read_identity(folder / "private/server.pem", "server", roster.keys["server"])
        self.coordinator = Coordinator(Member(self.identity, roster), self.analyst.definition, make_planner())
        self.carry = lambda recipient, envelope: [envelope.frame]
        self.hear = self.coordinator.receive
        self.carried, self.said = [], []

    def wake(self, name):
        """An owner's agent, with what its files remember."""
        config = load_owner(self.folder / f"{name}.toml")
        journal = Journal(config.state / "owner.log", now)
        return make_agent(config, Policy(), Approvals(config.state / "approvals.json", lambda statistic: False, now), journal)

    def ask(self, query):
        """The answer, or what the analyst is told."""
        driver = Driver(make_plan(query, self.analyst.definition), self.analyst, self.settle, solve)
        result = driver.run()
        self.contributors = driver.contributors
        return result

    def sign(self, envelope, payload):
        """Other words in the place of the coordinator's own."""
        return list(seal(self.identity, envelope.root, envelope.step, envelope.round, envelope.recipient, payload))

    def codes(self, name):
        """What an agent refused, and what ended its query."""
        agent = self.agents[name]
        return {fault.code for fault in agent.rejected} | ({agent.fault.code} if agent.fault else set())

    def rounds(self, name):
        """The rounds of what an owner said, in order."""
        return [envelope.round for envelope in map(Envelope.decode, self.said) if envelope.sender == name]

    def settle(self):
        """Carry frames until nobody says anything, and let waits expire."""
        parties = (self.coordinator, *self.agents.values(), self.analyst)
        while self._pump() or self._expire(parties):
            pass

    def _expire(self, parties):
        waiting = next((party for party in parties if party.waiting), None)
        if waiting is not None:
            waiting.expire()
        return waiting is not None

    def _pump(self):
        moved = False
        for event in self.analyst.events():
            moved = True
            self.coordinator.receive(event.frame)
        for event in self.coordinator.events():
            moved = True
            for recipient in OWNERS if event.recipient == "parties" else (event.recipient,):
                for frame in self.carry(recipient, Envelope.decode(event.frame)):
                    self.deliver(recipient, frame)
        return moved

    def deliver(self, recipient, frame):
        """Hand a frame to an owner or the analyst, and take what an owner answers."""
        self.carried.append((recipient, frame))
        if recipient == "analyst":
            self.analyst.receive(frame)
            return
        self.agents[recipient].receive(frame)
        for event in self.agents[recipient].events():
            self.said.append(event.frame)
            self.hear(event.frame)
