"""Lines over Ray: relays on labelled nodes carry queries; relay, node and head are killed, and the next query works."""

import os
import signal
import subprocess
import sys
import threading
import time

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
        command = [sys.executable, "-m", "veilstat", "node", "--owner", owner, "--head", self.head, "--address", address(owner)]
        command += ["--agent", f"{owner}/agent.sock", "--directory", f"{self.directory}-{owner}"]
        start = len(self.log())
        with open(self.folder / f"{owner}-node.err", "a") as errors:
            self.processes[f"{owner}-node"] = subprocess.Popen(command, cwd=self.folder, env=ENVIRONMENT, stdout=errors, stderr=errors)
        self.wait_for("connected", owner, start, seconds=120)

    def relays(self, owner):
        """The processes of relays on an owner's node."""
        children = psutil.Process(self.processes[f"{owner}-node"].pid).children(recursive=True)
        return [process for process in children if "Relay" in " ".join(process.cmdline())]


def address(owner):
    return f"127.0.0.{31 + OWNERS.index(owner)}"


@pytest.fixture
def deployment(tmp_path):
    directory = f"/tmp/vr-{os.getpid()}"
    its = RayDeployment(tmp_path, directory)
    try:
        its.start(*OWNERS, "coordinator")
        its.wait_for("started", None, seconds=90)
        for owner in OWNERS:
            its.start_node(owner)
        yield its
    finally:
        for name in reversed(list(its.processes)):
            its.kill(name, signal.SIGTERM)
        subprocess.run(["rm", "-rf", directory, *(f"{directory}-{owner}" for owner in OWNERS)], check=True)


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
    assert deployment.processes.pop("coordinator").wait(60) != 0
    for owner in OWNERS:
        # Nodes whose head is gone; waits for ten seconds at most.
        deployment.kill(f"{owner}-node", signal.SIGTERM)
    start = len(deployment.log())
    deployment.start("coordinator")
    deployment.wait_for("started", None, start, seconds=90)
    for owner in OWNERS[:2]:
        deployment.start_node(owner)
    assert study.mean("age").n == 61
