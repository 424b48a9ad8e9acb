"""An owner's agent as a process, spoken to directly: it answers signed words once, survives anything else, and says no value."""

import os
import socket
import stat
import sys
import time

import pytest

import veilstat as vs
from tests.deployments import OWNERS, SCHEMA, SECRET, TABLES, Deployment, veilstat
from veilstat.platform.analyst import Analyst
from veilstat.platform.definition import Definition
from veilstat.platform.deployment.owner import run_owner
from veilstat.platform.identity_file import read_identity
from veilstat.platform.roster_file import read_roster
from veilstat.platform.study_file import load_definition
from veilstat.protocol.envelope import LARGEST_FRAME, NO_STEP, Envelope, seal
from veilstat.protocol.member import Member
from veilstat.protocol.session import decode_fault
from veilstat.transports.stream import Greeting


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    its = Deployment(tmp_path_factory.mktemp("study"))
    its.start("north")
    yield its
    for name in list(its.processes):
        its.kill(name)


@pytest.fixture
def call(deployment):
    """Connects to the agent as often as a test wants."""
    callers = []

    def connect():
        callers.append(Caller(deployment))
        return callers[-1]

    yield connect
    for caller in callers:
        caller.socket.close()


class Caller:
    """A process with the relay's account."""

    def __init__(self, deployment, place="north"):
        path, deadline = deployment.folder / place / "agent.sock", time.monotonic() + 90
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            if self.socket.connect_ex(str(path)) == 0:
                break
            assert time.monotonic() < deadline, deployment.errors()
            self.socket.close()
            time.sleep(0.05)
        self.socket.settimeout(10)
        self.greeting = Greeting.decode(self.hear(), vs.__version__)

    def say(self, *frames):
        for frame in frames:
            self.socket.sendall(len(frame).to_bytes(4, "little") + frame)

    def hear(self):
        head = self.read(4)
        return None if head is None else self.read(int.from_bytes(head, "little"))

    def read(self, count):
        found = b""
        while len(found) < count:
            try:
                more = self.socket.recv(count - len(found))
            except ConnectionResetError:
                return None
            if not more:
                return None
            found += more
        return found

    def hears_nothing(self):
        self.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            self.hear()
        self.socket.settimeout(10)


def analyst(deployment, definition=None, name="analyst"):
    roster = read_roster(deployment.folder / "private/roster.toml").roster
    identity = read_identity(deployment.folder / f"private/{name}.pem", name, roster.keys[name])
    return Analyst(Member(identity, roster), definition or load_definition(deployment.folder / "study.toml"), os.urandom)


def proposal(party, query=None):
    from veilstat.platform.plan import make_plan

    party.propose(make_plan(query or vs.Mean("bp"), party.definition))
    return [event.frame for event in party.events()]


def test_it_answers_a_query_once_and_never_again_even_after_it_was_killed(deployment, call):
    caller, frames = call(), proposal(analyst(deployment))
    assert caller.greeting.party == "north"
    caller.say(*frames)
    assert Envelope.decode(caller.hear()).round == "approve"
    caller.say(*frames)
    caller.hears_nothing()
    deployment.kill("north")
    deployment.start("north")
    caller = call()
    caller.say(*frames)
    caller.hears_nothing()
    caller.say(*proposal(analyst(deployment)))
    assert Envelope.decode(caller.hear()).round == "approve"
    assert [entry["code"] for entry in deployment.log("north") if entry["event"] == "rejected"] == ["already_answered"] * 2


@pytest.mark.parametrize("words", [b"GET / HTTP/1.1", b"", bytes(200), (1 << 31).to_bytes(4, "little")])
def test_what_is_no_frame_ends_its_connection_and_nothing_else(deployment, call, words):
    bystander, caller = call(), call()
    if len(words) == 4:
        caller.socket.sendall(words)
    else:
        caller.say(words)
    assert caller.hear() is None
    bystander.say(*proposal(analyst(deployment)))
    assert Envelope.decode(bystander.hear()).round == "approve"


def test_a_length_above_the_limit_is_refused_before_anything_is_kept_for_it(deployment, call):
    caller = call()
    caller.socket.sendall((LARGEST_FRAME + 1).to_bytes(4, "little"))
    assert caller.hear() is None


def test_a_query_whose_plan_is_another_here_is_refused(deployment, call):
    theirs = load_definition(deployment.folder / "study.toml")
    other = Definition(vs.Schema(*theirs.schema, max_rows=999), theirs.owners, theirs.architecture, theirs.policies)
    caller = call()
    caller.say(*proposal(analyst(deployment, other)))
    answer = Envelope.decode(caller.hear())
    assert decode_fault(answer.payload, "north").code == "plan_differs"


def test_a_query_of_another_study_is_not_heard(deployment, call, tmp_path):
    """Whose parties have the same names; its roster has other keys."""
    caller = call()
    caller.say(*proposal(analyst(Deployment(tmp_path))))
    caller.hears_nothing()
    assert deployment.log("north")[-1]["code"] == "bad_signature"


def test_nobody_speaks_for_the_analyst(deployment, call):
    caller, party = call(), analyst(deployment)
    (frame,) = proposal(party)
    payload = bytes(Envelope.decode(frame).payload)
    server = analyst(deployment, name="server").identity
    caller.say(*seal(server, party.root, NO_STEP, "propose", "parties", payload))
    caller.hears_nothing()
    caller.say(frame[:-1] + bytes((frame[-1] ^ 1,)))
    caller.hears_nothing()


def test_its_files_are_its_account_s_alone(deployment, call):
    call()
    for name in ("agent.sock", "approvals.sock", "owner.log", "sessions", "openings", "ledger"):
        assert stat.S_IMODE((deployment.folder / "north" / name).stat().st_mode) == 0o600, name


def test_a_second_agent_does_not_take_the_socket_over(deployment, call):
    call()
    second = veilstat(deployment.folder, "owner", "--config", "north.toml")
    assert second.returncode == 1
    assert "cannot_listen" in second.stderr
    assert call().greeting.party == "north"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda folder: (folder / "south").chmod(0o755), "readable_by_others"),
        (lambda folder: (folder / "private/south.pem").chmod(0o644), "key_readable_by_others"),
        (lambda folder: (folder / "south.csv").unlink(), "no_file"),
        (lambda folder: (folder / "south/sessions").write_text("zz\n"), "record_damaged"),
        (lambda folder: edit(folder, 'state = "south"', 'state = "south"\npolicy = "south-policy.toml"'), "policy_differs"),
        (lambda folder: edit(folder, "[table]", "[tables]"), "unknown_key"),
    ],
)
def test_it_does_not_start_where_something_is_amiss(tmp_path, monkeypatch, change, code):
    folder = Deployment(tmp_path).folder
    (folder / "south-policy.toml").write_text("most_openings = 3\n")
    change(folder)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    with pytest.raises(vs.VeilstatError) as refused:
        run_owner(folder / "south.toml")
    assert refused.value.code == code


def edit(folder, before, after):
    path = folder / "south.toml"
    path.write_text(path.read_text().replace(before, after))


def test_owners_and_schema_of_the_tests_are_as_they_say():
    assert set(OWNERS) == set(TABLES)
    assert str(SECRET) not in SCHEMA
