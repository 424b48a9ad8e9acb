"""A malicious Ray job runs on an owner's node under the relay's account; the agent has another. It reaches no row, key or answer."""

import grp
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.deployments import ENVIRONMENT, SECRET, Deployment
from tests.servers import free_ports
from tests.test_owner_agent import Caller, analyst, proposal
from veilstat.platform.deployment.authority import issue_certificate
from veilstat.platform.deployment.coordinator_file import RayFile
from veilstat.platform.deployment.ray_cluster import head_command, node_command, node_environment, plain_environment, ray_environment
from veilstat.platform.deployment.transport_certificates import head_certificate, node_certificate
from veilstat.platform.durable import replace_file
from veilstat.protocol.envelope import Envelope
from veilstat.transports.address import Address

NOBODY = 65534
HEAD, NODE = "127.0.0.2", "127.0.0.11"
JOB = """
import json, os, socket, sys
import ray
ray.init(address=sys.argv[1], _node_ip_address="127.0.0.2", log_to_driver=False, configure_logging=False)

@ray.remote(label_selector={"owner": "north"}, num_cpus=0, max_retries=0)
def attack(folder, agent, forged):
    found = {}
    def attempt(name, act):
        try:
            found[name] = repr(act())
        except OSError as error:
            found[name] = type(error).__name__
    for name in ("north.csv", "private/north.pem", "north/owner.log", "north/sessions", "north/openings", "north/ledger"):
        attempt(name, lambda: open(f"{folder}/{name}", "rb").read())
        attempt(f"write {name}", lambda: open(f"{folder}/{name}", "ab").close())
    attempt("state", lambda: os.listdir(f"{folder}/north"))
    for part in ("mem", "environ", "maps", "fd"):
        attempt(f"process {part}", lambda: os.listdir(f"/proc/{agent}/fd") if part == "fd" else open(f"/proc/{agent}/{part}", "rb").read(16))
    attempt("signal", lambda: os.kill(agent, 9))
    def connect(path, frame):
        with socket.socket(socket.AF_UNIX) as its:
            its.connect(path)
            its.settimeout(2)
            its.recv(1 << 16)
            its.sendall(len(frame).to_bytes(4, "little") + frame)
            return its.recv(1 << 16)
    attempt("person", lambda: connect(f"{folder}/north/approvals.sock", b"{}"))
    attempt("forged", lambda: connect(os.environ["VEILSTAT_AGENT_SOCKET"], forged))
    found["uid"] = os.getuid()
    found["environment"] = sorted(os.environ.values())
    return found

forged = bytes.fromhex(sys.argv[4])
print(json.dumps(ray.get(attack.remote(sys.argv[2], int(sys.argv[3]), forged), timeout=60)))
"""


def permitted():
    if os.getuid() != 0:
        return False
    try:
        return (
            subprocess.run(
                [sys.executable, "-c", "import ray"], user=NOBODY, env={"PATH": os.environ["PATH"]}, capture_output=True
            ).returncode
            == 0
        )
    except OSError:
        return False


pytestmark = [pytest.mark.long, pytest.mark.skipif(not permitted(), reason="needs root, and an interpreter that another account may run")]


@pytest.fixture
def folder():
    its = Path(tempfile.mkdtemp(prefix="vs-"))
    its.chmod(0o755)
    yield its
    shutil.rmtree(its)


def wait_for_listener(address, seconds=60.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(OSError):
            socket.create_connection((address.host, address.port), timeout=1).close()
            return
        time.sleep(0.1)
    raise AssertionError(f"nobody listens at {address}")


@pytest.fixture
def deployment(folder):
    """North's agent, whose socket relays may reach; everything that runs ends with the test."""
    its = Deployment(folder)
    (folder / "north.csv").chmod(0o600)
    (folder / "sockets").mkdir(mode=0o755)
    path = folder / "north.toml"
    path.write_text(f'relays = "{grp.getgrgid(NOBODY).gr_name}"\n' + path.read_text().replace("north/agent.sock", "sockets/agent.sock"))
    its.start("north")
    yield its
    for name in list(its.processes):
        its.kill(name)


def run_job(deployment, forged):
    """What a job finds on north's node: a head, the node and the job run under the relay's account."""
    folder, (port,) = deployment.folder, free_ports(1)
    private, ray_files = folder / "private", folder / "ray"
    ray_files.mkdir()
    cluster = RayFile(Address(HEAD, port), private / "ray.token", {"north": NODE}, private, ray_files / "r")
    certify_ray(deployment, cluster)
    environment = plain_environment({**ENVIRONMENT, "HOME": str(ray_files), "DATABASE_PASSWORD": str(SECRET)})
    of_head = {**environment, **ray_environment(head_certificate(private), private / "authority.pem", private / "ray.token")}
    of_node = {**environment, **node_environment("north", private, private / "ray.token", folder / "sockets/agent.sock")}
    for path in (*(private / name for name in ("ray-head.pem", "ray-north.pem", "ray.token")), ray_files):
        os.chown(path, NOBODY, NOBODY)
    account = {"user": NOBODY, "group": NOBODY, "cwd": ray_files}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **account}
    deployment.processes["head"] = subprocess.Popen(head_command(cluster), env=of_head, **quiet)
    wait_for_listener(cluster.head)
    deployment.processes["node"] = subprocess.Popen(node_command("north", cluster.head, NODE, ray_files / "n", None), env=of_node, **quiet)
    (ray_files / "job.py").write_text(JOB)
    words = [str(cluster.head), str(folder), str(deployment.processes["north"].pid), forged.hex()]
    command = [sys.executable, "job.py", *words]
    done = subprocess.run(command, env=of_head, capture_output=True, text=True, timeout=120, **account)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_job_under_the_relay_s_account_reaches_nothing_of_the_owner(deployment):
    (forged,) = proposal(analyst(deployment, name="server"))
    found = run_job(deployment, forged)
    assert found.pop("uid") == NOBODY
    assert not any(str(SECRET) in value for value in found.pop("environment"))
    assert found.pop("forged") == "TimeoutError"
    assert found
    assert set(found.values()) == {"PermissionError"}, found
    caller = Caller(deployment, place="sockets")
    caller.say(*proposal(analyst(deployment)))
    assert Envelope.decode(caller.hear()).round == "approve"
    caller.socket.close()


def certify_ray(deployment, cluster):
    """Certificates of the head and one node, by the authority that is there."""
    private, now = deployment.folder / "private", datetime.now(UTC)
    issue_certificate(private, head_certificate(private), [HEAD], now)
    issue_certificate(private, node_certificate(private, "north"), [NODE], now)
    replace_file(cluster.token, os.urandom(32).hex().encode())
