"""What an owner's agent needs of the machine's memory does not grow with its table."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.deployments import ENVIRONMENT, Deployment

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

GROUP = 1 << 18
COLUMNS = ("x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8")
MIB = 1 << 20


def write(path, groups):
    """Uniform numbers on a lattice, 8 bytes each and not compressed; gives sums of what a test asks for."""
    schema = pa.schema([(name, pa.float64()) for name in COLUMNS])
    random, rows, totals = np.random.default_rng(3), 0, 0
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for _ in range(groups):
            block = random.integers(0, 1001, (GROUP, len(COLUMNS)))
            block[:, 2] = block[:, 0] + block[:, 1] // 2
            writer.write_table(pa.table(list(block.T / 10), schema=schema))
            rows, totals = rows + GROUP, totals + block[:, 0].sum()
    return rows, totals / 10


def peak(deployment, name):
    """Peak of resident memory in MiB; not getrusage's, which starts from that of the process which started this one."""
    status = Path(f"/proc/{deployment.processes[name].pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def run(folder, groups):
    """The agent's peak after a mean and a regression over a table of so many row groups, checked against plain sums."""
    deployment = Deployment(folder, progress=600)
    columns = "".join(f'[[columns]]\nkind = "continuous"\nname = "{name}"\nlower = 0\nupper = 200\nstep = 0.1\n' for name in COLUMNS)
    (folder / "schema.toml").write_text(f"max_rows = {1 << 28}\n{columns}")
    counts = []
    for name, its in {"north": groups, "south": 1, "west": 1}.items():
        counts.append(write(folder / f"{name}.parquet", its))
        path = folder / f"{name}.toml"
        path.write_text(path.read_text().replace(f"{name}.csv", f"{name}.parquet").replace("progress = 20", "progress = 600"))
    try:
        deployment.start("north", "south", "west", "coordinator")
        for name in ("north", "south", "west"):
            deployment.wait_for("connected", name, seconds=300)
        study = deployment.connect(timeout=900)
        rows, total = (sum(part) for part in zip(*counts, strict=True))
        assert study.mean("x1").estimate == pytest.approx(total / rows, rel=1e-12)
        assert study.linear_regression("x3 ~ x1 + x2").params["x1"] == pytest.approx(1, abs=1e-3)
        return peak(deployment, "north"), (folder / "north.parquet").stat().st_size / MIB
    finally:
        for name in list(deployment.processes):
            deployment.kill(name)


READ = """
import sys
from pathlib import Path
import veilstat as vs
from veilstat.platform.deployment.table_files import open_file
from veilstat.platform.streamed_table import StreamedTable

def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024

schema = vs.Schema(*(vs.Continuous(f"x{i}", lower=0, upper=200, step="0.1") for i in range(1, 9)), max_rows=1 << 28)
peaks = []
for path in map(Path, sys.argv[1:]):
    table = StreamedTable("north", open_file(path, schema), schema, b"secret")
    assert sum(count for count, _ in table.rows(tuple(column.name for column in schema)).blocks()) == len(table.rows(("x1",)))
    peaks.append(peak())
print(peaks[1] - peaks[0])
"""


def test_a_larger_table_needs_little_more_memory_than_a_small_one(tmp_path):
    write(tmp_path / "small.parquet", 1)
    write(tmp_path / "large.parquet", 4)
    command = [sys.executable, "-c", READ, str(tmp_path / "small.parquet"), str(tmp_path / "large.parquet")]
    growth = float(subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=120).stdout)
    assert (tmp_path / "large.parquet").stat().st_size / MIB > 60
    assert growth < 16


@pytest.mark.long
def test_a_gigabyte_of_parquet_is_answered_in_half_a_gigabyte(tmp_path):
    if shutil.disk_usage(tmp_path).free < 3 << 30:
        pytest.skip("this needs 3 GB of free disk")
    used, size = run(tmp_path, 62)
    assert size > 1e9 / MIB * 0.99
    sys.stdout.write(f"{size:.0f} MiB of Parquet, the agent at most {used:.0f} MiB\n")
    assert used < 500
