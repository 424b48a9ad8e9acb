"""Deployments of three owners on this machine: directories with certificates, and processes that end with the test."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np
import pandas as pd

import veilstat as vs
from tests.servers import ROOT, free_ports
from veilstat.platform.certificates import make_certificates
from veilstat.platform.deployment.tokens import issue_token
from veilstat.platform.deployment.transport_certificates import make_transport_certificates

OWNERS = ("north", "south", "west")
SECRET = 259.5
"""A value that stands in one row of one owner, and must stand in no log."""
TABLES = {
    name: pd.DataFrame({"bp": np.round(np.linspace(90, 170, 30 + place) * 2) / 2, "age": np.arange(30 + place) + 20})
    for place, name in enumerate(OWNERS)
}
TABLES["north"].loc[3, "bp"] = SECRET
SCHEMA = """
max_rows = 1000

[[columns]]
kind = "continuous"
name = "bp"
lower = 40
upper = 260
step = 0.5

[[columns]]
kind = "integer"
name = "age"
lower = 0
upper = 120
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def veilstat(folder, *words, **options):
    return subprocess.run(
        [sys.executable, "-m", "veilstat", *words], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, **options
    )


def certify(folder):
    make_certificates(folder / "study.toml", folder / "private", os.urandom)
    make_transport_certificates(folder / "study.toml", datetime.now(UTC), os.urandom)


class Deployment:
    """A folder with everything, and the processes that run from it."""

    def __init__(self, folder, architecture="masking", options="", progress=20.0):
        self.folder, self.processes = folder, {}
        servers = ("compute1", "compute2", "compute3") if architecture == "sharing" else ()
        self.port, *ports = free_ports(1 + len(servers))
        self.url = f"https://127.0.0.1:{self.port}"
        addresses = "".join(f'{name} = "127.0.0.1:{port}"\n' for name, port in zip(servers, ports, strict=True))
        sockets = "".join(f'{name} = "{name}/agent.sock"\n' for name in OWNERS)
        (folder / "schema.toml").write_text(SCHEMA)
        (folder / "study.toml").write_text(
            f'architecture = "{architecture}"\nschema = "schema.toml"\nowners = {list(OWNERS)}\n[{architecture}]\n{options}\n'
            f"[addresses]\n{addresses}\n[coordinator]\n"
            'roster = "private/roster.toml"\nidentity = "private/server.pem"\ncertificate = "private/gateway.pem"\n'
            f'tokens = "private/tokens.toml"\nlog = "coordinator.log"\nepoch = "epoch"\ngateway = "127.0.0.1:{self.port}"\nprogress = {progress}\n'
            f"[coordinator.sockets]\n{sockets}"
        )
        for name in OWNERS:
            (folder / name).mkdir(mode=0o700)
            TABLES[name].to_csv(folder / f"{name}.csv", index=False)
            (folder / f"{name}.toml").write_text(
                f'party = "{name}"\nstudy = "study.toml"\nroster = "private/roster.toml"\nidentity = "private/{name}.pem"\n'
                f'socket = "{name}/agent.sock"\nstate = "{name}"\nprogress = 20\n[table]\nfile = "{name}.csv"\n'
            )
        for name in servers:
            (folder / f"{name}-rows").mkdir(mode=0o700)
            (folder / f"{name}.toml").write_text(
                f'party = "{name}"\nstudy = "study.toml"\nroster = "private/roster.toml"\nidentity = "private/{name}.pem"\n'
                f'through = "server"\nuploads = "{name}-rows"\n[timeouts]\nreconnect = 1\nprogress = 6\n'
            )
        self.servers = servers
        certify(folder)
        self.token, self.other_token = (issue_token(folder / "private/tokens.toml", name, os.urandom) for name in ("alice", "bob"))

    def start(self, *names):
        for name in names:
            verb = "coordinator" if name == "coordinator" else "server" if name in self.servers else "owner"
            config = "study.toml" if name == "coordinator" else f"{name}.toml"
            with open(self.folder / f"{name}.err", "a") as errors:
                command = [sys.executable, "-m", "veilstat", verb, "--config", config]
                self.processes[name] = subprocess.Popen(command, cwd=self.folder, env=ENVIRONMENT, stderr=errors, stdout=errors)

    def kill(self, name, how=signal.SIGKILL):
        process = self.processes.pop(name)
        process.send_signal(how)
        process.wait(10)
        return process.returncode

    def wait_for(self, event, party, after=0, seconds=90.0):
        """Wait until the coordinator has logged this, behind the first ``after`` entries."""
        deadline = time.monotonic() + seconds
        while not any(entry["event"] == event and entry.get("party") == party for entry in self.log()[after:]):
            assert time.monotonic() < deadline, (event, party, self.log()[after:], self.errors())
            time.sleep(0.05)

    def wait_for_gateway(self, seconds=90.0):
        """Wait until somebody listens on the gateway's port."""
        deadline = time.monotonic() + seconds
        while True:
            with socket.socket() as its:
                if its.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert time.monotonic() < deadline, (self.log(), self.errors())
            time.sleep(0.05)

    def log(self, name="coordinator"):
        path = self.folder / ("coordinator.log" if name == "coordinator" else f"{name}/owner.log")
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def errors(self):
        return {path.name: path.read_text()[-2000:] for path in self.folder.glob("*.err") if path.stat().st_size}

    def connect(self, **changes):
        private = self.folder / "private"
        options = {"token": self.token, "identity": private / "analyst.pem", "ca": private / "authority.pem", "timeout": 60, **changes}
        return vs.connect(self.url, **options)


@contextmanager
def running(folder, *words, **options):
    """All processes of a deployment, each connected; what it wrote holds no value of a row."""
    its = Deployment(folder, *words, **options)
    try:
        its.start(*OWNERS, *its.servers, "coordinator")
        for name in (*OWNERS, *its.servers):
            its.wait_for("connected", name)
        yield its
        written = [path for path in folder.rglob("*") if path.suffix in (".log", ".err")]
        assert not any(str(SECRET) in path.read_text() for path in written)
    finally:
        for name in list(its.processes):
            its.kill(name, signal.SIGTERM)
        shutil.rmtree(folder, ignore_errors=True)
