"""Budgets of owners who are offline: every compute server keeps a ledger for each, and one server is enough to refuse."""

from fractions import Fraction

import pandas as pd
import pytest

import veilstat as vs
from veilstat.dp.ledger_file import open_ledger
from veilstat.dp.mechanism import NoiseShare
from veilstat.platform.ledgers import in_directory
from veilstat.platform.remote_servers import RemoteServers
from veilstat.platform.server_file import load_server

SCHEMA = vs.Schema(vs.Integer("age", lower=0, upper=120), max_rows=64)
TABLES = {name: pd.DataFrame({"age": [20, 40, 60]}) for name in ("north", "south", "east")}
PROMISE = vs.Gaussian(1.0, 1e-6)
ROWS = vs.Sharing(servers=3, entry="rows")
BUDGET = (2.0, 1e-6)


def study(**options):
    return vs.simulate(TABLES, SCHEMA, ROWS, policies={"east": vs.Policy(budget=BUDGET)}, **options)


def files(folder, owner="east"):
    return sorted(folder.glob(f"*/{owner.encode().hex()}.ledger"))


def test_a_budget_that_came_with_an_upload_is_spent_by_queries_and_then_refuses():
    asked = study()
    cost = asked.plan(vs.Count(), privacy=PROMISE).privacy.rho
    affordable = int(asked.budget()["east"].left / cost)
    for done in range(affordable):
        assert asked.budget()["east"].spent == done * cost
        asked.count(privacy=PROMISE)
    with pytest.raises(vs.BudgetExhausted) as error:
        asked.count(privacy=PROMISE)
    left = asked.budget()["east"]
    assert "data owner 'east'" in str(error.value)
    assert f"below {left.fits:.3g}" in str(error.value)
    assert asked.budget()["north"].releases == affordable
    assert asked.budget()["north"].left is None
    asked.count(privacy=vs.Gaussian(0.99 * left.fits, 1e-6))


def test_a_new_upload_grants_no_new_budget():
    asked = study()
    asked.count(privacy=PROMISE)
    before = asked.budget()["east"]
    asked.upload("east")
    assert asked.budget()["east"] == before
    asked.withdraw("east")
    asked.upload("east")
    assert asked.budget()["east"].spent == before.spent


@pytest.mark.parametrize("privacy", [None, vs.Gaussian(1.0, 1e-6, placement="after_opening")], ids=["exact", "after opening"])
def test_exact_answers_are_refused_for_an_owner_with_a_budget(privacy):
    asked = study()
    with pytest.raises(vs.PolicyDenied) as error:
        asked.count(privacy=privacy)
    assert error.value.code == "privacy_required"
    assert "east" in str(error.value)


def test_every_server_has_paid_for_all_owners_on_disk_before_it_draws(monkeypatch, tmp_path):
    draw, seen = NoiseShare.draw, []

    def watched(self, random):
        seen.append(sum(len(file.read_bytes().splitlines()) for file in tmp_path.glob("*/*.ledger")))
        return draw(self, random)

    monkeypatch.setattr(NoiseShare, "draw", watched)
    study(ledgers=tmp_path).count(privacy=PROMISE)
    assert len(seen) == 3
    assert min(seen) >= 3
    assert [open_ledger(file, BUDGET).budget.releases for owner in TABLES for file in files(tmp_path, owner)] == [1] * 9


def test_one_server_that_knows_better_is_enough_to_refuse(tmp_path):
    """Two of three servers lost their ledgers."""
    first = study(ledgers=tmp_path)
    while first.budget()["east"].fits > 1.0:
        first.count(privacy=PROMISE)
    for file in files(tmp_path)[1:]:
        file.unlink()
    again = study(ledgers=tmp_path)
    with pytest.raises(vs.BudgetExhausted):
        again.count(privacy=PROMISE)


def test_what_failed_after_servers_began_is_spent():
    asked = study(faults=[vs.testing.Dropout("compute2", round="result")])
    with pytest.raises(vs.VeilstatError):
        asked.count(privacy=PROMISE)
    assert asked.budget()["east"].releases == 1


def test_a_damaged_ledger_of_one_server_ends_queries(tmp_path):
    study(ledgers=tmp_path).count(privacy=PROMISE)
    file = files(tmp_path)[0]
    file.write_bytes(file.read_bytes().replace(b"/", b"0", 1))
    with pytest.raises(vs.VeilstatError) as error:
        study(ledgers=tmp_path).count(privacy=PROMISE)
    assert error.value.code == "ledger_damaged"


def test_a_server_process_keeps_ledgers_beside_its_file_or_where_it_says(tmp_path):
    plain = 'party = "compute1"\nstudy = "study.toml"\nroster = "roster.toml"\nidentity = "compute1.pem"\n'
    (tmp_path / "compute1.toml").write_text(plain)
    assert load_server(tmp_path / "compute1.toml").ledgers == tmp_path / "compute1.ledgers"
    (tmp_path / "compute1.toml").write_text(plain + 'ledgers = "kept"\n')
    kept = in_directory(load_server(tmp_path / "compute1.toml").ledgers)
    kept("east", BUDGET).spend(Fraction(1, 1000), (0.1, 1e-6), b"one")
    assert kept("east", BUDGET).budget.releases == 1
    assert open_ledger(tmp_path / "kept" / f"{b'east'.hex()}.ledger", BUDGET).budget.releases == 1


def test_what_servers_elsewhere_keep_is_not_known_here():
    with pytest.raises(vs.CapabilityError) as error:
        RemoteServers.budget(object.__new__(RemoteServers), "east")
    assert error.value.code == "budget_elsewhere"
