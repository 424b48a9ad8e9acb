"""Owners share their rows once over a deployment's lines and go offline; what interrupts an upload leaves nothing half done."""

import signal
import stat
import threading
import time

import pandas as pd
import pytest

import veilstat as vs
from tests.deployments import OWNERS, SCHEMA, TABLES, Deployment, running, veilstat
from tests.test_deployment_failures import CUT, intercepting
from veilstat.platform.deployment.approvals_socket import send_errand
from veilstat.platform.upload_store import UploadStore
from veilstat.schema.schema import Schema

pytestmark = pytest.mark.long
OPTIONS = 'servers = 3\nentry = "rows"\nopen = "estimate"'
SHARING = vs.Sharing(servers=3, entry="rows", open="estimate")
SERVERS = ("compute1", "compute2", "compute3")
POOLED = pd.concat(TABLES.values())
LONG_QUERY = vs.LinearRegression("bp ~ age", method="gradient_descent", tolerance=0.01)


def schema(folder):
    (folder / "plain.toml").write_text(SCHEMA)
    return Schema.from_toml(folder / "plain.toml")


def errand(deployment, verb, owner):
    """What `veilstat rows` prints."""
    heard = []
    send_errand(str(deployment.folder / owner / "approvals.sock"), verb, heard.append)
    return heard


def code_of(act, *words):
    with pytest.raises(vs.VeilstatError) as error:
        act(*words)
    return error.value.code


def versions(deployment, owner="north"):
    its = schema(deployment.folder)
    return [UploadStore(deployment.folder / f"{name}-rows", its, place).largest_version(owner) for place, name in enumerate(SERVERS)]


def restart(deployment, name, how=signal.SIGKILL):
    if name in deployment.processes:
        deployment.kill(name, how)
    after = len(deployment.log())
    deployment.start(name)
    for party in (*OWNERS, *SERVERS) if name == "coordinator" else (name,):
        deployment.wait_for("connected", party, after)


def wait_for_lines(deployment, seconds=30):
    """Servers have reached each other again once a query is answered."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return deployment.connect().mean("bp")
        except vs.QuorumLost:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_owners_share_once_and_the_servers_answer_as_in_one_process_without_them(tmp_path):
    with running(tmp_path, "sharing", OPTIONS) as deployment:
        study, twin = deployment.connect(), vs.simulate(TABLES, schema(tmp_path), SHARING)
        assert code_of(study.mean, "bp") == "quorum_lost"
        assert errand(deployment, "show", "north")[-1].endswith("veilstat rows share")
        assert code_of(errand, deployment, "withdraw", "north") == "upload_unknown"
        printed = veilstat(tmp_path, "rows", "share", "--config", "north.toml")
        assert "compute1, compute2, compute3 hold version 1 of these rows, declared as 32" in printed.stdout, printed.stderr
        for owner in ("south", "west"):
            assert errand(deployment, "share", owner)[0] == "20 % of the shares are with all servers"
        assert errand(deployment, "show", "west")[:3] == [f"{name} holds version 1" for name in SERVERS]
        for owner in OWNERS:
            deployment.kill(owner, signal.SIGTERM)
        for query in (vs.Mean("bp"), vs.LinearRegression("bp ~ age")):
            ours, theirs = study.run(query), twin.run(query)
            assert study.plan(query).digest == twin.plan(query).digest
            assert str(study.plan(query)) == str(twin.plan(query))
            assert ours.to_frame().to_csv() == theirs.to_frame().to_csv()
            assert (ours.contributors, ours.cost.rounds, ours.cost.bytes_per_owner) == (OWNERS, theirs.cost.rounds, 0)
        assert study.mean("bp").estimate == pytest.approx(POOLED["bp"].mean(), rel=1e-14)
        files = [path for name in SERVERS for path in (tmp_path / f"{name}-rows").iterdir()]
        assert len(files) == 9
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_rows_are_replaced_beside_a_query_and_withdrawn_from_one(tmp_path):
    with running(tmp_path, "sharing", OPTIONS.replace("estimate", "moments")) as deployment:
        twin = vs.simulate(TABLES, schema(tmp_path), vs.Sharing(servers=3, entry="rows"))
        for owner in OWNERS:
            errand(deployment, "share", owner)
        study = deployment.connect()
        TABLES["north"].assign(bp=100.0).to_csv(tmp_path / "north.csv", index=False)
        restart(deployment, "north", signal.SIGTERM)

        def once(verb, owner):
            done = []

            def act(label, *_):
                if not done:
                    done.append(errand(deployment, verb, owner))

            return act

        result = study.run(LONG_QUERY, progress=once("share", "north"))
        assert versions(deployment) == [2, 2, 2]
        assert result.params.tolist() == twin.run(LONG_QUERY).params.tolist()
        assert code_of(study.mean, "bp") == "isolating_difference"
        for owner in ("south", "west"):
            errand(deployment, "share", owner)
        changed = pd.concat([TABLES["north"].assign(bp=100.0), TABLES["south"], TABLES["west"]])
        assert study.mean("bp").estimate == pytest.approx(changed["bp"].mean(), rel=1e-14)
        with pytest.raises(vs.PolicyDenied, match="south") as error:
            study.run(LONG_QUERY, progress=once("withdraw", "south"))
        assert error.value.code == "upload_withdrawn"
        assert code_of(study.mean, "bp") == "quorum_lost"
        assert errand(deployment, "show", "south")[0] == "compute1 holds nothing"
        assert versions(deployment, "south") == [2, 2, 2]


@pytest.fixture
def intercepted(tmp_path, monkeypatch):
    """Servers hold the rows of all owners, and the line to north leads through an interceptor."""
    with intercepting("north", monkeypatch, tmp_path, "sharing", OPTIONS) as deployment:
        for owner in OWNERS:
            errand(deployment, "share", owner)
        yield deployment


# What the agent says in turn: three asks, three offers, a plane to each of three servers, five times, then to each that it may commit.
PLACES = (2, 5, 9, 15, 21)
SECOND_COMMIT = 23


@pytest.mark.parametrize("dies", ["north", "coordinator", "compute2", "line"])
def test_whoever_is_killed_in_an_upload_leaves_the_former_one_and_the_next_one_works(intercepted, dies):
    answer = intercepted.connect().mean("bp")
    for place in PLACES:
        before, began, logged = versions(intercepted), time.monotonic(), len(intercepted.log())
        intercepted.interceptor.act = (lambda: CUT) if dies == "line" else (lambda: intercepted.kill(dies))
        intercepted.interceptor.left = place
        code = code_of(errand, intercepted, "share", "north")
        assert code in ({"agent_unreachable"} if dies == "north" else {"party_lost"})
        assert time.monotonic() - began < 10
        assert versions(intercepted) == before
        if dies == "line":
            intercepted.wait_for("connected", "north", logged)
        else:
            restart(intercepted, dies)
        assert wait_for_lines(intercepted).estimate == answer.estimate
    shared = errand(intercepted, "share", "north")
    assert f"hold version {max(before) + 1} of these rows" in shared[-1]
    assert versions(intercepted) == [max(before) + 1] * 3


def test_between_two_commits_nothing_is_answered_and_a_new_upload_mends_it(intercepted):
    intercepted.interceptor.act, intercepted.interceptor.left = (lambda: CUT), SECOND_COMMIT
    logged = len(intercepted.log())
    assert code_of(errand, intercepted, "share", "north") == "party_lost"
    intercepted.wait_for("connected", "north", logged)
    assert versions(intercepted) == [2, 1, 1]
    assert code_of(intercepted.connect().mean, "bp") == "uploads_differ"
    assert "different versions" in errand(intercepted, "show", "north")[-1]
    assert "hold version 3" in errand(intercepted, "share", "north")[-1]
    assert intercepted.connect().mean("bp").n == 93


def test_a_server_that_stands_still_is_named_within_the_owner_s_patience(tmp_path):
    with running(tmp_path, "sharing", OPTIONS) as deployment:
        path = tmp_path / "north.toml"
        path.write_text(path.read_text().replace("progress = 20", "progress = 2"))
        restart(deployment, "north", signal.SIGTERM)
        deployment.processes["compute3"].send_signal(signal.SIGSTOP)
        heard = []
        waiting = threading.Thread(target=lambda: heard.append(code_of(errand, deployment, "share", "north")))
        waiting.start()
        while not waiting.join(0.05) and waiting.is_alive() and code_of(errand, deployment, "show", "north") == "rows_busy":
            pass
        waiting.join(10)
        deployment.processes["compute3"].send_signal(signal.SIGCONT)
        assert heard == ["no_answer"]
        assert "hold version 1" in errand(deployment, "share", "north")[-1]


def test_an_owner_whose_policy_asks_a_person_cannot_share_its_rows(tmp_path):
    with running(tmp_path, "sharing", OPTIONS) as deployment:
        (tmp_path / "policy.toml").write_text('approval = ["mean"]\n')
        path = tmp_path / "north.toml"
        path.write_text('policy = "policy.toml"\n' + path.read_text())
        restart(deployment, "north")
        refused = veilstat(tmp_path, "rows", "share", "--config", "north.toml")
        assert refused.returncode == 1
        assert "approval_offline" in refused.stderr
        assert "take `approval` out" in refused.stderr
        assert versions(deployment) == [0, 0, 0]
        deployment.kill("coordinator")
        assert code_of(errand, deployment, "share", "south") == "coordinator_lost"


def test_rows_that_do_not_fit_are_told_to_their_person_alone_and_to_no_server(tmp_path):
    with running(tmp_path, "sharing", OPTIONS) as deployment:
        TABLES["west"].assign(bp=999.0).to_csv(tmp_path / "west.csv", index=False)
        restart(deployment, "west")
        with pytest.raises(vs.RangeError, match="bp") as error:
            errand(deployment, "share", "west")
        assert "999" not in error.value.message
        assert versions(deployment, "west") == [0, 0, 0]
        assert [entry["code"] for entry in deployment.log("west") if entry["event"] == "rows_share"] == [error.value.code]
        assert "bp" not in (tmp_path / "coordinator.log").read_text()


def test_servers_keep_the_budget_of_an_owner_that_is_away_through_their_restart(tmp_path):
    deployment = Deployment(tmp_path, "sharing", OPTIONS)
    (tmp_path / "policy.toml").write_text("budget = [1.0, 1e-6]\n")
    study = tmp_path / "study.toml"
    study.write_text(study.read_text().replace("[addresses]", '[policies]\nnorth = "policy.toml"\n[addresses]'))
    (tmp_path / "north.toml").write_text('policy = "policy.toml"\n' + (tmp_path / "north.toml").read_text())
    try:
        deployment.start(*OWNERS, *SERVERS, "coordinator")
        for name in (*OWNERS, *SERVERS):
            deployment.wait_for("connected", name)
        for owner in OWNERS:
            errand(deployment, "share", owner)
        assert errand(deployment, "show", "north")[-1].endswith("with noise within (epsilon 1, delta 1e-06) in all")
        deployment.kill("north")
        analyst = deployment.connect()
        assert code_of(analyst.mean, "bp") == "privacy_required"
        private = {"privacy": vs.Gaussian(epsilon=0.8, delta=5e-7)}
        assert analyst.mean("bp", **private).contributors == OWNERS
        for name in SERVERS:
            restart(deployment, name)
        deadline = time.monotonic() + 60
        while (code := outcome(analyst, private)) == "quorum_lost" and time.monotonic() < deadline:
            time.sleep(0.2)
        assert code == "budget_exhausted"
        assert all((tmp_path / f"{name}.ledgers").is_dir() for name in SERVERS)
    finally:
        for name in list(deployment.processes):
            deployment.kill(name, signal.SIGTERM)


def outcome(study, options):
    try:
        return study.mean("bp", **options).n
    except vs.VeilstatError as error:
        return error.code
