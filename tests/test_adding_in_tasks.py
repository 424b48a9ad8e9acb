"""A whole deployment whose coordinator gives long vectors to Ray's tasks: they add them, and what a killed one had is added here."""

import os
import shutil
import signal
import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import psutil
import pytest

from tests import deployments
from tests.servers import ROOT, free_ports

pytestmark = pytest.mark.long
OWNERS = ("north", "south", "west", "east", "centre")
TABLES = {name: pd.DataFrame({"bp": np.full(3 + place, 100.0), "age": np.arange(3 + place) + 60}) for place, name in enumerate(OWNERS)}
TABLES["north"].loc[1, "bp"] = deployments.SECRET
LENGTH, POWER = 33_000, 32
PACKAGE = f"""
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from veilstat.language.step import Request, Step
from veilstat.statistics.results import Result

@dataclass(frozen=True)
class WidePowers:
    '''Sums of age to the power {POWER}, over those below each of {LENGTH} ages: elements of 256 bits.'''
    name: ClassVar[str] = "wide_powers"

    def columns(self, schema):
        return ("age",)

    def steps(self, schema):
        def contribution(rows, public):
            power = rows.column("age")
            for _ in range({POWER.bit_length() - 1}):
                power = power * power
            return {{"sums": (rows.column("age").less([place % 120 for place in range({LENGTH})]) * power).total()}}
        return (Step("sums", contribution, lambda totals, public: totals),)

    def run(self, schema):
        opened = yield Request("sums")
        return Result(title="wide powers", estimate=[int(total) for total in opened["sums"]], n=1, n_missing=0)

    def inferences(self, schema):
        return ("sums of powers",)
"""


def expected():
    """By Python's integers."""
    ages = [int(age) for table in TABLES.values() for age in table["age"]]
    below = [sum(age**POWER for age in ages if age < place) for place in range(120)]
    return [below[place % 120] for place in range(LENGTH)]


class WithTasks(deployments.Deployment):
    """Agents on this machine, and a head of Ray's that has two workers and no other node."""

    def __init__(self, folder, directory):
        super().__init__(folder, "masking", "colluding = 1", progress=60.0)
        (port,) = free_ports(1)
        path = folder / "study.toml"
        path.write_text(
            f'{path.read_text()}\n[coordinator.ray]\nhead = "127.0.0.2:{port}"\ntoken = "private/ray.token"\ncertificates = "private"\n'
            f'directory = "{directory}"\nworkers = 2\n'
        )
        for old in (folder / "private").iterdir():
            if old.name != "tokens.toml":
                old.unlink()
        deployments.certify(folder)

    def workers(self):
        """The processes in which tasks run; Ray's own agents are others."""
        children = psutil.Process(self.processes["coordinator"].pid).children(recursive=True)
        return [its for its in children if " ".join(its.cmdline()).startswith(("ray::IDLE", "ray::sum_of"))]

    def added(self):
        return [(entry["vectors"], entry["lost"]) for entry in self.log() if entry["event"] == "added_in_tasks"]


@pytest.fixture
def deployment(tmp_path, monkeypatch):
    package = tmp_path / "packages"
    (package / "wide-0.1.dist-info").mkdir(parents=True)
    (package / "wide.py").write_text(PACKAGE)
    (package / "wide-0.1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: wide\nVersion: 0.1\n")
    (package / "wide-0.1.dist-info/entry_points.txt").write_text("[veilstat.statistics]\nwide_powers = wide:WidePowers\n")
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.setattr(deployments, "ENVIRONMENT", {**deployments.ENVIRONMENT, "PYTHONPATH": f"{package}:{ROOT}"})
    monkeypatch.setattr(deployments, "OWNERS", OWNERS)
    monkeypatch.setattr(deployments, "TABLES", TABLES)
    directory = f"/tmp/vt-{os.getpid()}"
    (tmp_path / "study").mkdir()
    its = WithTasks(tmp_path / "study", directory)
    try:
        its.start(*OWNERS, "coordinator")
        for owner in OWNERS:
            its.wait_for("connected", owner)
        yield its
    finally:
        for name in reversed(list(its.processes)):
            its.kill(name, signal.SIGTERM)
        shutil.rmtree(directory, ignore_errors=True)


def wait_until(is_true, seconds=60):
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_tasks_add_long_vectors_and_a_killed_one_changes_nothing(deployment):
    from wide import WidePowers

    study = deployment.connect(timeout=120)
    plan = study.plan(WidePowers())
    assert plan.ring_bits == 256
    result = study.run(WidePowers())
    assert result.estimate == expected()
    assert result.contributors == tuple(sorted(OWNERS))
    assert deployment.added() == [(4, 0)]
    assert study.status()["bytes"]["north"] >= LENGTH * 32

    wait_until(deployment.workers)
    for worker in deployment.workers():
        worker.suspend()
    killed = []
    killer = threading.Thread(target=kill_workers_in_the_query, args=(deployment, len(deployment.log()), killed))
    killer.start()
    assert study.run(WidePowers()).estimate == expected()
    killer.join()
    assert deployment.added() == [(4, 0), (0, 4)]
    noticed = next(entry["time"] for entry in reversed(deployment.log()) if entry["event"] == "added_in_tasks")
    assert datetime.fromisoformat(noticed) - killed[0] < timedelta(seconds=4)

    mean = study.mean("age")
    assert mean.estimate == pytest.approx(pd.concat(TABLES.values())["age"].mean(), rel=1e-14)
    assert mean.n == sum(map(len, TABLES.values()))


def kill_workers_in_the_query(deployment, before, killed):
    """While the coordinator waits for the task, which is stopped: it answers nobody meanwhile, for ten seconds at most."""
    deployment.wait_for("query", "server", before)
    wait_until(lambda: not answers(deployment.port))
    assert deployment.added() == [(4, 0)]
    for worker in deployment.workers():
        worker.kill()
    killed.append(datetime.now(UTC))


def answers(port):
    """Whether the coordinator's gateway says anything within a second."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as its, context.wrap_socket(its):
            return True
    except TimeoutError:
        return False
