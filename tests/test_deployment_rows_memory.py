"""A large table passes through the coordinator without being kept there, and through a server plane by plane."""

import signal
import sys
import threading

import numpy as np
import pandas as pd
import pytest

from tests.deployments import OWNERS, SCHEMA, Deployment
from tests.test_deployment_rows import OPTIONS, SERVERS
from veilstat.platform.deployment.approvals_socket import send_errand

ROWS = 3_000_000


def peak(deployment, name):
    """MiB that a process has had at most."""
    with open(f"/proc/{deployment.processes[name].pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


@pytest.mark.long
def test_a_large_table_is_not_kept_where_it_passes(tmp_path):
    deployment = Deployment(tmp_path, "sharing", OPTIONS)
    (tmp_path / "schema.toml").write_text(SCHEMA.replace("max_rows = 1000", f"max_rows = {ROWS}"))
    ages = np.arange(ROWS, dtype=np.int64) % 100
    pd.DataFrame({"bp": 60.0 + ages, "age": ages}).to_parquet(tmp_path / "north.parquet")
    config = (tmp_path / "north.toml").read_text().replace("north.csv", "north.parquet")
    (tmp_path / "north.toml").write_text(config.replace("progress = 20", "progress = 200"))
    for name in SERVERS:
        path = tmp_path / f"{name}.toml"
        path.write_text(path.read_text().replace("progress = 6", "progress = 200"))
    try:
        deployment.start(*OWNERS, *SERVERS, "coordinator")
        for name in (*OWNERS, *SERVERS):
            deployment.wait_for("connected", name)
        before = {name: peak(deployment, name) for name in ("north", *SERVERS, "coordinator")}
        compute1, heard = deployment.processes["compute1"], []

        def say(text):
            if not heard:
                compute1.send_signal(signal.SIGSTOP)
                threading.Timer(5, compute1.send_signal, (signal.SIGCONT,)).start()
            heard.append(text)

        send_errand(str(tmp_path / "north/approvals.sock"), "share", say)
        assert "declared as 3,000,000" in heard[-1]
        grown = {name: round(peak(deployment, name) - before[name]) for name in before}
        uploaded = sum(path.stat().st_size for path in (tmp_path / "compute1-rows").iterdir()) >> 20
        sys.stdout.write(f"MiB more at most: {grown}; {uploaded} MiB lie at each server, a plane has {ROWS * 16 >> 20}\n")
        # A plane that the stopped server leaves unread would be half as much again.
        assert grown["coordinator"] < 30
        assert all(grown[name] < uploaded for name in SERVERS)
    finally:
        for name in list(deployment.processes):
            deployment.kill(name, signal.SIGTERM)
