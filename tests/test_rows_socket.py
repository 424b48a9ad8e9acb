"""What an owner's person says to the agent about rows: three verbs, one at a time, over a socket that no other account may use."""

import asyncio
import errno
import json
import os
import socket
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

import veilstat as vs
from veilstat.platform.deployment import approvals_socket
from veilstat.platform.deployment.approvals import Approvals, Entry, Verdict
from veilstat.platform.deployment.approvals_socket import Command, answer_person, ask_agent, send_errand
from veilstat.platform.deployment.journal import Journal
from veilstat.platform.deployment.rows import RowsErrands, StaysHere
from veilstat.platform.policy_file import load_policy
from veilstat.transports.stream import listen

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Slow:
    """Rows that take as long to share as a test wants."""

    def __init__(self):
        self.began, self.go_on = threading.Event(), threading.Event()

    async def share(self, say):
        say("half")
        self.began.set()
        deadline = time.monotonic() + 10
        while not self.go_on.is_set():
            if time.monotonic() > deadline:
                raise TimeoutError
            await asyncio.sleep(0.01)
        say("whole")

    async def show(self, say):
        say("x" * 100_000)

    async def withdraw(self, say):
        raise vs.SchemaError("nothing is held", code="upload_unknown", culprits=("north",))


class Agents:
    """The person's side of an agent, in a thread."""

    def __init__(self, folder, rows):
        self.path, self.journal = folder / "approvals.sock", Journal(folder / "owner.log", lambda: NOW)
        self.rows = rows
        self.approvals = Approvals(folder / "approvals.json", lambda name: False, lambda: NOW)
        self.ready = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.serve()))

    async def serve(self):
        self.loop, self.over = asyncio.get_running_loop(), asyncio.Event()
        errands = RowsErrands(self.rows, self.journal)
        async with asyncio.TaskGroup() as group:
            server = await listen(self.path, lambda stream: group.create_task(answer_person(stream, self.approvals, errands, self.journal)))
            self.ready.set()
            await self.over.wait()
            server.close()

    def __enter__(self):
        self.thread.start()
        self.ready.wait(10)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join(10)

    def events(self):
        return [(entry["event"], entry.get("code")) for entry in map(json.loads, self.journal.path.read_text().splitlines())]


@pytest.fixture
def slow(tmp_path):
    its = Slow()
    with Agents(tmp_path, its) as agents:
        yield agents
        its.go_on.set()


def errand(agents, verb):
    heard = []
    send_errand(str(agents.path), verb, heard.append)
    return heard


def refused(agents, verb):
    with pytest.raises(vs.VeilstatError) as error:
        errand(agents, verb)
    return type(error.value), error.value.code


def test_a_person_reads_along_and_a_second_command_is_refused_meanwhile(slow):
    heard = []
    first = threading.Thread(target=send_errand, args=(str(slow.path), "share", heard.append))
    first.start()
    assert slow.rows.began.wait(10)
    assert [refused(slow, verb) for verb in ("share", "show", "withdraw")] == [(vs.QuorumLost, "rows_busy")] * 3
    slow.rows.go_on.set()
    first.join(10)
    assert heard == ["half", "whole"]
    assert errand(slow, "show") == ["x" * 100_000]
    assert slow.events() == [("rows_share", ""), ("rows_show", "")]


def test_who_leaves_does_not_end_what_was_begun(slow):
    with socket.socket(socket.AF_UNIX) as its:
        its.connect(str(slow.path))
        words = json.dumps({"verb": "rows share"}).encode()
        its.sendall(len(words).to_bytes(4, "little") + words)
        assert slow.rows.began.wait(10)
    assert refused(slow, "show")[1] == "rows_busy"
    slow.rows.go_on.set()
    deadline = time.monotonic() + 10
    while ("rows_share", "") not in slow.events():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert errand(slow, "show")


def test_what_went_wrong_arrives_as_the_same_error(slow):
    assert refused(slow, "withdraw") == (vs.SchemaError, "upload_unknown")
    assert slow.events() == [("rows_withdraw", "upload_unknown")]


@pytest.mark.parametrize(
    "words",
    [b'{"verb": "rows steal"}', b'{"verb": "rows"}', b'{"verb": "rows share "}', b'{"verb": 3}', b'{"rows": "share"}', b"\xff", b""],
)
def test_what_is_no_verb_does_nothing(slow, words):
    with socket.socket(socket.AF_UNIX) as its:
        its.settimeout(10)
        its.connect(str(slow.path))
        its.sendall(len(words).to_bytes(4, "little") + words)
        answer = its.makefile("rb").read()
    assert not answer or "rows share, rows show, rows withdraw" in json.loads(answer[4:])["error"]
    assert not slow.rows.began.is_set()
    assert slow.events() in ([], [("approval_unreadable", None)])


def test_who_takes_no_answer_keeps_no_agent_from_ending(tmp_path, monkeypatch):
    monkeypatch.setattr(approvals_socket, "_TAKEN_WITHIN", 0.2)
    (tmp_path / "approvals.json").write_bytes(msgspec.json.encode([Entry("d" * 64, "mean", "x" * (1 << 22), "now")]))
    with socket.socket(socket.AF_UNIX) as its, Agents(tmp_path, StaysHere()) as agents:
        its.connect(str(agents.path))
        words = json.dumps({"verb": "list"}).encode()
        its.sendall(len(words).to_bytes(4, "little") + words)
        assert its.recv(1)
    assert not agents.thread.is_alive()
    assert agents.events() == []


def test_a_decision_that_the_disk_does_not_take_is_said_to_the_person(tmp_path, monkeypatch):
    def is_full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "approvals.json").write_bytes(msgspec.json.encode([Entry("d" * 64, "mean", "a plan", "now")]))
    with Agents(tmp_path, StaysHere()) as agents:
        monkeypatch.setattr("veilstat.platform.deployment.approvals.replace_file", is_full)
        with pytest.raises(vs.VeilstatError, match="No space left") as error:
            ask_agent(str(agents.path), Command("grant", "d"))
        assert error.value.code == "approval_refused"
        assert [entry.verdict for entry in ask_agent(str(agents.path), Command("list"))] == [Verdict.PENDING]
    assert agents.events() == []


def connects(path, account):
    """What happens to a process of another account."""
    child = os.fork()
    if child == 0:
        os.setuid(account)
        with socket.socket(socket.AF_UNIX) as its:
            os._exit(its.connect_ex(str(path)))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_another_account_is_not_let_in():
    if os.getuid() != 0:
        pytest.skip("only root can try as another account")
    with tempfile.TemporaryDirectory() as folder, Agents(Path(folder), StaysHere()) as agents:
        agents.path.parent.chmod(0o711)
        assert connects(agents.path, os.getuid()) == 0
        assert connects(agents.path, 65534) == errno.EACCES


def test_where_no_agent_runs_the_command_says_so(tmp_path):
    with pytest.raises(vs.CapabilityError) as error:
        send_errand(str(tmp_path / "nobody.sock"), "share", print)
    assert error.value.code == "agent_unreachable"


def test_where_rows_stay_with_their_owner_there_is_nothing_to_share(tmp_path):
    with Agents(tmp_path, StaysHere()) as agents:
        for verb in ("share", "show", "withdraw"):
            assert refused(agents, verb) == (vs.CapabilityError, "no_uploads")


@pytest.mark.parametrize(
    ("text", "alone"), [("", True), ("approval = []", True), ('approval = ["mean"]', False), ('approval = "all"', False)]
)
def test_a_policy_says_whether_it_can_do_without_its_person(tmp_path, text, alone):
    (tmp_path / "policy.toml").write_text(text)
    policy = load_policy(tmp_path / "policy.toml")
    assert policy.is_unattended is alone
    assert policy.needs_person("mean") is not alone
