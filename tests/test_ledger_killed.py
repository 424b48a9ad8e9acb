"""Ledgers in real processes that are killed, by SIGKILL, before and after every call to the system that keeps them."""

import os
import signal
import sys
from fractions import Fraction

import pandas as pd
import pytest

import veilstat as vs
from veilstat.dp import ledger_file
from veilstat.dp.ledger_file import open_ledger
from veilstat.dp.mechanism import NoiseShare

SCHEMA = vs.Schema(vs.Integer("age", lower=0, upper=120), max_rows=64)
TABLES = {name: pd.DataFrame({"age": [20, 40, 60]}) for name in ("north", "south", "east")}
PROMISE = vs.Gaussian(1.0, 1e-6)
COST = Fraction(1, 100)
KEPT = (1.0, 1e-6)
SYSTEM = frozenset(("open", "fstat", "write", "fsync", "ftruncate", "close"))


def killed_at(moment, work, calls):
    """Run ``work`` in a child that kills itself at the so-manieth boundary of a call to the system from the ledger's file.

    Returns:
        Whether it was killed, and what it had said by then with ``say``.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        seen = 0

        def watch(frame, event, called):
            nonlocal seen
            if event in ("c_call", "c_return") and frame.f_code.co_filename == ledger_file.__file__ and called.__name__ in calls:
                if seen == moment:
                    os.kill(os.getpid(), signal.SIGKILL)
                seen += 1

        code = 1
        try:
            sys.setprofile(watch)
            work(lambda: os.write(writer, b"."))
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    said = b""
    while part := os.read(reader, 4096):
        said += part
    os.close(reader)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status), len(said)


def moments(work, calls=SYSTEM):
    """Kill at the first boundary, the second and so on, until there is none left; how many there were."""
    moment = 0
    while True:
        was_killed, said = killed_at(moment, work, calls)
        yield said
        if not was_killed:
            break
        moment += 1


def test_wherever_a_ledger_is_killed_no_less_is_spent_than_was_drawn(tmp_path):
    path, drawn, count = tmp_path / "one.ledger", 0, 0

    def work(say):
        ledger = open_ledger(path, None)
        for place in range(2):
            ledger.spend(COST, KEPT, bytes([place]))
            say()  # where noise would be drawn

    for said in moments(work):
        drawn, count = drawn + said, count + 1
        budget = open_ledger(path, None).budget
        assert budget.releases >= drawn
        assert budget.spent == budget.releases * COST
        drawn = budget.releases
    assert count == 2 * (7 + 2 * 3) + 1
    assert said == 2


@pytest.mark.parametrize(
    ("architecture", "calls", "boundaries"),
    [("masking", SYSTEM, 3 * 6), (vs.Sharing(servers=3, entry="rows"), frozenset(("write",)), 9 * 2)],
    ids=["owners", "servers"],
)
def test_wherever_a_query_is_killed_every_draw_was_paid_for_by_everybody_who_drew(architecture, calls, boundaries, tmp_path, monkeypatch):
    """Each of three parties draws once for a query, after its own ledgers say so on disk."""
    draw, speak = NoiseShare.draw, [lambda: None]

    def watched(self, random):
        speak[0]()
        return draw(self, random)

    monkeypatch.setattr(NoiseShare, "draw", watched)
    per_party = 1 if architecture == "masking" else len(TABLES)
    study = vs.simulate(TABLES, SCHEMA, architecture, ledgers=tmp_path)
    if per_party == 1:
        study.count(privacy=PROMISE)

    def work(say):
        speak[:] = [say]
        study.count(privacy=PROMISE)

    count = 0
    for drawn in moments(work, calls):
        lines = [len(file.read_bytes().splitlines()) for file in tmp_path.rglob("*.ledger")]
        paid = sum(lines) - (len(TABLES) if per_party == 1 else 0)
        assert paid >= per_party * drawn
        count += 1
        for file in tmp_path.rglob("*.ledger"):
            kept = file.read_bytes().splitlines(keepends=True)
            file.write_bytes(b"".join(kept[:1] if per_party == 1 else []))
    assert drawn == 3
    assert count == boundaries + 1
