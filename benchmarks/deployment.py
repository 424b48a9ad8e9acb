"""Latency of a protocol round in a deployment beside the embedded study: five owners' processes, by sockets, and over Ray.

    PYTHONPATH=. python benchmarks/deployment.py            # agents by their sockets
    PYTHONPATH=. python benchmarks/deployment.py --ray      # agents behind relays on Ray nodes

Seconds are the analyst's, divided by the rounds that took place; bytes are the busiest owner's, measured at the coordinator.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import pandas as pd

import veilstat as vs
from examples.deployment.demo import INSURERS, OWNERS, Processes, command, connect, connected, wait_for
from veilstat.platform.deployment.init import Layout, write_files

QUERIES = 30


def prepare(folder, over_ray):
    tables = {owner: str(INSURERS / f"data/{owner}.csv") for owner in OWNERS}
    layout = Layout(directory=f"{folder.parent}/ray", tables=tables, schema=(INSURERS / "schema.toml").read_text())
    write_files(folder, "masking", OWNERS, layout)
    study = folder / "study.toml"
    if not over_ray:
        sockets = "".join(f'{owner} = "{owner}/state/agent.sock"\n' for owner in OWNERS)
        study.write_text(study.read_text().split("# [coordinator.sockets]")[0] + f"[coordinator.sockets]\n{sockets}")
    command(folder, "certificates", "--study", "study.toml", "--out", "private")
    return command(folder, "token", "bench", "--config", "study.toml").strip()


def measure(study):
    seconds = []
    for _ in range(QUERIES):
        began = time.perf_counter()
        result = study.linear_regression("mdvis ~ lncoins + disea")
        seconds.append((time.perf_counter() - began) / result.cost.rounds)
    return statistics.median(seconds), result.cost


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ray", action="store_true")
    over_ray = parser.parse_args().ray
    folder = Path(tempfile.mkdtemp(prefix="vs-")) / "study"
    try:
        token = prepare(folder, over_ray)
        with Processes(folder) as processes:
            for owner in OWNERS:
                processes.start(owner, "owner", "--config", f"{owner}/owner.toml")
            processes.start("coordinator", "coordinator", "--config", "study.toml")
            for owner in OWNERS:
                if over_ray:
                    processes.start_node(owner)
                wait_for(f"a connection to {owner}", lambda owner=owner: owner in connected(folder, token), processes)
            study = connect(folder, token)
            tables = {owner: pd.read_csv(INSURERS / f"data/{owner}.csv") for owner in OWNERS}
            embedded = vs.simulate(tables, study.schema, vs.Masking(colluding=1))
            for name, its in (("embedded", embedded), ("over Ray" if over_ray else "by sockets", study)):
                seconds, cost = measure(its)
                planned = its.plan(vs.LinearRegression("mdvis ~ lncoins + disea")).bytes_per_owner
                print(f"{name:10}  {1e3 * seconds:6.1f} ms a round  {cost.bytes_per_owner:,} bytes for an owner, {planned:,} planned")
    finally:
        shutil.rmtree(folder.parent, ignore_errors=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
