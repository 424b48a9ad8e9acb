"""Parts of a deployment by themselves: patience, rates, refusals, records on disk, files that init writes, what the doctor finds."""

import json
import os
import socket
import sys
from datetime import UTC, datetime, timedelta

import pytest

import veilstat as vs
from tests.deployments import Deployment, certify
from veilstat.platform.deployment import coordinator
from veilstat.platform.deployment.approvals import Approvals, Verdict
from veilstat.platform.deployment.authority import issue_certificate
from veilstat.platform.deployment.coordinator_file import load_coordinator_file
from veilstat.platform.deployment.init import Layout, write_files
from veilstat.platform.deployment.inspect import inspect
from veilstat.platform.deployment.journal import LINES_AT_ONCE, Journal, Sparing
from veilstat.platform.deployment.limits import RateLimit
from veilstat.platform.deployment.owner_file import load_owner
from veilstat.platform.deployment.packing import pack, unpack
from veilstat.platform.deployment.patience import Patience
from veilstat.platform.deployment.refusals import MOST_A_DAY, Refusals
from veilstat.platform.policy_file import load_policy
from veilstat.platform.published import Published
from veilstat.platform.server_file import load_server
from veilstat.platform.session_file import SessionFile
from veilstat.platform.study_file import load_definition, load_published
from veilstat.protocol.faults import ProtocolError

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def journal(tmp_path):
    return Journal(tmp_path / "its.log", lambda: NOW)


def test_patience_is_for_each_round_and_not_for_each_message():
    clock = Clock()
    patience = Patience(5, clock)
    assert not patience.is_over("round 1")
    clock.now = 4.9
    assert not patience.is_over("round 1")
    clock.now = 5.0
    assert patience.is_over("round 1")
    assert not patience.is_over("round 2")
    clock.now = 9.0
    assert not patience.is_over(None)
    assert not patience.is_over("round 2")
    clock.now = 13.9
    assert not patience.is_over("round 2")
    clock.now = 14.0
    assert patience.is_over("round 2")


def test_rates_fill_with_time_and_are_each_name_s_own():
    clock = Clock()
    limit = RateLimit(2, 3, clock)
    assert [limit.allows("alice") for _ in range(4)] == [True, True, True, False]
    assert limit.allows("bob")
    clock.now = 0.4
    assert not limit.allows("alice")
    clock.now = 0.9
    assert limit.allows("alice")
    assert not limit.allows("alice")


def test_refusals_for_rows_are_few_a_day_and_say_nothing(tmp_path):
    clock = Clock()
    for _ in range(MOST_A_DAY):
        refusals = Refusals(tmp_path / "refusals", "north", journal(tmp_path), clock)
        refusals.check()
        concealed = refusals.conceal(vs.RangeError("column bp is out of bounds", code="out_of_bounds"))
        assert (concealed.code, "bp" in concealed.message) == ("owner_refused", False)
    with pytest.raises(vs.VeilstatError, match="owner_refused") as error:
        refusals.check()
    assert error.value.message == concealed.message
    with pytest.raises(vs.VeilstatError, match="owner_refused"):
        Refusals(tmp_path / "refusals", "north", journal(tmp_path), clock).check()
    assert (tmp_path / "refusals").stat().st_mode & 0o777 == 0o600
    clock.now = 86_401
    refusals.check()
    (tmp_path / "refusals").write_text("0\n\x00\n")
    with pytest.raises(vs.VeilstatError, match="record_damaged"):
        Refusals(tmp_path / "refusals", "north", journal(tmp_path), clock)


def test_what_others_can_cause_at_will_does_not_fill_the_log(tmp_path):
    clock, its = Clock(), journal(tmp_path)
    sparing = Sparing(its, clock)
    for _ in range(10_000):
        sparing.write("rejected", code="malformed")
    sparing.write("connection_ended", reason="closed")
    clock.now = 5.0
    sparing.write("rejected", code="malformed")
    lines = [json.loads(line) for line in its.path.read_text().splitlines()]
    assert len(lines) == LINES_AT_ONCE + 2
    assert lines[-1]["left_out"] == 10_000 - LINES_AT_ONCE
    assert "left_out" not in lines[-2]


def test_queries_are_remembered_through_a_crash_while_writing(tmp_path):
    path, roots = tmp_path / "sessions", [os.urandom(32) for _ in range(3)]
    first = SessionFile(path)
    for root in roots[:2]:
        first.add(root)
    with path.open("ab") as file:
        file.write(roots[2].hex()[:40].encode())
    second = SessionFile(path)
    assert [root in second for root in roots] == [True, True, False]
    second.add(roots[2])
    assert all(root in SessionFile(path) for root in roots)
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text(path.read_text().replace(roots[0].hex(), roots[0].hex()[:-2]))
    with pytest.raises(vs.VeilstatError, match="record_damaged"):
        SessionFile(path)


def test_a_query_that_cannot_be_remembered_is_not_answered(tmp_path):
    sessions = SessionFile(tmp_path / "sessions")
    sessions.path.unlink()
    with pytest.raises(ProtocolError) as error:
        sessions.add(bytes(32))
    assert error.value.fault.code == "record_failed"
    assert bytes(32) not in sessions


def test_a_crash_is_logged_without_words(tmp_path):
    its = journal(tmp_path)
    try:
        try:
            raise ValueError("secret 259.5")
        except ValueError as error:
            raise ExceptionGroup("tasks", [error]) from None
    except ExceptionGroup as group:
        its.write_crash(type(group), group, group.__traceback__)
    text = its.path.read_text()
    assert json.loads(text)["kind"] == "ValueError"
    assert "test_a_crash_is_logged_without_words" in text
    assert "259" not in text
    its.path.chmod(0o644)
    with pytest.raises(vs.SchemaError, match="chmod 600"):
        journal(tmp_path)


def test_plans_wait_for_a_person_in_bounded_number(tmp_path, monkeypatch):
    monkeypatch.setattr("veilstat.platform.deployment.approvals.MOST_PENDING", 3)
    study = Deployment(tmp_path).folder
    definition = load_definition(study / "study.toml")
    from veilstat.platform.plan import make_plan

    approvals = Approvals(tmp_path / "approvals.json", lambda name: True, lambda: NOW)
    plans = [make_plan(vs.Histogram("bp", bins=[40, 100 + place, 260]), definition) for place in range(4)]
    codes = []
    for plan in plans:
        with pytest.raises(vs.PolicyDenied) as error:
            approvals.consent(plan)
        codes.append(error.value.code)
    assert codes == ["approval_pending"] * 3 + ["approvals_full"]
    approvals.decide(plans[0].digest, Verdict.GRANTED)
    again = Approvals(approvals.path, lambda name: True, lambda: NOW)
    again.consent(plans[0])
    with pytest.raises(vs.PolicyDenied, match="approval_pending"):
        Approvals(approvals.path, lambda name: True, lambda: NOW).consent(plans[0])
    with pytest.raises(vs.SchemaError, match="no plan"):
        again.find("zz")
    approvals.path.write_text("{")
    with pytest.raises(vs.VeilstatError, match="record_damaged"):
        Approvals(approvals.path, lambda name: True, lambda: NOW)


def test_frames_are_packed_and_unpacked():
    frames = [b"a", bytes(1000), b"\xff" * 3]
    assert unpack(pack(frames)) == frames
    assert unpack(b"") == []
    with pytest.raises(ProtocolError):
        unpack(pack(frames)[:-1])


@pytest.mark.parametrize("architecture", ["masking", "sharing", "homomorphic"])
def test_what_init_writes_is_read_by_every_command(tmp_path, architecture):
    folder = tmp_path / "trial"
    write_files(folder, architecture, ("north", "south", "west"), Layout())
    definition = load_definition(folder / "study.toml")
    assert definition.architecture.name == architecture
    assert load_coordinator_file(folder / "study.toml").ray.nodes == {"north": "127.0.0.11", "south": "127.0.0.12", "west": "127.0.0.13"}
    for name in definition.owners:
        config = load_owner(folder / name / "owner.toml")
        assert load_policy(config.policy).policy.digest == definition.policies[name]
    certify(folder)
    assert {path.name for path in (folder / "private").iterdir()} >= {
        "ray-head.pem",
        "ray-north.pem",
        "gateway.pem",
        "authority.pem",
        "ray.token",
    }
    secret = [path for path in (folder / "private").iterdir() if path.name not in ("roster.toml", "authority.pem")]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in secret)
    with pytest.raises(vs.SchemaError, match="not empty"):
        write_files(folder, architecture, ("north", "south", "west"), Layout())


def test_init_prepares_servers_for_rows_and_says_who_keeps_none(tmp_path):
    write_files(tmp_path / "rows", "sharing", ("north", "south", "west"), Layout(), "rows")
    assert load_definition(tmp_path / "rows/study.toml").keeps_rows
    for server in ("compute1", "compute2", "compute3"):
        uploads = load_server(tmp_path / f"rows/{server}.toml").uploads
        assert uploads.stat().st_mode & 0o777 == 0o700
    for architecture, entry in (("masking", "rows"), ("sharing", "row")):
        with pytest.raises(vs.CapabilityError) as error:
            write_files(tmp_path / "other", architecture, ("north", "south", "west"), Layout(), entry)
        assert error.value.code == "unknown_option"


def test_what_is_published_says_the_same_to_everybody_and_holds_no_path(tmp_path):
    folder = Deployment(tmp_path).folder
    published = load_published(folder / "study.toml")
    again = Published.from_json(published.to_json())
    assert again.definition().digest == load_definition(folder / "study.toml").digest
    assert str(tmp_path).encode() not in published.to_json()
    for text in (b"{}", b"[]", published.to_json().replace(b"masking", b"nothing")):
        with pytest.raises(vs.VeilstatError):
            Published.from_json(text).definition()


def test_a_coordinator_of_encrypted_rows_is_told_where_to_keep_them(tmp_path, monkeypatch):
    path = Deployment(tmp_path, "homomorphic", 'entry = "rows"').folder / "study.toml"
    path.write_text(path.read_text().replace('epoch = "epoch"\n', ""))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    with pytest.raises(vs.SchemaError, match="add epoch = 'epoch'") as error:
        coordinator.run_coordinator(path)
    assert error.value.code == "missing_key"


def test_the_doctor_says_how_to_mend_a_coordinator(tmp_path):
    folder = Deployment(tmp_path).folder
    private = folder / "private"
    (private / "tokens.toml").chmod(0o644)
    issue_certificate(private, private / "gateway.pem", ["127.0.0.1"], datetime.now(UTC) - timedelta(days=390))
    advice = {finding.what: finding.advice for finding in inspect(folder / "study.toml")}
    assert "chmod 600" in advice["tokens.toml"]
    assert "renew" in advice["gateway.pem"]
    assert "veilstat coordinator" in advice["gateway"]
    assert "veilstat owner" in advice["socket of north"]
    assert not advice["server.pem"]


def test_the_doctor_says_how_to_mend_an_owner(tmp_path):
    folder = Deployment(tmp_path).folder
    (folder / "private/north.pem").chmod(0o640)
    place = str(folder / "north/agent.sock")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(place)
    os.chmod(place, 0o666)
    advice = {finding.what: finding.advice for finding in inspect(folder / "north.toml")}
    assert "chmod 600" in advice["north.pem"]
    assert "chmod 600" in advice["socket for relays"]
    os.chmod(place, 0o600)
    assert "start the agent" in {finding.what: finding.advice for finding in inspect(folder / "north.toml")}["socket for relays"]


def test_the_doctor_says_how_to_mend_a_server_and_an_owner_that_share_rows(tmp_path):
    folder = Deployment(tmp_path, "sharing", 'entry = "rows"').folder

    def advice(name):
        return {finding.what: finding.advice for finding in inspect(folder / name)}

    assert advice("compute1.toml") == {"compute1.pem": "", "rows of owners": ""}
    (folder / "compute1-rows").chmod(0o750)
    (folder / "compute1.openings").touch(0o644)
    assert "chmod 700" in advice("compute1.toml")["rows of owners"]
    assert "chmod 600" in advice("compute1.toml")["compute1.openings"]
    (folder / "compute1-rows").rmdir()
    assert "install -d -m 700" in advice("compute1.toml")["rows of owners"]
    (folder / "policy.toml").write_text('approval = "all"\n')
    edited = folder / "north.toml"
    assert "policy" not in advice("north.toml")
    edited.write_text('policy = "policy.toml"\n' + edited.read_text())
    assert "`approval`" in advice("north.toml")["policy"]


RAY = '[coordinator.ray]\nhead = "127.0.0.2:6390"\ntoken = "t"\ncertificates = "c"\ndirectory = "/tmp/r"\n'


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [
        ('gateway = "127', 'gatway = "127', "unknown_key"),
        ('tokens = "private/tokens.toml"\n', "", "missing_key"),
        ("progress = 20.0", 'progress = "long"', "bad_value"),
        ("progress = 20.0", "progress = 0", "bad_value"),
        ("progress = 20.0", "progress = nan", "bad_value"),
        ("progress = 20.0", 'listen = "0.0.0.0:99999"', "bad_value"),
        ("progress = 20.0", "threads = 0", "bad_value"),
        ("progress = 20.0", "threads = true", "bad_value"),
        ('[coordinator.sockets]\n', '[coordinator.ray]\nhead = "x"\n[coordinator.sockets]\n', "missing_key"),
        ('[coordinator.sockets]\n', f"{RAY}workers = -1\n[coordinator.sockets]\n", "bad_value"),
        ('[coordinator.sockets]\n', f"{RAY}workers = true\n[coordinator.sockets]\n", "bad_value"),
        ('[coordinator.sockets]\n', f"{RAY}ports = 80\n[coordinator.sockets]\n", "bad_value"),
        ('[coordinator.sockets]\n', f"{RAY}node_ports = {{ north = 65500 }}\n[coordinator.sockets]\n", "bad_value"),
    ],
)  # fmt: skip
def test_mistakes_in_a_coordinator_s_file_are_named(tmp_path, before, after, code):
    path = Deployment(tmp_path).folder / "study.toml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    with pytest.raises(vs.SchemaError) as error:
        load_coordinator_file(path)
    assert error.value.code == code


@pytest.mark.parametrize(
    "text", ['statistic = ["mean"]', 'approval = "some"', 'min_owners = "two"', "columns = 3", "budget = [1]", 'budget = ["a", 1]']
)
def test_mistakes_in_a_policy_s_file_are_named(tmp_path, text):
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(vs.VeilstatError):
        load_policy(path)
