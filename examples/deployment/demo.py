"""Five insurers on five nodes, one machine: head, agents, Ray nodes and gateway as processes; one node is killed in mid-query, or all owners leave."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

import veilstat as vs
from veilstat.platform.deployment.init import Layout, write_files

INSURERS = Path(__file__).parent.parent / "insurers"
OWNERS = ("alder", "birch", "cedar", "dogwood", "elm")
FORMULA = "mdvis ~ lncoins + disea"
NOISE = vs.Gaussian(epsilon=1.0, delta=1e-6)


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
        place = ["--directory", f"{self.folder.parent}/{owner}", "--ports", str(20_050 + 50 * OWNERS.index(owner))]
        self.start(f"{owner}-node", "node", "--owner", owner, "--head", "127.0.0.2:6390", "--address", address, "--agent", agent, *place)


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


def say(text):
    print(f"  {text}", flush=True)


def ask(study, formula):
    """The exact answer, if there is one, beside that of the pooled rows, which only this demonstration can see."""
    began = time.perf_counter()
    try:
        result = study.linear_regression(formula)
    except vs.VeilstatError as error:
        say(f"  {formula}: no answer, {type(error).__name__} after {time.perf_counter() - began:.1f} s")
        say(textwrap.fill(str(error), 110, initial_indent="    ", subsequent_indent="      "))
        return None
    say(f"  {formula}: n = {result.n:,} over {', '.join(result.contributors)}")
    for name, value in result.params.items():
        say(f"    {name:12}{value:14.8f} +/- {result.bse[name]:.8f}")
    difference = np.abs(result.params.to_numpy() - pooled(formula, result.contributors)).max()
    say(
        f"    {time.perf_counter() - began:.1f} s, {result.cost.bytes_per_owner:,} bytes for an owner; the pooled rows differ by {difference:.0e}"
    )
    if difference > 1e-4:
        raise SystemExit("this is not the answer of the pooled rows")
    return result


def pooled(formula, owners):
    """Coefficients by numpy over the rows of these owners in one table."""
    response, terms = formula.split(" ~ ")
    rows = pd.concat(pd.read_csv(INSURERS / f"data/{owner}.csv") for owner in owners)
    design = np.column_stack([np.ones(len(rows)), *(rows[name] for name in terms.split(" + "))])
    return np.linalg.lstsq(design, rows[response].to_numpy(), rcond=None)[0]


@contextmanager
def deployed(architecture, folder, entry):
    """Everybody connected: the processes, and two analysts' studies."""
    tables = {owner: str(INSURERS / f"data/{owner}.csv") for owner in OWNERS}
    layout = Layout(directory=f"{folder.parent}/ray", tables=tables, schema=(INSURERS / "schema.toml").read_text())
    write_files(folder, architecture, OWNERS, layout, entry)
    command(folder, "certificates", "--study", "study.toml", "--out", "private")
    tokens = [command(folder, "token", name, "--config", "study.toml").strip() for name in ("alice", "watcher")]
    servers = ("compute1", "compute2", "compute3") if architecture == "sharing" else ()
    with Processes(folder) as processes:
        for owner in OWNERS:
            processes.start(owner, "owner", "--config", f"{owner}/owner.toml")
        for server in servers:
            processes.start(server, "server", "--config", f"{server}.toml")
        processes.start("coordinator", "coordinator", "--config", "study.toml")
        say(f"starting Ray's head and the gateway, {len(OWNERS)} owners' agents" + (f", {len(servers)} compute servers" if servers else ""))
        wait_for("the gateway", lambda: "started" in log(folder), processes)
        say("starting the owners' Ray nodes, all at once")
        for owner in OWNERS:
            processes.start_node(owner)
        wait_for("a connection to everybody", lambda: connected(folder, tokens[0]) >= {*OWNERS, *servers}, processes)
        yield processes, *(connect(folder, token) for token in tokens)


def lose_elm(architecture, folder):
    """Whether elm is back in the answer after its node was killed in the middle of a query."""
    print(f"\n{architecture}", flush=True)
    with deployed(architecture, folder, "totals") as (processes, study, watcher):
        say("everybody is connected; the analyst asks over HTTPS")
        killer = threading.Thread(target=kill_elm, args=(architecture, processes, watcher))
        killer.start()
        ask(study, FORMULA)
        killer.join()
        processes.running["elm"].send_signal(signal.SIGCONT)
        say("elm's node is started again:")
        processes.start_node("elm")
        wait_for("elm's return", lambda: "elm" in watcher.status()["connected"], processes)
        again = ask(study, FORMULA)
        if again is None:
            say("every exact answer counts rows, and one over four owners beside one over five would tell elm's. With noise none does:")
            again = study.mean("mdvis", privacy=NOISE)
            say(f"  mean of mdvis with epsilon = 1: {again.estimate:.4f} +/- {again.std_error:.4f} over {', '.join(again.contributors)}")
        return again is not None and again.contributors == OWNERS


def stay_away(folder):
    """Whether all owners are in the answer although none of them is there."""
    print("\nsharing, rows shared once", flush=True)
    with deployed("sharing", folder, "rows") as (processes, study, watcher):
        for owner in OWNERS:
            *_, shared = command(folder, "rows", "share", "--config", f"{owner}/owner.toml").splitlines()
            say(f"{owner}: {shared}")
        for owner in OWNERS:
            processes.running[owner].terminate()
            processes.running[f"{owner}-node"].terminate()
        wait_for("the owners' leaving", lambda: not {*OWNERS} & {*watcher.status()["connected"]}, processes)
        say("all owners are away; the analyst asks the servers")
        result = ask(study, FORMULA)
        return result is not None and result.contributors == OWNERS


def kill_elm(architecture, processes, study):
    """End elm's node with SIGKILL while a query runs: where owners made a key together, once elm holds a share of it; else before elm has answered."""
    if architecture == "homomorphic":
        while study.status()["round"] not in ("input", "decrypt"):
            time.sleep(0.02)
        processes.running["elm"].send_signal(signal.SIGSTOP)
    else:
        processes.running["elm"].send_signal(signal.SIGSTOP)
        while study.status()["query"] is None:
            time.sleep(0.02)
    say(f"a query runs ({study.status()['round'] or 'approval'}), and elm's node is killed with SIGKILL:")
    processes.running["elm-node"].kill()


def log(folder):
    path = folder / "coordinator.log"
    return path.read_text() if path.exists() else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stories", nargs="*", default=["masking", "sharing", "homomorphic", "rows"])
    for story in parser.parse_args().stories:
        folder = Path(tempfile.mkdtemp(prefix="vs-"))
        try:
            if not (stay_away(folder / story) if story == "rows" else lose_elm(story, folder / story)):
                raise SystemExit(f"{story}: an owner was missing in the last query")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    print("\nEvery answer was that of the contributors' pooled rows, and nobody saw a row of another.")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
