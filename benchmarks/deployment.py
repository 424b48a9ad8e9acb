"""Latency of a protocol round in a deployment beside the embedded study: five owners' processes, by sockets, and over Ray.

    OMP_NUM_THREADS=1 python -m benchmarks.deployment                 # agents by their sockets
    OMP_NUM_THREADS=1 python -m benchmarks.deployment --ray           # agents behind relays on Ray nodes
    OMP_NUM_THREADS=1 python -m benchmarks.deployment --adding 1000   # so many masked vectors of 64 bits, added here and in Ray's tasks

Seconds are the analyst's, divided by the rounds that took place; bytes are the busiest owner's, measured at the coordinator.
``--adding`` shows, for vectors of 1e6 elements (a tenth as many where elements are wider), the coordinator's CPU time for a
vector without and with tasks, the workers' CPU seconds, how much of what owners send by plan was sent on to workers, and wall
time beside adding here.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import ray

import veilstat as vs
from examples.deployment.demo import INSURERS, OWNERS, Processes, command, connect, connected, wait_for
from veilstat.architectures.addition import SumHere
from veilstat.arithmetic.rings import Ring
from veilstat.platform.deployment.init import Layout, write_files
from veilstat.platform.deployment.ray_addition import RayTasks, SumInTasks, sum_of
from veilstat.platform.deployment.ray_cluster import OBJECT_STORE_BYTES

QUERIES = 30


def prepare(folder: Path, over_ray: bool) -> Any:
    tables = {owner: str(INSURERS / f"data/{owner}.csv") for owner in OWNERS}
    layout = Layout(directory=f"{folder.parent}/ray", tables=tables, schema=(INSURERS / "schema.toml").read_text())
    write_files(folder, "masking", OWNERS, layout)
    study = folder / "study.toml"
    if not over_ray:
        sockets = "".join(f'{owner} = "{owner}/state/agent.sock"\n' for owner in OWNERS)
        study.write_text(study.read_text().split("# [coordinator.sockets]")[0] + f"[coordinator.sockets]\n{sockets}")
    command(folder, "certificates", "--study", "study.toml", "--out", "private")
    return command(folder, "token", "bench", "--config", "study.toml").strip()


def measure(study: Any) -> tuple[float, Any]:
    seconds = []
    for _ in range(QUERIES):
        began = time.perf_counter()
        result = study.linear_regression("mdvis ~ lncoins + disea")
        seconds.append((time.perf_counter() - began) / result.cost.rounds)
    return statistics.median(seconds), result.cost


class Counting(RayTasks):
    """Counts what workers are sent."""

    sent = 0

    def start(self, ring: Ring, vectors: list[memoryview]) -> Future[memoryview]:
        Counting.sent += sum(map(len, vectors))
        return super().start(ring, vectors)


def add(its: SumHere | SumInTasks, vectors: list[bytes], count: int) -> tuple[Any, float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    for place in range(count):
        its.add(memoryview(vectors[place % len(vectors)]))
    total = its.total()
    return total, time.process_time() - cpu, time.perf_counter() - wall


def workers_cpu() -> dict[int, float]:
    """CPU seconds of each worker that Ray has started for this process, by its number."""
    workers = [its for its in psutil.Process().children(recursive=True) if " ".join(its.cmdline()).startswith(("ray::IDLE", "ray::sum_of"))]
    return {its.pid: sum(its.cpu_times()[:2]) for its in workers}


def measure_adding(most: int, length: int = 10**6) -> None:
    for workers in (1, 2):
        folder = tempfile.mkdtemp(prefix="r", dir="/tmp")
        options: dict[str, Any] = {
            "include_dashboard": False,
            "log_to_driver": False,
            "configure_logging": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
        ray.init(num_cpus=workers, _temp_dir=folder, **options)
        try:
            task: Any = ray.remote(sum_of)
            ray.get([task.remote(64, np.zeros(8, np.uint8)) for _ in range(workers)])
            for bits in (64, 128, 192, 256):
                ring, count = Ring(bits), most if bits == 64 else -(-most // 10)
                vectors = [os.urandom(length * ring.element_bytes) for _ in range(4)]
                expected, cpu, wall = add(SumHere(ring, length), vectors, count)
                before, Counting.sent = workers_cpu(), 0
                total, its_cpu, its_wall = add(SumInTasks(Counting(workers), ring, length, lambda added, lost: None), vectors, count)
                assert np.array_equal(total, expected)
                theirs = [seconds - before.get(worker, 0) for worker, seconds in workers_cpu().items()]
                planned = count * length * ring.element_bytes
                print(
                    f"| {bits} | {count:,} | {workers} | {1e3 * cpu / count:.1f} ms | {1e3 * its_cpu / count:.1f} ms "
                    f"| {' + '.join(f'{seconds:.1f}' for seconds in sorted(theirs) if seconds > 0.05)} s "
                    f"| {Counting.sent / 1e6:,.0f} of {planned / 1e6:,.0f} MB | {its_wall / wall:.2f} |",
                    flush=True,
                )
        finally:
            ray.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--adding", type=int, metavar="VECTORS")
    options = parser.parse_args()
    if options.adding:
        measure_adding(options.adding)
    else:
        measure_rounds(options.ray)


def measure_rounds(over_ray: bool) -> None:
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
