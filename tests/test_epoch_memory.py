"""How much memory an epoch takes in a deployment: uploads that fill several pieces, of which no process holds more copies than it must."""

import numpy as np
import pandas as pd
import pytest

from tests.deployments import OWNERS, Deployment
from tests.test_deployment_encrypted_rows import OPTIONS, make_key

ROWS, COLUMNS = 20_000, 10
MIB = 1 << 20


def peak(process):
    """MiB that a process had at most, with what it maps from disk."""
    with open(f"/proc/{process.pid}/status") as status:
        [line] = [line for line in status if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


@pytest.mark.long
def test_beside_what_any_epoch_takes_nobody_holds_two_copies_of_all_uploads(tmp_path, capsys):
    deployment = Deployment(tmp_path, "homomorphic", OPTIONS, progress=300.0)
    names = [f"x{place}" for place in range(COLUMNS)]
    (tmp_path / "schema.toml").write_text(
        f"max_rows = {ROWS}\n" + "".join(f'[[columns]]\nkind = "integer"\nname = "{name}"\nlower = 0\nupper = 1000\n' for name in names)
    )
    draw = np.random.default_rng(1)
    tables = {owner: pd.DataFrame(draw.integers(0, 1001, (ROWS, COLUMNS)), columns=names) for owner in OWNERS}
    for owner, table in tables.items():
        table.to_csv(tmp_path / f"{owner}.csv", index=False)
    try:
        deployment.start(*OWNERS, "coordinator")
        for name in OWNERS:
            deployment.wait_for("connected", name)
        before = {name: peak(process) for name, process in deployment.processes.items()}
        make_key(deployment)
        after = {name: peak(process) for name, process in deployment.processes.items()}
        uploads = (tmp_path / "epoch/epoch").stat().st_size / MIB
        answer = deployment.connect().covariance(names).estimate
        assert np.allclose(answer, np.cov(np.concatenate(list(tables.values())).T), rtol=1e-9)
        with capsys.disabled():
            print(f"\nuploads {uploads:.0f} MiB; peak before and after, MiB:")
            for name in after:
                print(f"{name}: {before[name]:.0f} {after[name]:.0f}, {(after[name] - before[name]) / uploads:.1f} times the uploads")
        assert all(after[name] - before[name] < 1.3 * uploads + 350 for name in after)
    finally:
        for name in list(deployment.processes):
            deployment.kill(name)
