"""Head, nodes and analyst on machines of their own, behind a firewall that opens what the table in docs/deployment.md lists: that is enough, and all of it is used.

Homomorphic, since ciphertexts are large enough for Ray's object managers.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.deployments import ENVIRONMENT, OWNERS, SCHEMA, TABLES, veilstat
from tests.namespaces import are_permitted, inside, namespaces
from veilstat.platform.deployment.coordinator_file import PORTS
from veilstat.platform.deployment.init import Layout, write_files

pytestmark = [pytest.mark.long, pytest.mark.skipif(not are_permitted(), reason="needs root, network namespaces and /dev/net/tun")]
HEAD, ANALYST = "10.77.0.1", "10.77.0.99"
NODES = {owner: f"10.77.0.{11 + place}" for place, owner in enumerate(OWNERS)}
TABLE = (Path(__file__).parent.parent / "docs/deployment.md").read_text()
GATEWAY, RAY = (int(re.search(pattern, TABLE)[1]) for pattern in (r"\| the gateway's, (\d+) \|", r"\| the head's, (\d+) \|"))
HEAD_PORTS, NODE_PORTS = (
    range(int(first), int(last) + 1)
    for first, last in (
        re.search(rf"\| {word}.*?(\d{{5}})-(\d{{5}})", TABLE).groups() for word in ("50 from `ports`", "50 from `veilstat node")
    )
)
ASK = """
import json, sys
import veilstat as vs
study = vs.connect(sys.argv[1], token=sys.argv[2], identity="private/analyst.pem", ca="private/authority.pem", timeout=60)
result = study.mean("bp")
print(json.dumps([result.estimate, list(result.contributors)]))
"""


def row(source, target, port):
    """Which line of the table permits a connection."""
    rows = {
        "gateway": source == ANALYST and target == HEAD and port == GATEWAY,
        "head": source in NODES.values() and target == HEAD and port == RAY,
        "head's others": source in NODES.values() and target == HEAD and port in HEAD_PORTS,
        "nodes'": source == HEAD and target in NODES.values() and port in NODE_PORTS,
    }
    return next((name for name, holds in rows.items() if holds), None)


def test_the_table_has_fifty_ports_for_each_machine():
    assert len(HEAD_PORTS) == len(NODE_PORTS) == PORTS


def prepare(folder, directory):
    layout = Layout(
        gateway=GATEWAY,
        head=RAY,
        ports=HEAD_PORTS[0],
        directory=f"{directory}/head",
        schema=SCHEMA,
        tables={name: f"{name}.csv" for name in OWNERS},
    )
    write_files(folder, "homomorphic", OWNERS, layout)
    study = folder / "study.toml"
    text = study.read_text().replace("127.0.0.1:", f"{HEAD}:").replace("127.0.0.2:", f"{HEAD}:")
    for place, owner in enumerate(OWNERS):
        text = re.sub(rf'^{owner} = "127.0.0.\d+"', f'{owner} = "{NODES[owner]}"', text, flags=re.MULTILINE)
        text = text.replace(f"{owner} = {HEAD_PORTS[0] + PORTS * (1 + place)}", f"{owner} = {NODE_PORTS[0]}")
        TABLES[owner].to_csv(folder / owner / f"{owner}.csv", index=False)
    study.write_text(text)
    for words in (("certificates", "--study", "study.toml", "--out", "private"), ("token", "alice", "--config", "study.toml")):
        done = veilstat(folder, *words)
        assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Machines:
    """Processes in namespaces, which end with the test."""

    def __init__(self, folder, names):
        self.folder, self.names, self.running = folder, names, []

    def start(self, name, *words):
        with open(self.folder / f"{name}.err", "a") as errors:
            command = [*inside(self.names[name]), sys.executable, "-m", "veilstat", *words]
            self.running.append(subprocess.Popen(command, cwd=self.folder, env=ENVIRONMENT, stdout=errors, stderr=errors))

    def wait_for(self, count, event):
        deadline = time.monotonic() + 180
        while len(found := [its for its in self.log() if its["event"] == event]) < count:
            assert time.monotonic() < deadline, (found, self.log(), [path.read_text()[-800:] for path in self.folder.glob("*.err")])
            time.sleep(0.2)

    def log(self):
        path = self.folder / "coordinator.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def end(self):
        for process in reversed(self.running):
            process.send_signal(signal.SIGTERM)
        for process in self.running:
            process.wait(30)


def test_what_the_table_opens_is_enough_and_all_of_it_is_used(tmp_path):
    directory = Path(f"/tmp/vn-{os.getpid()}")
    names = {name: f"vs-{os.getpid()}-{name}" for name in ("head", "analyst", *OWNERS)}
    token = prepare(tmp_path, directory)
    addresses = dict(zip(names.values(), (HEAD, ANALYST, *NODES.values()), strict=True))
    machines = Machines(tmp_path, names)
    with namespaces(addresses, lambda *its: row(*its) is not None) as router:
        try:
            for owner in OWNERS:
                machines.start(owner, "owner", "--config", f"{owner}/owner.toml")
            machines.start("head", "coordinator", "--config", "study.toml")
            machines.wait_for(1, "started")
            for owner in OWNERS:
                words = ["--address", NODES[owner], "--directory", f"{directory}/{owner}", "--ports", str(NODE_PORTS[0])]
                machines.start(owner, "node", "--owner", owner, "--head", f"{HEAD}:{RAY}", "--agent", f"{owner}/state/agent.sock", *words)
            machines.wait_for(3, "connected")
            ask = [*inside(names["analyst"]), sys.executable, "-c", ASK, f"https://{HEAD}:{GATEWAY}", token]
            done = subprocess.run(ask, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr
            estimate, contributors = json.loads(done.stdout)
            assert contributors == list(OWNERS)
            assert estimate == pytest.approx(pd.concat(TABLES.values())["bp"].mean(), rel=1e-14)
            doctor = subprocess.run(
                [*inside(names["head"]), sys.executable, "-m", "veilstat", "doctor", "--config", "study.toml"],
                cwd=tmp_path, env=ENVIRONMENT | {"COLUMNS": "300"}, capture_output=True, text=True, timeout=120,
            )  # fmt: skip
            assert doctor.returncode == 0, doctor.stdout
        finally:
            machines.end()
            shutil.rmtree(directory, ignore_errors=True)
    assert {row(*its) for its in router.begun} == {"gateway", "head", "head's others", "nodes'"}
    assert router.refused == set()
