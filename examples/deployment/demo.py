"""Five insurers on five nodes, one machine: head, agents, Ray nodes and gateway as processes; one node is killed in mid-query."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import veilstat as vs
from veilstat.platform.deployment.init import Layout, write_files

INSURERS = Path(__file__).parent.parent / "insurers"
OWNERS = ("alder", "birch", "cedar", "dogwood", "elm")
FORMULA = "mdvis ~ lncoins + disea"


class Processes:
    """What runs, by name; all of it ends with the demonstration."""

    def __init__(self, folder):
        self.folder, self.running = folder, {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.running.values()):
            process.terminate()
        for process in self.running.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()

    def start(self, name, *words):
        with open(self.folder / f"{name}.out", "a") as out:
            command = [sys.executable, "-m", "veilstat", *words]
            self.running[name] = subprocess.Popen(command, cwd=self.folder, stdout=out, stderr=out)

    def start_node(self, owner):
        address = f"127.0.0.{11 + OWNERS.index(owner)}"
        agent = f"{owner}/state/agent.sock"
        self.start(f"{owner}-node", "node", "--owner", owner, "--head", "127.0.0.2:6390", "--address", address, "--agent", agent)


def command(folder, *words):
    return subprocess.run([sys.executable, "-m", "veilstat", *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def wait_for(what, is_true, processes, seconds=240):
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            texts = [f"{path.name}: {path.read_text()[-800:]}" for path in processes.folder.glob("*.out")]
            raise SystemExit(f"{what} did not happen within {seconds} seconds\n" + "\n".join(texts))
        time.sleep(0.2)


def connect(folder, token):
    private = folder / "private"
    return vs.connect("https://127.0.0.1:8443", token=token, identity=private / "analyst.pem", ca=private / "authority.pem")


def connected(folder, token):
    try:
        return set(connect(folder, token).status()["connected"])
    except vs.VeilstatError:
        return set()


def ask(study):
    began = time.perf_counter()
    try:
        result = study.linear_regression(FORMULA)
    except vs.VeilstatError as error:
        print(f"    {type(error).__name__}: {error}")
        return None
    seconds = time.perf_counter() - began
    coefficients = ", ".join(f"{name} {value:.6f}" for name, value in result.params.items())
    print(
        f"    {coefficients}; n = {result.n:,}; {', '.join(result.contributors)}; {seconds:.2f} s, {result.cost.bytes_per_owner:,} bytes for an owner"
    )
    return result


def run(architecture, folder):
    print(f"\n{architecture}: writing files and certificates", flush=True)
    tables = {owner: str(INSURERS / f"data/{owner}.csv") for owner in OWNERS}
    layout = Layout(directory=f"{folder.parent}/ray", tables=tables, schema=(INSURERS / "schema.toml").read_text())
    write_files(folder, architecture, OWNERS, layout)
    command(folder, "certificates", "--study", "study.toml", "--out", "private")
    token = command(folder, "token", "alice", "--config", "study.toml").strip()
    servers = ("compute1", "compute2", "compute3") if architecture == "sharing" else ()
    with Processes(folder) as processes:
        for owner in OWNERS:
            processes.start(owner, "owner", "--config", f"{owner}/owner.toml")
        for server in servers:
            processes.start(server, "server", "--config", f"{server}.toml")
        processes.start("coordinator", "coordinator", "--config", "study.toml")
        wait_for("the gateway", lambda: "started" in log(folder), processes)
        for owner in OWNERS:
            processes.start_node(owner)
            wait_for(f"a connection to {owner}", lambda owner=owner: owner in connected(folder, token), processes)
        wait_for("a connection to every server", lambda: connected(folder, token) >= {*OWNERS, *servers}, processes)
        study = connect(folder, token)
        print("  elm's agent is held, a query begins, and a second later elm's node is killed with SIGKILL:", flush=True)
        processes.running["elm"].send_signal(signal.SIGSTOP)
        killer = threading.Timer(1.0, processes.running["elm-node"].kill)
        killer.start()
        without = ask(study)
        killer.join()
        processes.running["elm"].send_signal(signal.SIGCONT)
        print(
            "  elm's node is started again, and the query is asked afresh; where it was answered without elm, owners protect elm's rows:",
            flush=True,
        )
        processes.start_node("elm")
        wait_for("elm's return", lambda: "elm" in connected(folder, token), processes)
        again = ask(study)
        return check(without, OWNERS[:-1]) and check(again, OWNERS) and (without is not None or again is not None)


def check(result, owners):
    """An answer is that of the pooled rows, which only this demonstration can see; a refusal is none."""
    if result is None:
        return True
    import numpy as np
    import pandas as pd

    rows = pd.concat(pd.read_csv(INSURERS / f"data/{owner}.csv") for owner in owners)
    design = np.column_stack([np.ones(len(rows)), rows["lncoins"], rows["disea"]])
    expected = np.linalg.lstsq(design, rows["mdvis"].to_numpy(), rcond=None)[0]
    return result.contributors == owners and np.allclose(result.params, expected, rtol=1e-4)


def log(folder):
    path = folder / "coordinator.log"
    return path.read_text() if path.exists() else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("architectures", nargs="*", default=["masking", "sharing", "homomorphic"])
    for architecture in parser.parse_args().architectures:
        folder = Path(tempfile.mkdtemp(prefix="vs-"))
        try:
            if not run(architecture, folder / architecture):
                raise SystemExit(f"{architecture}: an answer is not that of the pooled rows")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    print("\nEvery answer was that of the contributors' pooled rows.")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
