"""Processes die in every round, freeze, and come back: never a wrong answer, never a wait without end, and the next query works."""

import os
import re
import signal
import socket
import threading
import time
from contextlib import contextmanager, suppress

import pandas as pd
import pytest

import veilstat as vs
from tests.deployments import OWNERS, SECRET, TABLES, running, veilstat

PAIR = pd.concat([TABLES["north"], TABLES["south"]])


CUT = "cut"


class Interceptor:
    """Stands between the coordinator and an agent, and does something before the agent's next, or next but k, frame passes."""

    def __init__(self, agent):
        self.agent, self.place = agent, agent.with_name("between.sock")
        self.left, self.act = None, None
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.place))
        self.listener.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.socket(socket.AF_UNIX)
                if far.connect_ex(str(self.agent)):
                    near.close()
                    far.close()
                    continue
                threading.Thread(target=self.copy, args=(near, far), daemon=True).start()
                threading.Thread(target=self.copy_frames, args=(far, near), daemon=True).start()

    def copy(self, source, target):
        with suppress(OSError):
            while received := source.recv(1 << 16):
                target.sendall(received)
        self.end(source, target)

    def copy_frames(self, source, target):
        is_greeting = True
        with suppress(OSError), source.makefile("rb") as stream:
            while head := stream.read(4):
                body = stream.read(int.from_bytes(head, "little"))
                if not is_greeting and self.left is not None:
                    self.left -= 1
                    if self.left == 0:
                        self.left = None
                        if self.act() is CUT:
                            break
                is_greeting = False
                target.sendall(head + body)
        self.end(source, target)

    def end(self, *sockets):
        for its in sockets:
            with suppress(OSError):
                its.shutdown(socket.SHUT_RDWR)
            its.close()

    def close(self):
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@contextmanager
def intercepting(owner, monkeypatch, folder, *words):
    """A deployment whose line to an owner leads through an interceptor."""
    from tests import deployments

    original, interceptors = deployments.Deployment.start, []

    def start(self, *names):
        if "coordinator" in names and not interceptors:
            interceptors.append(Interceptor(self.folder / f"{owner}/agent.sock"))
            path = self.folder / "study.toml"
            path.write_text(path.read_text().replace(f"{owner}/agent.sock", f"{owner}/between.sock"))
        original(self, *names)

    monkeypatch.setattr(deployments.Deployment, "start", start)
    with running(folder, *words) as deployment:
        deployment.interceptor = interceptors[0]
        yield deployment
    interceptors[0].close()


@pytest.fixture
def intercepted(tmp_path, monkeypatch):
    with intercepting("west", monkeypatch, tmp_path, "masking", "colluding = 0") as deployment:
        yield deployment


@pytest.mark.long
@pytest.mark.parametrize("dies", ["agent", "relay"])
def test_an_owner_lost_before_it_has_contributed_drops_out_in_whatever_round(intercepted, dies):
    study = intercepted.connect()
    for place, query in enumerate(("bp", "age", ["bp", "age"], "bp"), start=1):
        intercepted.interceptor.act = (lambda: intercepted.kill("west")) if dies == "agent" else (lambda: CUT)
        began, logged = time.monotonic(), len(intercepted.log())
        intercepted.interceptor.left = place
        if place < 4 or dies == "relay":
            result = study.mean(query)
            assert result.contributors == ("north", "south")
            expected = pd.Series(PAIR[query].mean())
            pd.testing.assert_series_equal(pd.Series(result.estimate), expected, check_names=False, check_index=False, rtol=1e-14)
        else:
            # The agent dies once its contribution has left: with it the answer would differ from the earlier ones by west's rows alone.
            with pytest.raises((vs.PolicyDenied, vs.QuorumLost)):
                study.mean(query)
        assert time.monotonic() - began < 8
        if dies == "agent":
            intercepted.start("west")
        intercepted.wait_for("connected", "west", logged)
    with pytest.raises(vs.PolicyDenied, match="data of west") as error:
        study.mean("bp")
    assert error.value.code == "isolating_difference"


@pytest.mark.long
def test_a_coordinator_killed_in_any_round_ends_the_query_and_the_next_one_works(intercepted):
    study = intercepted.connect()
    for place in range(1, 6):
        intercepted.interceptor.act = lambda: intercepted.kill("coordinator")
        intercepted.interceptor.left = place
        with pytest.raises(vs.QuorumLost) as error:
            study.mean("bp")
        assert error.value.code == "gateway_lost"
        start = len(intercepted.log())
        intercepted.start("coordinator")
        for owner in OWNERS:
            intercepted.wait_for("connected", owner, start)
        assert study.mean("bp").n == 93


@pytest.mark.long
def test_an_owner_killed_after_it_has_contributed_is_in_the_answer(intercepted):
    def kill():
        # The masked input has passed once the next frame, the shares for unmasking, is about to.
        intercepted.kill("west")

    intercepted.interceptor.act = kill
    intercepted.interceptor.left = 5
    result = intercepted.connect().mean("bp")
    assert result.contributors == OWNERS
    assert result.estimate == pytest.approx(pd.concat(TABLES.values())["bp"].mean(), rel=1e-14)


@pytest.mark.long
def test_an_owner_that_freezes_is_waited_for_as_long_as_the_study_says(tmp_path):
    with running(tmp_path, "masking", "colluding = 0", progress=2.0) as deployment:
        study = deployment.connect()
        deployment.processes["west"].send_signal(signal.SIGSTOP)
        began = time.monotonic()
        assert study.mean("bp").contributors == ("north", "south")
        assert 2 <= time.monotonic() - began < 8
        deployment.processes["west"].send_signal(signal.SIGCONT)


@pytest.mark.long
def test_a_coordinator_killed_in_the_middle_ends_the_query_and_its_successor_serves_the_next(tmp_path):
    with running(tmp_path, "masking", "colluding = 0", progress=30.0) as deployment:
        study = deployment.connect()
        deployment.processes["west"].send_signal(signal.SIGSTOP)
        killer = threading.Timer(1.0, lambda: deployment.kill("coordinator"))
        killer.start()
        began = time.monotonic()
        with pytest.raises(vs.QuorumLost) as error:
            study.mean("bp")
        killer.join()
        assert error.value.code == "gateway_lost"
        assert time.monotonic() - began < 6
        with pytest.raises(vs.QuorumLost):
            study.mean("bp")
        deployment.processes["west"].send_signal(signal.SIGCONT)
        start = len(deployment.log())
        deployment.start("coordinator")
        deployment.wait_for("connected", "west", start)
        assert study.mean("bp").n == 93


@pytest.mark.long
def test_with_too_few_owners_nothing_is_opened_and_their_return_is_enough(tmp_path):
    with running(tmp_path, "homomorphic", "colluding = 1", progress=40.0) as deployment:
        study = deployment.connect()
        deployment.kill("west")
        deployment.wait_for("lost", "west")
        with pytest.raises(vs.QuorumLost):
            study.mean("bp")
        start = len(deployment.log())
        deployment.start("west")
        deployment.wait_for("connected", "west", start)
        assert study.mean("bp").n == 93


def restart(deployment, owner):
    deployment.kill(owner)
    start = len(deployment.log())
    deployment.start(owner)
    deployment.wait_for("connected", owner, start)


@pytest.mark.long
def test_a_value_out_of_bounds_leaves_as_one_code_and_a_row_that_is_removed_again_is_not_told_by_a_difference(tmp_path):
    with running(tmp_path) as deployment:
        pd.concat([TABLES["west"], pd.DataFrame({"bp": [SECRET + 100], "age": [30]})]).to_csv(tmp_path / "west.csv", index=False)
        restart(deployment, "west")
        study = deployment.connect()
        with pytest.raises(vs.VeilstatError) as error:
            study.mean("bp")
        assert error.value.code == "owner_refused"
        assert "west" in error.value.message
        assert not re.search("bp|bound|outside", error.value.message)
        (entry,) = [entry for entry in deployment.log("west") if entry["event"] == "refused_for_rows"]
        assert "bp" in entry["detail"]
        assert str(SECRET + 100) not in entry["detail"]
        assert study.mean("age").n == 94
        TABLES["west"].to_csv(tmp_path / "west.csv", index=False)
        restart(deployment, "west")
        with pytest.raises(vs.PolicyDenied) as error:
            study.mean("age")
        assert error.value.code == "isolating_difference"


@pytest.mark.long
def test_a_person_s_word_is_needed_once_for_each_query(tmp_path):
    with running(tmp_path) as deployment:
        (tmp_path / "west-policy.toml").write_text('approval = ["mean"]\n')
        path = tmp_path / "west.toml"
        path.write_text('policy = "west-policy.toml"\n' + path.read_text())
        restart(deployment, "west")
        study = deployment.connect()

        def outcome():
            try:
                return study.mean("bp").n
            except vs.PolicyDenied as error:
                return error.code

        def say(*words):
            done = veilstat(tmp_path, "approvals", *words, "--config", "west.toml")
            assert done.returncode == 0, done.stderr
            return done.stdout

        digest = study.plan(vs.Mean("bp")).digest[:12]
        assert outcome() == "approval_pending"
        assert digest in say("list")
        assert say("show", digest) == f"{study.plan(vs.Mean('bp'))}\n"
        say("grant", digest)
        assert outcome() == 93
        assert outcome() == "approval_pending"
        say("deny", digest)
        assert outcome() == "approval_denied"
        assert veilstat(tmp_path, "approvals", "show", "ffff", "--config", "west.toml").returncode == 1
        os.kill(deployment.processes["west"].pid, 0)
