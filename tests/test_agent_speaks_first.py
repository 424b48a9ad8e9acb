"""An agent that begins something says so on every connection, and goes on with the one that brings a signed answer."""

import asyncio
from datetime import UTC, datetime

import pytest

import veilstat as vs
from tests.test_uploads_over_switchboard import Parties
from veilstat.platform.deployment.journal import Journal
from veilstat.platform.deployment.owner import AgentHost
from veilstat.platform.deployment.patience import Patience
from veilstat.platform.deployment.shared_rows import SharedRows
from veilstat.platform.policy_file import PolicyFile
from veilstat.protocol.envelope import Envelope
from veilstat.protocol.faults import QUORUM, Fault
from veilstat.protocol.session import Send
from veilstat.transports.stream import dial, listen


class Connection:
    """One end of a connection to the agent, which is also the party behind it."""

    def __init__(self):
        self.inbox, self.sent, self.rounds = asyncio.Queue(), [], []

    def send(self, frame):
        self.sent.append(frame)

    async def receive(self):
        frame = await self.inbox.get()
        if frame is None:
            raise EOFError
        return frame

    async def flush(self):
        pass

    def close(self):
        pass

    def events(self):
        sent, self.sent = self.sent, []
        frames = [frame for frame in sent if len(frame) > 200]
        self.rounds += [Envelope.decode(frame).round for frame in frames]
        return [Send("", frame) for frame in frames]

    def receive_frame(self, frame):
        self.inbox.put_nowait(frame)


class Far:
    """In the agent's place on the switchboard: what stands behind the line to it."""

    def __init__(self, connection):
        self.receive, self.events = connection.receive_frame, connection.events


class Host:
    """North's agent on its host, with the coordinator's connection and a stranger's."""

    def __init__(self, folder):
        self.parties = Parties(folder)
        self.agent = self.parties.agents["north"]
        self.now = 0.0
        journal = Journal(folder / "owner.log", lambda: datetime(2026, 1, 2, tzinfo=UTC))
        self.host = AgentHost(self.agent, journal, Patience(10, lambda: self.now))
        self.near, self.stranger = Connection(), Connection()
        self.parties.machines["north"] = Far(self.near)
        self.rows = SharedRows(self.agent, self.host.settle, PolicyFile(self.agent.policy))
        self.heard = []

    async def run(self, *acts):
        serving = [asyncio.create_task(self.host.serve(stream)) for stream in (self.stranger, self.near)]
        pump = asyncio.create_task(self.pump())
        await asyncio.sleep(0.01)
        try:
            async with asyncio.timeout(20):
                for act in acts:
                    await act(self)
        finally:
            for task in (pump, *serving):
                task.cancel()
            await asyncio.gather(pump, *serving, return_exceptions=True)

    async def pump(self):
        while True:
            self.parties.settle()
            await asyncio.sleep(0)

    async def share(self):
        await self.rows.share(self.heard.append)


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def test_a_stranger_on_the_socket_hears_what_begins_and_no_share(host):
    asyncio.run(host.run(Host.share, Host.share))
    assert host.parties.versions("north") == [2, 2, 2]
    host.stranger.events()
    assert set(host.stranger.rounds) == {"ask", "offer"}
    assert {"plane/0", "commit"} <= set(host.near.rounds)


def test_a_stranger_that_spoke_last_does_not_swallow_what_the_agent_begins(host):
    async def replay_an_old_end(host):
        for frame in host.parties.board.party.refusal("north", bytes(32), Fault(QUORUM, "party_lost", "long ago", ("compute1",))):
            host.stranger.receive_frame(frame)
        await asyncio.sleep(0.01)

    asyncio.run(host.run(replay_an_old_end, Host.share))
    assert host.parties.versions("north") == [1, 1, 1]


def test_when_the_last_connection_ends_so_does_what_waits_for_it(host):
    async def share_and_leave(host):
        host.parties.lose = lambda number, recipient, frame: Envelope.decode(frame).round == "held"
        sharing = asyncio.create_task(host.share())
        await asyncio.sleep(0.05)
        assert not sharing.done()
        for stream in (host.stranger, host.near):
            stream.receive_frame(None)
        with pytest.raises(vs.QuorumLost) as error:
            await sharing
        assert error.value.code == "party_lost"
        with pytest.raises(vs.QuorumLost) as error:
            await host.share()
        assert error.value.code == "coordinator_lost"

    asyncio.run(host.run(share_and_leave))


def test_an_agent_ends_although_nobody_reads_what_it_sends(host, tmp_path):
    async def end():
        async with asyncio.TaskGroup() as group:
            arrived = []

            def serve(stream):
                arrived.append(stream)
                group.create_task(host.host.serve(stream))

            listener = await listen(tmp_path / "agent.sock", serve)
            deaf = await dial(str(tmp_path / "agent.sock"))
            await deaf.receive()
            arrived[0].send(bytes(1 << 26))
            listener.close()
            host.host.close()
        deaf.close()

    asyncio.run(asyncio.wait_for(end(), 10))
