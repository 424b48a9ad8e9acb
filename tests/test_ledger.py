"""Ledgers: never less spent than released, whatever kills the process; budgets end queries before anything is drawn."""

import json
import os
import signal
import subprocess
import sys
from fractions import Fraction

import pandas as pd
import pytest

import veilstat as vs
from veilstat.dp.calibration import zcdp_delta, zcdp_rho
from veilstat.dp.ledger import Ledger
from veilstat.dp.ledger_file import open_ledger
from veilstat.dp.mechanism import NoiseShare, calibrate
from veilstat.dp.sensitivity import Block

SCHEMA = vs.Schema(vs.Integer("age", lower=0, upper=120), max_rows=64)
TABLES = {name: pd.DataFrame({"age": [20, 40, 60]}) for name in ("north", "south", "east")}
PROMISE = vs.Gaussian(1.0, 1e-6)
COST = Fraction(1, 100)
KEPT = (1.0, 1e-6)


def study(budget=(2.0, 1e-6), **options):
    return vs.simulate(TABLES, SCHEMA, policies={"east": vs.Policy(budget=budget)}, **options)


def test_a_budget_is_spent_and_then_refuses_with_what_would_fit():
    asked = study()
    cost = asked.plan(vs.Count(), privacy=PROMISE).privacy.rho
    affordable = int(zcdp_rho(2.0, 1e-6) / cost)
    for done in range(affordable):
        assert asked.budget()["east"].releases == done
        asked.count(privacy=PROMISE)
    with pytest.raises(vs.BudgetExhausted) as error:
        asked.count(privacy=PROMISE)
    left = asked.budget()["east"]
    assert left.spent == affordable * cost
    assert left.left == zcdp_rho(2.0, 1e-6) - affordable * cost >= 0
    assert f"below {left.fits:.3g}" in str(error.value)
    assert "nothing was opened" in str(error.value)
    assert asked.budget()["north"].left is None
    assert asked.budget()["north"].releases == affordable
    asked.count(privacy=vs.Gaussian(0.99 * left.fits, 1e-6))
    with pytest.raises(vs.BudgetExhausted):
        asked.count(privacy=vs.Gaussian(0.5, 1e-6))


@pytest.mark.parametrize("epsilon", [0.02, 0.5, 3.0, 30.0])
@pytest.mark.parametrize("delta", [1e-2, 1e-6, 1e-10])
@pytest.mark.parametrize("blocks", [[Block(1, 1)], [Block(1, 1), Block(5, 10**6)]], ids=["count", "vector"])
def test_what_is_said_to_fit_fits(epsilon, delta, blocks):
    ledger = Ledger((epsilon, delta))
    noise = calibrate(vs.Gaussian(ledger.budget.fits, delta), blocks, 2)
    ledger.check(noise.rho, noise.promise)


@pytest.mark.parametrize("rho", [Fraction(1, 10**6), Fraction(1, 100), Fraction(3)])
def test_a_budget_says_what_releases_so_far_promise_together(rho):
    """By the formula's own inverse: a promise of epsilon_spent costs what was spent."""
    ledger = Ledger((30.0, 1e-6))
    assert ledger.budget.epsilon_spent == 0
    ledger.spend(rho, KEPT, b"one")
    found = ledger.budget.epsilon_spent
    assert zcdp_delta(float(rho), found) == pytest.approx(1e-6, rel=1e-6)
    assert zcdp_delta(float(rho), 0.99 * found) > 1e-6
    assert f"epsilon {found:.3g}" in str(ledger.budget)
    assert f"below {ledger.budget.fits:.3g}" in str(ledger.budget)
    assert Ledger().budget.epsilon_spent is None
    assert str(Ledger().budget).startswith("no budget; 0 releases")


def test_a_whole_budget_of_vectors_fits_once():
    asked = study(budget=(1.0, 1e-6))
    asked.mean("age", privacy=PROMISE)
    with pytest.raises(vs.BudgetExhausted):
        asked.mean("age", privacy=PROMISE)


def test_exact_answers_are_refused_where_there_is_a_budget():
    with pytest.raises(vs.PolicyDenied) as error:
        study().count()
    assert error.value.code == "privacy_required"


@pytest.mark.parametrize("budget", [(1.0,), (0, 1e-6), (1.0, 1.0), 1.0, ("a", "b")])
def test_a_bad_budget_is_refused(budget):
    with pytest.raises(vs.SchemaError):
        vs.Policy(budget=budget)


def test_a_policy_with_a_budget_travels():
    policy = vs.Policy(budget=(2, 1e-6))
    assert vs.Policy.from_json(policy.to_json()) == policy != vs.Policy()
    assert policy.digest != vs.Policy(budget=(3, 1e-6)).digest


def test_what_failed_after_noise_was_drawn_is_spent():
    asked = study(faults=[vs.testing.Dropout("north", round="unmasking"), vs.testing.Dropout("south", round="unmasking")])
    with pytest.raises(vs.VeilstatError):
        asked.count(privacy=PROMISE)
    assert asked.budget()["east"].releases == 1


def test_noise_is_paid_for_before_it_is_drawn(monkeypatch, tmp_path):
    """At the moment of every draw the file already holds the release."""
    draw, seen = NoiseShare.draw, []

    def watched(self, random):
        seen.append(sorted(len(file.read_bytes().splitlines()) for file in tmp_path.iterdir()))
        return draw(self, random)

    monkeypatch.setattr(NoiseShare, "draw", watched)
    asked = study(ledgers=tmp_path)
    asked.count(privacy=PROMISE)
    assert len(seen) == 3
    assert [sum(lines) for lines in seen] == sorted(sum(lines) for lines in seen)
    assert [sum(lines) for lines in seen] >= [1, 2, 3]


def test_a_ledger_outlives_the_study(tmp_path):
    study(ledgers=tmp_path).count(privacy=PROMISE)
    again = study(ledgers=tmp_path)
    assert again.budget()["east"].releases == 1
    again.count(privacy=PROMISE)
    assert study(ledgers=tmp_path).budget()["east"].releases == 2


def test_whatever_is_altered_removed_or_moved_is_noticed(tmp_path):
    path = tmp_path / "one.ledger"
    ledger = open_ledger(path, None)
    for place in range(4):
        ledger.spend(COST, KEPT, bytes([place]))
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = [
        lines[1:],
        [lines[0], *lines[2:]],
        [lines[1], lines[0], *lines[2:]],
        [lines[0].replace(b"1/100", b"1/999"), *lines[1:]],
        [*lines, lines[-1]],
        [b"nonsense\n", *lines],
        [*lines, b"\n"],
        [json.dumps([*json.loads(lines[0])[:3], 7]).encode() + b"\n", *lines[1:]],
    ]
    for version in damaged:
        path.write_bytes(b"".join(version))
        with pytest.raises(vs.VeilstatError) as error:
            open_ledger(path, None)
        assert error.value.code == "ledger_damaged"
    path.write_bytes(b"".join(lines))
    assert open_ledger(path, None).budget.spent == 4 * COST


def test_every_torn_last_line_is_cut_off_and_nothing_else(tmp_path):
    path = tmp_path / "one.ledger"
    ledger = open_ledger(path, None)
    ledger.spend(COST, KEPT, b"first")
    first = path.read_bytes()
    ledger.spend(COST, KEPT, b"second")
    both = path.read_bytes()
    for end in range(len(first), len(both)):
        path.write_bytes(both[:end])
        assert open_ledger(path, None).budget.releases == 1
        assert path.read_bytes() == first
    path.write_bytes(both)
    assert open_ledger(path, None).budget.releases == 2


def test_two_users_of_one_ledger_do_not_both_spend(tmp_path):
    path = tmp_path / "one.ledger"
    one, other = open_ledger(path, None), open_ledger(path, None)
    one.spend(COST, KEPT, b"one")
    with pytest.raises(vs.VeilstatError) as error:
        other.spend(COST, KEPT, b"other")
    assert error.value.code == "ledger_shared"
    assert other.budget.releases == 0
    assert open_ledger(path, None).budget.releases == 1


def test_a_disk_that_fails_draws_nothing(tmp_path, monkeypatch):
    ledger = open_ledger(tmp_path / "one.ledger", None)

    def fails(descriptor):
        raise OSError("the disk is gone")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="gone"):
        ledger.spend(COST, KEPT, b"one")
    assert ledger.budget.releases == 0


_SPENDER = """
import sys
from fractions import Fraction
from pathlib import Path
from veilstat.dp.ledger_file import open_ledger

ledger = open_ledger(Path(sys.argv[1]), None)
for place in range(100000):
    ledger.spend(Fraction(1, 100), (1.0, 1e-6), place.to_bytes(4, "little"))
    print(place, flush=True)
"""


def test_a_killed_process_never_drew_more_than_was_spent(tmp_path):
    """The child says after every payment that it would draw now, and is killed after a few of them, again and again."""
    path, drawn = tmp_path / "one.ledger", 0
    for attempt in range(4):
        child = subprocess.Popen([sys.executable, "-c", _SPENDER, str(path)], stdout=subprocess.PIPE)
        said = [child.stdout.readline() for _ in range(1 + 2 * attempt)]
        child.send_signal(signal.SIGKILL)
        drawn += len(said) + len(child.stdout.read().splitlines())
        child.stdout.close()
        child.wait()
        budget = open_ledger(path, None).budget
        assert budget.releases >= drawn
        assert budget.spent == budget.releases * COST
        drawn = budget.releases
