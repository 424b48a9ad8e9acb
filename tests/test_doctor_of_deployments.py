"""`veilstat doctor --config` on a deployment with one fault: it names that fault and how to mend it, and no other."""

import importlib.metadata
import os
import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

import veilstat as vs
from tests.deployments import Deployment, certify, veilstat
from tests.servers import free_ports
from veilstat.platform.deployment.authority import issue_certificate
from veilstat.platform.deployment.coordinator_file import PORTS
from veilstat.platform.deployment.inspect import inspect

NOT_RUNNING = {"gateway", "Ray's head", "socket of north", "socket of south", "socket of west"}
"""What a coordinator that has not been started cannot have."""


@pytest.fixture
def folder(tmp_path):
    """A coordinator's files, with Ray and nothing running."""
    folder = Deployment(tmp_path).folder
    (port,) = free_ports(1)
    with (folder / "study.toml").open("a") as file:
        file.write(
            f'[coordinator.ray]\nhead = "127.0.0.2:{port}"\ntoken = "private/ray.token"\ncertificates = "private"\ndirectory = "/tmp/vd"\n'
            'ports = 23000\n[coordinator.ray.nodes]\nnorth = "127.0.0.11"\n[coordinator.ray.node_ports]\nnorth = 23050\n'
        )
    for path in (folder / "private").iterdir():
        if path.name != "tokens.toml":
            path.unlink()
    certify(folder)
    return folder


def advice(path):
    return {finding.what: f"{finding.found}: {finding.advice}" for finding in inspect(path) if not finding.is_well}


def test_nothing_is_wrong_with_a_deployment_that_was_not_started_but_that(folder):
    assert set(advice(folder / "study.toml")) == NOT_RUNNING


@pytest.mark.parametrize("name", ["server.pem", "gateway.pem", "tokens.toml", "ray.token", "ray-head.pem"])
@pytest.mark.parametrize(
    ("harm", "words"), [(lambda path: path.chmod(0o640), "chmod 600"), (lambda path: path.unlink(), "there is no file")]
)
def test_a_secret_file_that_others_can_read_or_that_is_missing(folder, name, harm, words):
    harm(folder / "private" / name)
    found = advice(folder / "study.toml")
    assert words in found[name]
    assert set(found) - NOT_RUNNING <= {name, "tokens"}


@pytest.mark.parametrize(("age", "words"), [(390, "ends in 6 days"), (500, "ends in -10")])
@pytest.mark.parametrize("name", ["gateway.pem", "ray-head.pem"])
def test_a_certificate_that_has_ended_or_soon_will(folder, name, age, words):
    issue_certificate(folder / "private", folder / "private" / name, ["127.0.0.1"], datetime.now(UTC) - timedelta(days=age))
    found = advice(folder / "study.toml")
    assert words in found[name]
    assert "veilstat renew" in found[name]
    assert set(found) == {*NOT_RUNNING, name}


def test_a_node_s_certificate_for_another_address(folder):
    issue_certificate(folder / "private", folder / "private/ray-north.pem", ["127.0.0.99"], datetime.now(UTC))
    assert "lacks the name '127.0.0.11', it has 127.0.0.99" in advice(folder / "study.toml")["ray-north.pem"]


@pytest.mark.parametrize(("version", "words"), [("2.9.3", "this veilstat needs Ray 2."), (None, "pip install 'veilstat[deploy]'")])
def test_a_ray_of_another_version_or_none(folder, monkeypatch, version, words):
    original = importlib.metadata.version

    def pretend(name):
        if name == "ray" and version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version if name == "ray" else original(name)

    monkeypatch.setattr(importlib.metadata, "version", pretend)
    assert words in advice(folder / "study.toml")["versions"]


@pytest.mark.parametrize("place", [0, 1, PORTS - 1, PORTS])
def test_a_port_of_ray_s_that_another_process_has(folder, place):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 23000 + place))
        other.listen()
        found = advice(folder / "study.toml")
    assert set(found) - NOT_RUNNING == ({"Ray's ports"} if place < PORTS else set())
    assert place == PORTS or f"another process has {23000 + place};" in found["Ray's ports"]


class Gateway:
    """Something on the gateway's port."""

    def __init__(self, folder, seconds=0):
        port = int((folder / "study.toml").read_text().split('gateway = "127.0.0.1:')[1].split('"')[0])

        class Handler(BaseHTTPRequestHandler):
            def date_time_string(self, timestamp=None):
                return formatdate(time.time() + seconds, usegmt=True)

            def do_GET(self):
                self.send_response(200)
                self.end_headers()

            def log_message(self, *words):
                pass

        class Server(HTTPServer):
            def handle_error(self, request, address):
                pass

        self.server = Server(("127.0.0.1", port), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})

    def secure(self, credential):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(credential)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        return self

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.mark.parametrize(("seconds", "words"), [(0, None), (-45, None), (90, "differs by"), (-3600, "differs by 360")])
def test_a_clock_that_differs(folder, seconds, words):
    with Gateway(folder, seconds).secure(folder / "private/gateway.pem"):
        found = advice(folder / "study.toml").get("gateway")
    assert found is None if words is None else words in found


def test_the_gateway_s_port_that_another_process_has(folder):
    with Gateway(folder):
        assert "another process than veilstat's listens there" in advice(folder / "study.toml")["gateway"]


def test_a_gateway_whose_certificate_has_ended(folder):
    issue_certificate(folder / "private", folder / "private/gateway.pem", ["127.0.0.1"], datetime.now(UTC) - timedelta(days=500))
    with Gateway(folder).secure(folder / "private/gateway.pem"):
        assert "certificate has expired; run: veilstat renew" in advice(folder / "study.toml")["gateway"]


def test_an_owner_s_key_that_others_can_read(folder):
    (folder / "private/north.pem").chmod(0o640)
    assert set(advice(folder / "north.toml")) == {"north.pem", "socket for relays", "socket for a person"}


@pytest.mark.parametrize("name", ["owner.log", "sessions", "openings", "ledger", "refusals"])
def test_an_owner_s_record_that_others_can_read(folder, name):
    (folder / "north" / name).touch(0o644)
    os.chmod(folder / "north" / name, 0o644)
    assert "chmod 600" in advice(folder / "north.toml")[name]


def test_an_owner_s_directory_that_others_can_look_into_is_said_with_status_1(folder):
    (folder / "north").chmod(0o750)
    with pytest.raises(vs.CapabilityError, match="chmod 700"):
        inspect(folder / "north.toml")
    done = veilstat(folder, "doctor", "--config", "north.toml")
    assert done.returncode == 1
    assert "chmod 700" in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["agent.sock", "approvals.sock"])
def test_a_socket_that_others_can_connect_to_and_one_whose_agent_is_gone(folder, name):
    what = {"agent.sock": "socket for relays", "approvals.sock": "socket for a person"}[name]
    place = folder / "north" / name
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(place))
        agent.listen()
        os.chmod(place, 0o666)
        assert "chmod 600" in advice(folder / "north.toml")[what]
        os.chmod(place, 0o600)
        assert what not in advice(folder / "north.toml")
    assert "start the agent" in advice(folder / "north.toml")[what]
