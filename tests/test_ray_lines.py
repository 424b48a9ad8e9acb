"""Lines over Ray: relays on labelled nodes carry queries; relay, node and head are killed, and the next query works."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import psutil
import pytest

import veilstat as vs
from tests.deployments import ENVIRONMENT, OWNERS, Deployment, certify
from tests.servers import free_ports

pytestmark = pytest.mark.long
HEAD = "127.0.0.2"


class RayDeployment(Deployment):
    """Every owner is reached over its node; nodes are started one after the other, as machines would be."""

    def __init__(self, folder, directory):
        super().__init__(folder, "masking", "colluding = 0", progress=30.0)
        (port,) = free_ports(1)
        self.head, self.directory = f"{HEAD}:{port}", directory
        nodes = "".join(f'{owner} = "{address(owner)}"\n' for owner in OWNERS)
        path = folder / "study.toml"
        path.write_text(
            path.read_text().split("[coordinator.sockets]")[0]
            + f'[coordinator.ray]\nhead = "{self.head}"\ntoken = "private/ray.token"\ncertificates = "private"\ndirectory = "{directory}"\n'
            + f"[coordinator.ray.nodes]\n{nodes}"
        )
        for old in (folder / "private").iterdir():
            if old.name != "tokens.toml":
                old.unlink()
        certify(folder)

    def start_node(self, owner):
        start = len(self.log())
        self.launch_node(owner, address(owner))
        self.wait_for("connected", owner, start, seconds=120)

    def launch_node(self, owner, place, *words):
        command = [sys.executable, "-m", "veilstat", "node", "--owner", owner, "--head", self.head, "--address", place]
        command += ["--agent", f"{owner}/agent.sock", "--directory", f"{self.directory}-{owner}", *words]
        with open(self.folder / f"{owner}-node.err", "a") as errors:
            self.processes[f"{owner}-node"] = subprocess.Popen(command, cwd=self.folder, env=ENVIRONMENT, stdout=errors, stderr=errors)

    def relays(self, owner):
        """The processes of relays on an owner's node."""
        children = psutil.Process(self.processes[f"{owner}-node"].pid).children(recursive=True)
        return [process for process in children if "Relay" in " ".join(process.cmdline())]


def address(owner):
    return f"127.0.0.{31 + OWNERS.index(owner)}"


@contextmanager
def ray_deployment(folder, prepare=lambda folder: None):
    """Agents and the coordinator with its head; nodes are started by the test."""
    directory = f"/tmp/vr-{os.getpid()}"
    its = RayDeployment(folder, directory)
    prepare(folder)
    try:
        its.start(*OWNERS, "coordinator")
        its.wait_for("started", None, seconds=90)
        yield its
    finally:
        for name in reversed(list(its.processes)):
            its.kill(name, signal.SIGTERM)
        subprocess.run(["rm", "-rf", directory, *(f"{directory}-{owner}" for owner in (*OWNERS, "nobody"))], check=True)


@pytest.fixture
def deployment(tmp_path):
    with ray_deployment(tmp_path) as its:
        for owner in OWNERS:
            its.start_node(owner)
        yield its


def test_queries_over_ray_survive_whatever_is_killed(deployment):
    study = deployment.connect()
    deployment.processes["west"].send_signal(signal.SIGSTOP)
    (relay,) = deployment.relays("west")
    began, start = time.monotonic(), len(deployment.log())
    killer = threading.Timer(1.0, relay.kill)
    killer.start()
    result = study.mean("bp")
    killer.join()
    assert result.contributors == ("north", "south")
    assert time.monotonic() - began < 20
    deployment.processes["west"].send_signal(signal.SIGCONT)
    deployment.wait_for("connected", "west", start, seconds=60)

    start = len(deployment.log())
    deployment.kill("west-node")
    deployment.wait_for("lost", "west", start, seconds=60)
    assert study.mean("age").contributors == ("north", "south")
    deployment.start_node("west")
    with pytest.raises(vs.PolicyDenied, match="data of west"):
        study.mean("bp")

    (head,) = [
        its for its in psutil.Process(deployment.processes["coordinator"].pid).children(recursive=True) if "gcs_server" in its.name()
    ]
    head.kill()
    assert deployment.processes.pop("coordinator").wait(40) != 0
    for owner in OWNERS:
        # Nodes whose head is gone; waits for ten seconds at most.
        deployment.kill(f"{owner}-node", signal.SIGTERM)
    start = len(deployment.log())
    deployment.start("coordinator")
    deployment.wait_for("started", None, start, seconds=90)
    for owner in OWNERS[:2]:
        deployment.start_node(owner)
    assert study.mean("age").n == 61


def ray_processes(deployment):
    return psutil.Process(deployment.processes["coordinator"].pid).children(recursive=True)


def start_again(deployment):
    start = len(deployment.log())
    deployment.start("coordinator")
    deployment.wait_for("started", None, start, seconds=90)


def test_a_coordinator_is_started_again_at_once_whatever_of_it_was_killed_and_old_nodes_make_way(deployment):
    """An old node mentions the head's address, and so do agents of a head that was killed; Ray starts none beside either."""
    left = ray_processes(deployment)
    deployment.kill("coordinator")
    start_again(deployment)
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in left)

    for killed in ("gcs_server", "raylet", ""):
        for process in ray_processes(deployment):
            if killed in process.name():
                process.kill()
        # A call of Ray's for a head that is gone would block for a minute.
        assert deployment.processes.pop("coordinator").wait(40) != 0
        start_again(deployment)

    for owner in OWNERS:
        assert deployment.processes.pop(f"{owner}-node").wait(40) != 0
        deployment.start_node(owner)
    assert deployment.connect().mean("bp").n == 93
    assert "no node" not in doctor(deployment)

    deployment.kill("south-node", signal.SIGTERM)
    (deployment.folder / "private/ray-nobody.pem").write_bytes((deployment.folder / "private/ray-south.pem").read_bytes())
    (deployment.folder / "private/ray-nobody.pem").chmod(0o600)
    deployment.launch_node("nobody", address("south"))
    deadline = time.monotonic() + 60
    while "label owner=nobody" not in (found := doctor(deployment)):
        assert time.monotonic() < deadline, found
    assert "no node" in found
    assert "start it: veilstat node --owner south" in found


def doctor(deployment):
    """What it says, in lines that are not broken."""
    command = [sys.executable, "-m", "veilstat", "doctor", "--config", "study.toml"]
    done = subprocess.run(command, cwd=deployment.folder, env=ENVIRONMENT | {"COLUMNS": "400"}, capture_output=True, text=True, timeout=120)
    return " ".join(done.stdout.split())
