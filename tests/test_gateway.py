"""The gateway, asked by curl: tokens, limits, malformed and replayed requests; it opens nothing at an owner."""

import json
import shutil
import subprocess
import threading
import time
from contextlib import closing
from datetime import UTC, datetime

import pytest

import veilstat as vs
from tests.deployments import OWNERS, TABLES, Deployment, running, veilstat
from tests.test_owner_agent import analyst, proposal
from veilstat.platform.deployment.authority import issue_certificate
from veilstat.platform.deployment.gateway_api import LARGEST_BODY
from veilstat.platform.deployment.gateway_client import GatewayClient
from veilstat.platform.deployment.packing import pack, unpack
from veilstat.platform.deployment.tokens import holder, issue_token, read_tokens
from veilstat.protocol.envelope import Envelope
from veilstat.protocol.session import decode_fault

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    with running(tmp_path_factory.mktemp("study")) as its:
        yield its


def curl(deployment, path, *words, token=None, body=None):
    """Status and body."""
    command = [
        "curl",
        "-sS",
        "--max-time",
        "40",
        "--cacert",
        str(deployment.folder / "private/authority.pem"),
        "-w",
        "%{http_code}",
        *words,
    ]
    command += ["-H", f"Authorization: Bearer {deployment.token if token is None else token}"]
    command += [] if body is None else ["--data-binary", "@-", "-H", "Content-Type: application/octet-stream"]
    done = subprocess.run([*command, deployment.url + path], input=body, capture_output=True)
    return int(done.stdout[-3:]), done.stdout[:-3]


def code(answer):
    return answer[0], json.loads(answer[1])["code"]


@pytest.fixture
def session(deployment):
    status, body = curl(deployment, "/v1/sessions", "-X", "POST")
    assert status == 201
    path = "/v1/sessions/" + json.loads(body)["session"]
    yield path
    curl(deployment, path, "-X", "DELETE")


def test_what_it_tells_to_whom(deployment):
    status, body = curl(deployment, "/openapi.json", token="none")
    assert (status, json.loads(body)["openapi"]) == (200, "3.1.0")
    assert set(json.loads(body)["paths"]) >= {"/v1/study", "/v1/sessions/{session}/frames"}
    status, body = curl(deployment, "/v1/status")
    assert (status, json.loads(body)["connected"]) == (200, ["north", "south", "west"])
    assert deployment.connect().status()["connected"] == ["north", "south", "west"]
    assert code(curl(deployment, "/v1/nothing")) == (404, "not_found")
    assert curl(deployment, "/v1/study", "-X", "POST")[0] == 405


def test_an_answer_is_that_of_the_study_in_one_process(deployment):
    study = deployment.connect()
    twin = vs.simulate(TABLES, study.schema)
    ours, theirs = study.linear_regression("bp ~ age"), twin.linear_regression("bp ~ age")
    assert ours.params.tolist() == theirs.params.tolist()
    assert ours.plan.digest == theirs.plan.digest
    assert (ours.contributors, ours.cost.rounds) == (OWNERS, theirs.cost.rounds)


def test_a_body_too_large_is_refused_whether_or_not_it_is_announced(deployment, session):
    large = bytes(LARGEST_BODY + 1)
    assert code(curl(deployment, f"{session}/frames", body=large)) == (413, "too_large")
    assert code(curl(deployment, f"{session}/frames", "-H", "Transfer-Encoding: chunked", body=large)) == (413, "too_large")


@pytest.mark.parametrize("body", [b"GET", b"\0\0\0\0", b"\xff\xff\xff\xff", (10).to_bytes(4, "little") + b"short"])
def test_a_body_that_is_no_sequence_of_frames_is_refused(deployment, session, body):
    assert code(curl(deployment, f"{session}/frames", body=body)) == (400, "malformed")


def test_frames_that_nobody_signed_go_nowhere(deployment, session):
    assert curl(deployment, f"{session}/frames", body=pack([bytes(200)]))[0] == 202
    assert curl(deployment, f"{session}/frames?wait=0")[1] == b""
    assert curl(deployment, "/v1/status")[0] == 200


@pytest.mark.parametrize("query", ["after=-1", "after=x", "after=" + "9" * 30, "wait=1.5", "after=7"])
def test_numbers_that_make_no_sense_are_refused(deployment, session, query):
    assert curl(deployment, f"{session}/frames?{query}")[0] in (400, 409)


def test_one_session_at_a_time_and_nobody_else_s(deployment, session):
    status, body = curl(deployment, "/v1/sessions", "-X", "POST", token=deployment.other_token)
    assert (status, json.loads(body)["code"]) == (409, "coordinator_busy")
    assert "ask again" in json.loads(body)["message"]
    assert code(curl(deployment, session, "-X", "DELETE", token=deployment.other_token)) == (404, "no_session")
    assert code(curl(deployment, "/v1/sessions/" + "0" * 32, "-X", "DELETE")) == (404, "no_session")


def test_a_session_that_a_crash_left_behind_is_replaced_by_its_analyst_s_next_query(deployment, session):
    curl(deployment, f"{session}/frames", body=pack(proposal(analyst(deployment))))
    assert deployment.connect().mean("bp").n == 93
    assert code(curl(deployment, f"{session}/frames?wait=20")) == (404, "session_replaced")
    assert deployment.connect(token=deployment.other_token).mean("bp").n == 93
    assert deployment.connect().mean("bp").n == 93


def test_a_token_authorises_nothing_at_an_owner(deployment, session):
    """Whoever has the token, and a key that is not the analyst's, gets no owner to answer."""
    impostor = analyst(deployment, name="server")
    curl(deployment, f"{session}/frames", body=pack(proposal(impostor)))
    assert curl(deployment, f"{session}/frames?wait=1")[1] == b""
    assert impostor.root.hex()[:16] not in [entry.get("root") for name in ("north", "south") for entry in deployment.log(name)]


def test_a_replayed_query_is_answered_once(deployment, session):
    body = pack(proposal(analyst(deployment)))
    curl(deployment, f"{session}/frames", body=body)
    _, answer = curl(deployment, f"{session}/frames?wait=10")
    assert [Envelope.decode(frame).round for frame in unpack(answer)] == ["approve"]
    curl(deployment, f"{session}/frames", body=body)
    assert curl(deployment, f"{session}/frames?after=1&wait=1")[1] == b""


def test_a_plan_that_was_changed_in_flight_is_refused_by_owners(deployment, session):
    theirs = analyst(deployment).definition
    from veilstat.platform.definition import Definition

    other = Definition(vs.Schema(*theirs.schema, max_rows=999), theirs.owners, theirs.architecture, theirs.policies)
    curl(deployment, f"{session}/frames", body=pack(proposal(analyst(deployment, other))))
    _, answer = curl(deployment, f"{session}/frames?wait=10")
    (frame,) = unpack(answer)
    assert decode_fault(Envelope.decode(frame).payload, "server").code == "plan_differs"


def test_clients_that_do_not_fit_are_told_why(deployment, monkeypatch, tmp_path):
    private = deployment.folder / "private"
    for changes, error, words in (
        ({"token": "wrong"}, vs.PolicyDenied, "bad_token"),
        ({"ca": None}, vs.CapabilityError, "bad_certificate"),
        ({"identity": private / "server.pem"}, vs.CapabilityError, "key_differs"),
        ({"roster": Deployment(tmp_path).folder / "private/roster.toml"}, vs.SchemaError, "roster_differs"),
    ):
        with pytest.raises(error, match=words):
            deployment.connect(**changes)
    monkeypatch.setattr("veilstat.platform.deployment.connect.__version__", "9.9.9")
    with pytest.raises(vs.CapabilityError, match=r"runs veilstat 0.1.0, this is veilstat 9.9.9"):
        deployment.connect()
    monkeypatch.undo()
    deployment.url = deployment.url.replace("https", "http")
    with pytest.raises(vs.SchemaError, match="bad_url"):
        deployment.connect()
    deployment.url = deployment.url.replace("http", "https")


def test_a_query_that_the_analyst_gives_up_leaves_the_study_usable(deployment):
    study = deployment.connect()

    def give_up(label, done, at_most):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.run(vs.Mean("bp"), progress=give_up)
    assert study.mean("bp").n == 93


def test_an_analyst_that_computes_between_two_requests_finds_the_gateway_again(deployment):
    """Which has hung up on it by then."""
    client = GatewayClient(deployment.url, deployment.token, deployment.folder / "private/authority.pem")
    with closing(client):
        assert client.ask("GET", "/v1/status", {})["query"] is None
        time.sleep(6)
        assert client.ask("GET", "/v1/status", {})["query"] is None


def test_two_analysts_at_once_get_one_answer_and_one_refusal(deployment):
    outcomes = []

    def ask(token):
        try:
            outcomes.append(deployment.connect(token=token).mean("age").n)
        except vs.QuorumLost as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=ask, args=(token,)) for token in (deployment.token, deployment.other_token)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(93) >= 1
    assert set(outcomes) <= {93, "coordinator_busy"}


def test_guessing_tokens_is_slowed_down_and_others_are_not(deployment):
    answers = [curl(deployment, "/v1/study", token=f"guess{number}")[0] for number in range(14)]
    assert answers[0] == 401
    assert answers[-1] == 429
    assert curl(deployment, "/v1/study")[0] == 200


def test_an_expired_certificate_is_refused_by_the_analyst(tmp_path):
    its = Deployment(tmp_path)
    private = tmp_path / "private"
    issue_certificate(private, private / "gateway.pem", ["127.0.0.1"], datetime(2020, 1, 1, tzinfo=UTC))
    try:
        its.start("coordinator")
        its.wait_for_gateway()
        with pytest.raises(vs.CapabilityError, match="expired"):
            its.connect()
    finally:
        its.kill("coordinator")


def test_tokens_are_kept_as_hashes_and_withdrawn_by_removing_a_line(tmp_path):
    path = tmp_path / "tokens.toml"
    tokens = {name: issue_token(path, name, lambda count, fill=fill: bytes((fill,)) * count) for fill, name in enumerate(("alice", "bob"))}
    assert not any(token in path.read_text() for token in tokens.values())
    assert [holder(read_tokens(path), token) for token in (*tokens.values(), "", "alice")] == ["alice", "bob", None, None]
    with pytest.raises(vs.SchemaError, match="has a token already"):
        issue_token(path, "alice", bytes)
    path.chmod(0o644)
    with pytest.raises(vs.CapabilityError, match="chmod 600"):
        read_tokens(path)


def test_a_coordinator_whose_port_is_taken_says_so(deployment):
    taken = veilstat(deployment.folder, "coordinator", "--config", "study.toml")
    assert taken.returncode == 1
    assert "cannot_listen" in taken.stderr
    assert curl(deployment, "/openapi.json")[0] == 200
