"""Noise in answers on encrypted rows: every owner's is in every answer once, paid for before it is drawn, and enough."""

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

import veilstat as vs
from tests.encrypted_rows import NAMES, SCHEMA, begin_query, finished_query, released, tables
from tests.test_noise_placement import accounted_delta
from veilstat.architectures.homomorphic.rows.query_owner import DecryptingOwner
from veilstat.architectures.interface import NoiseSite
from veilstat.dp.calibration import tail_delta, zcdp_rho
from veilstat.dp.ledger import Ledger
from veilstat.dp.mechanism import NoiseShare, calibrate
from veilstat.dp.sensitivity import Block
from veilstat.platform.definition import Definition
from veilstat.platform.epoch_store import EpochStore
from veilstat.platform.plan import make_plan

QUERY = vs.Mean("x")
BEFORE, LOCAL = vs.Gaussian(1.0, 1e-6), vs.Gaussian(1.0, 1e-6, placement="local")


def study(**options):
    return vs.simulate(tables(), SCHEMA, vs.Homomorphic(entry="rows", smudging_bits=40), **options)


@pytest.fixture(scope="module")
def shared():
    return study()


@pytest.fixture
def drawn(monkeypatch):
    """What owners draw, in the order in which they do."""
    found, honest = [], NoiseShare.draw

    def draw(self, random):
        found.append(honest(self, random))
        return found[-1]

    monkeypatch.setattr(NoiseShare, "draw", draw)
    return found


@pytest.mark.parametrize("promise", [BEFORE, LOCAL], ids=["before opening", "local"])
@pytest.mark.parametrize(
    "query",
    [vs.Count(), vs.Mean("x"), vs.Covariance(("x", "y")), vs.LinearRegression("x ~ y", estimator="ssp")],
    ids=lambda query: query.name,
)
def test_what_is_opened_is_the_exact_total_and_the_sum_of_all_owners_noise(shared, drawn, query, promise):
    shared.run(query, privacy=promise)
    opened = shared.observed["analyst"].opened[-1][1].values
    assert len(drawn) == len(NAMES)
    masked = vs.simulate(tables(), SCHEMA)
    before = len(drawn)
    masked.run(query, privacy=promise)
    exact = masked.observed["analyst"].opened[-1][1].values - sum(drawn[before:])
    assert opened.tolist() == (exact + sum(drawn[:before])).tolist()


def test_numbers_that_are_multiples_get_noise_that_is_one_and_as_much_of_it(shared, drawn):
    """Cross-products of stretched columns travel divided by what their weights have in common."""
    query = vs.Covariance(("x", "y"))
    noise = shared.plan(query, privacy=BEFORE).steps[0].noise
    [block] = noise.blocks
    assert len(set(block.steps)) > 1
    assert noise.shares[0] >= 4 * block.coarsest**2
    unit = vs.simulate(tables(), SCHEMA).plan(query, privacy=BEFORE).steps[0].noise
    assert (noise.shares, noise.rho, noise.variances) == (unit.shares, unit.rho, unit.variances)
    draws = np.array([noise.draw(np.random.default_rng(place).bytes) for place in range(400)], dtype=object)
    assert not (draws % np.array(block.steps, dtype=object)).any()
    spread = draws.astype(float).std(axis=0) / math.sqrt(noise.shares[0])
    assert (abs(spread - 1) < 5 / math.sqrt(2 * 400)).all()


@pytest.mark.parametrize(("step", "moved"), [(3, 1), (7, 4), (1 << 30, 9)])
def test_a_number_in_steps_is_calibrated_as_the_number_of_its_steps(step, moved):
    promise = vs.Gaussian(1.0, 1e-6)
    coarse = calibrate(promise, [Block(1, (step * moved) ** 2, (step,))], 2)
    assert coarse.shares[0] >= 4 * step**2
    assert accounted_of(coarse.shares[0] / step**2, moved) <= 1e-6 * (1 + 1e-3)
    assert accounted_of(coarse.shares[0] / step**2 * Fraction(97, 100), moved) > 1e-6


def accounted_of(share, moved):
    """The exact delta of two shares on a number that moves by so many integers."""
    variance = float(2 * share)
    reach = np.arange(-int(14 * math.sqrt(variance)) - moved, int(14 * math.sqrt(variance)) + moved + 1)
    weights = np.exp(-(reach**2) / (2 * variance))
    shifted = np.exp(-((reach - moved) ** 2) / (2 * variance))
    return float(np.maximum(weights - math.e * shifted, 0).sum() / weights.sum())


def test_much_promised_leaves_two_steps_of_noise_in_every_share():
    noise = calibrate(vs.Gaussian(50.0, 1e-6), [Block(3, 5 * 2**60, (2**30, 2**29, 2**20))], 2)
    assert noise.shares == (Fraction(4 * 2**60),)
    assert noise.rho < zcdp_rho(50.0, 1e-6)


def test_every_owner_draws_once_for_each_number_and_the_sum_is_in_the_answer(parties, epoch):
    sizes = []

    def noise(size):
        sizes.append(size)
        return np.array([10 ** len(sizes)] * size, dtype=object)

    run = finished_query(begin_query(parties, epoch, QUERY, noise=noise))
    bare = released(parties, finished_query(begin_query(parties, epoch, QUERY)))
    assert sizes == [len(bare)] * 3
    assert released(parties, run) == [number + 10 + 100 + 1000 for number in bare]


def test_nothing_is_drawn_before_the_owner_has_agreed_and_counted(parties, epoch):
    order = []

    def noise(size):
        order.append("drawn")
        return np.zeros(size, dtype=object)

    run = begin_query(parties, epoch, QUERY, authorise=lambda members: order.append("counted"), noise=noise).step()
    assert order == []
    run.step()
    assert order == ["counted", "drawn"] * 3


def test_the_ledger_is_spent_once_before_noise_is_drawn_and_answers_are_counted(monkeypatch):
    its, order = study(policies=dict.fromkeys(NAMES, vs.Policy(budget=(5.0, 1e-5)))), []
    draw, spend = NoiseShare.draw, EpochStore.spend

    def drawing(self, random):
        order.append(sum(entry.releases == 1 and entry.spent > 0 for entry in its.budget().values()))
        return draw(self, random)

    def spending(self, count, most):
        order.append("counted")
        spend(self, count, most)

    monkeypatch.setattr(NoiseShare, "draw", drawing)
    monkeypatch.setattr(EpochStore, "spend", spending)
    its.count(privacy=BEFORE)
    assert order == ["counted", 1, "counted", 2, "counted", 3]
    assert {entry.releases for entry in its.budget().values()} == {1}


def test_a_ledger_that_cannot_be_written_ends_the_query_for_all_and_names_its_owner(monkeypatch):
    its = study()

    def full(ledger, rho, promise, context):
        raise vs.VeilstatError("the ledger could not be written", code="disk_failed")

    monkeypatch.setattr(Ledger, "spend", full)
    with pytest.raises(vs.VeilstatError, match=r"data owner 'o[012]': the ledger") as error:
        its.count(privacy=BEFORE)
    monkeypatch.undo()
    assert (error.value.code, len(error.value.culprits)) == ("disk_failed", 1)
    assert {agent.gate for agent in its._backend.agents.values()} == {None}
    assert its.count(privacy=BEFORE).n is not None


def test_a_spent_budget_refuses_and_an_exact_answer_is_refused_beside_it():
    its = study(policies={"o1": vs.Policy(budget=(1.0, 1e-5))})
    its.count(privacy=BEFORE)
    with pytest.raises(vs.VeilstatError) as error:
        its.count(privacy=BEFORE)
    assert error.value.code == "budget_exhausted"
    with pytest.raises(vs.PolicyDenied) as error:
        its.count()
    assert error.value.code == "privacy_required"
    assert its.budget()["o1"].releases == 1


@pytest.mark.parametrize(("owners", "colluding"), [(2, 0), (3, 0), (3, 1), (7, 1), (7, 5)])
def test_owners_who_do_not_collude_hold_the_targets_noise(owners, colluding):
    names = tuple(f"o{place}" for place in range(owners))
    definition = Definition(SCHEMA, names, vs.Homomorphic(entry="rows", colluding=colluding, smudging_bits=40))
    step = make_plan(vs.Count("x"), definition, BEFORE).steps[0]
    honest = owners - colluding
    assert step.site is NoiseSite.OWNERS
    assert accounted_delta(tuple(honest * share for share in step.noise.shares)) <= 1e-6 * (1 + 1e-3)
    assert min(step.noise.shares) == 4 or accounted_delta(tuple((honest - 1) * share for share in step.noise.shares)) > 1e-6


def test_local_noise_keeps_the_promise_for_one_owner_alone(shared):
    plan = shared.plan(vs.Count(), privacy=LOCAL)
    assert tail_delta(plan.steps[0].noise.shares[0], 1.0) <= 1e-6
    assert "local: every owner adds noise that keeps the promise alone" in " ".join(str(plan).split())


def test_answers_spread_as_stated(shared):
    results = [shared.run(vs.Count(), privacy=BEFORE) for _ in range(30)]
    stated = results[0].std_error
    assert stated == pytest.approx(4.2316 * math.sqrt(1.5), rel=2e-3)
    errors = np.array([result.estimate for result in results]) - sum(map(len, tables().values()))
    assert 0.5 < errors.std() / stated < 1.6


def test_the_same_question_again_gets_fresh_noise(shared, drawn):
    for _ in range(2):
        shared.mean("x", privacy=BEFORE)
    assert len({tuple(noise) for noise in drawn}) == 6


def test_the_plan_says_who_adds_noise_and_what_is_opened(shared):
    text = " ".join(str(shared.plan(QUERY, privacy=BEFORE)).split())
    assert "every owner adds its own noise before anything is opened, enough that 2 honest ones keep the promise" in text
    assert "+ noise" in text


def test_a_promise_costs_no_byte_and_no_round_beside_the_same_query_without_one(shared):
    exact, private = shared.count(), shared.count(privacy=BEFORE)
    assert private.cost.rounds == exact.cost.rounds
    plans = [shared.plan(vs.Count(), privacy=promise) for promise in (None, BEFORE)]
    assert plans[0].steps[0].cost.owners == plans[1].steps[0].cost.owners
    assert private.cost.bytes_per_owner == plans[1].bytes_per_owner


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (vs.LinearRegression("x ~ y", method="gradient_descent", clip_norm=1.0, iterations=2), "rows_unprotected"),
        (vs.Mean("x", clip=(2, 5)), "rows_unprotected"),
        (vs.MeanBy("x", by="y"), "degree_too_high"),
    ],
)
def test_what_encrypted_rows_cannot_do_privately_names_the_entry_that_would(shared, query, code):
    with pytest.raises(vs.CapabilityError, match="entry='totals'") as error:
        shared.plan(query, privacy=BEFORE)
    assert error.value.code == code


def test_noise_too_wide_for_the_plaintext_is_refused_in_the_plan(shared):
    with pytest.raises(vs.CapabilityError, match="with noise where it has any") as error:
        shared.plan(QUERY, privacy=vs.Gaussian(1e-6, 1e-6))
    assert error.value.code == "too_wide"


def test_columns_of_seven_digits_are_centred_within_the_parameters():
    schema = vs.Schema(vs.Integer("income", lower=0, upper=10**7 + 1), max_rows=64)
    incomes = {name: pd.DataFrame({"income": [10_000.0 + place] * 8}) for place, name in enumerate(NAMES)}
    its = vs.simulate(incomes, schema, vs.Homomorphic(entry="rows", smudging_bits=40))
    its.mean("income", privacy=vs.Gaussian(1.0, 1e-6))
    masked = vs.simulate(incomes, schema)
    opened = its.observed["analyst"].opened[-1][1].values
    noise = its.plan(vs.Mean("income"), privacy=vs.Gaussian(1.0, 1e-6)).steps[0].noise
    masked.mean("income", privacy=vs.Gaussian(50.0, 1e-6))
    near = masked.observed["analyst"].opened[-1][1].values
    assert all(abs(one - other) < 12 * math.sqrt(3 * variance) for one, other, variance in zip(opened, near, noise.variances, strict=True))


def test_without_an_owners_noise_the_answer_is_exact(shared, monkeypatch):
    """What an owner that deviates can do: it counts among the colluding ones."""
    share = DecryptingOwner.share
    monkeypatch.setattr(DecryptingOwner, "share", lambda self, *rest: share(_silenced(self), *rest))
    shared.count(privacy=BEFORE)
    assert shared.observed["analyst"].opened[-1][1].values.tolist() == [sum(map(len, tables().values()))]


def _silenced(owner):
    object.__setattr__(owner, "noise", lambda size: np.zeros(size, dtype=object))
    return owner
