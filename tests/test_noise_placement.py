"""Where noise enters, on every architecture: who adds it, how often, how much, and what the recipient may hold exactly."""

import math
import random
from functools import cache, reduce

import numpy as np
import pandas as pd
import pytest
from dp_accounting.pld import privacy_loss_distribution

import veilstat as vs
from veilstat.architectures.interface import NoiseSite
from veilstat.architectures.sharing.circuit.execute import Executed
from veilstat.architectures.sharing.protocols.araki16 import share
from veilstat.architectures.sharing.protocols.prss import Party, Prss
from veilstat.architectures.sharing.sealed import Sealed
from veilstat.dp.calibration import tail_delta
from veilstat.dp.mechanism import NoiseShare
from veilstat.platform import simulation

SCHEMA = vs.Schema(vs.Integer("age", lower=0, upper=120), vs.Categorical("sex", levels=["female", "male"]), max_rows=64)
ROWS = 12
ROWS_ENTRY = vs.Sharing(servers=3, entry="rows")
BEFORE = {
    "masking": vs.Masking(),
    "masking to the server": vs.Masking(recipient="server"),
    "two servers": vs.Sharing(servers=2),
    "three servers": vs.Sharing(servers=3),
    "servers of owners": vs.Sharing(servers="owners"),
    "sealed": vs.Sharing(open="estimate"),
    "rows": ROWS_ENTRY,
    "homomorphic": vs.Homomorphic(),
    "encrypted rows": vs.Homomorphic(entry="rows"),
}
ALL = {**BEFORE, "clear": "clear"}


def tables(count=3, rows=ROWS):
    return {f"owner{place}": pd.DataFrame({"age": [20.0 + place] * rows, "sex": ["male"] * rows}) for place in range(count)}


def promise(placement="before_opening", epsilon=1.0):
    return vs.Gaussian(epsilon, 1e-6, placement=placement)


@pytest.fixture
def counted(monkeypatch):
    """The k-th draw of noise is 2^k in every number, so that an answer tells exactly which draws are in it."""
    drawn = []

    def draw(self, random):
        drawn.append(sum(block.size for block in self.blocks))
        return np.array([2 ** (len(drawn) - 1)] * drawn[-1], dtype=object)

    monkeypatch.setattr(NoiseShare, "draw", draw)
    return drawn


@pytest.mark.parametrize("name", BEFORE)
def test_every_share_is_in_the_answer_once_and_nobody_opens_the_exact_total(name, counted):
    study = vs.simulate(tables(), SCHEMA, BEFORE[name])
    exact = 3 * ROWS
    opened = study.count(privacy=promise())
    assert len(counted) == 3
    assert opened.estimate == exact + 1 + 2 + 4
    assert all(exact not in released.values for seen in study.observed.values() for _, released in seen.opened)


@pytest.mark.parametrize("name", ALL)
def test_after_opening_the_recipient_alone_adds_and_the_plan_calls_it_weaker(name, counted):
    study = vs.simulate(tables(), SCHEMA, ALL[name])
    result = study.count(privacy=promise("after_opening"))
    assert counted == [1]
    assert result.estimate == 3 * ROWS + 1
    assert study.observed["analyst"].opened[-1][1].values.tolist() == [3 * ROWS]
    text = str(study.plan(vs.Count(), privacy=promise("after_opening")))
    assert "weaker" in text
    assert "+ noise" not in text
    other = promise("local" if name == "clear" else "before_opening")
    assert study.plan(vs.Count(), privacy=promise("after_opening")).digest != study.plan(vs.Count(), privacy=other).digest


@pytest.mark.parametrize("name", [name for name in ALL if name != "rows"])
def test_local_noise_keeps_the_promise_for_one_owner_alone(name, counted):
    study = vs.simulate(tables(), SCHEMA, ALL[name])
    plan = study.plan(vs.Count(), privacy=promise("local"))
    assert tail_delta(plan.steps[0].noise.shares[0], 1.0) <= 1e-6
    assert "sqrt(3) = 1.73 times" in str(plan)
    assert study.count(privacy=promise("local")).estimate == 3 * ROWS + 7


def test_owners_who_are_offline_add_no_local_noise():
    with pytest.raises(vs.CapabilityError) as error:
        vs.simulate(tables(), SCHEMA, ROWS_ENTRY).count(privacy=promise("local"))
    assert error.value.code == "no_local_noise"


def test_the_oracle_cannot_add_noise_before_it_opens():
    with pytest.raises(vs.CapabilityError) as error:
        vs.simulate(tables(), SCHEMA, "clear").count(privacy=promise())
    assert error.value.code == "no_noise_site"


def test_an_unknown_placement_is_refused():
    with pytest.raises(vs.SchemaError) as error:
        vs.Gaussian(1.0, 1e-6, placement="somewhere")
    assert error.value.code == "bad_privacy"


@pytest.mark.parametrize(
    ("name", "placement", "single"),
    [
        ("three servers", "before_opening", 1.5),
        ("rows", "before_opening", 1.5),
        ("homomorphic", "before_opening", 1.5),
        ("clear", "after_opening", 1),
        ("clear", "local", 3),
        ("masking", "local", 3),
    ],
)
def test_errors_spread_as_stated(name, placement, single):
    """The stated error is the spread of answers; ``single`` is its variance beside that of one noise that keeps the promise."""
    study = vs.simulate(tables(), SCHEMA, ALL[name])
    plan = study.plan(vs.Count(), privacy=promise(placement))
    results = [study.run(vs.Count(), privacy=promise(placement)) for _ in range(20 if name == "homomorphic" else 60)]
    stated = results[0].std_error
    assert stated == pytest.approx(4.2316 * math.sqrt(single), rel=2e-3)
    assert plan.privacy.margins["number of rows"] == pytest.approx(1.96 * stated, rel=1e-3)
    errors = np.array([result.estimate - 3 * ROWS for result in results])
    assert 0.5 < errors.std() / stated < 1.6


@cache
def accounted_delta(variances):
    """The accountant's delta at epsilon 1 of numbers that a row moves by 1 each."""
    losses = [
        privacy_loss_distribution.from_discrete_gaussian_mechanism(math.sqrt(variance), value_discretization_interval=1e-4)
        for variance in variances
    ]
    return reduce(lambda one, other: one.compose(other), losses).get_delta_for_epsilon(1.0)


GRID = [(n, c, m) for n in (3, 7) for c in (0, 1, 5) for m in (None, 6) if max(c + 2, m or 0) <= n]


@pytest.mark.parametrize(("owners", "colluding", "min_owners"), GRID)
@pytest.mark.parametrize(
    "make",
    [
        vs.Masking,
        lambda **options: vs.Sharing(servers=2, **options),
        lambda **options: vs.Sharing(servers="owners", **options),
        lambda **options: vs.Sharing(open="estimate", **options),
        vs.Homomorphic,
    ],
    ids=["masking", "two servers", "servers of owners", "sealed", "homomorphic"],
)
def test_the_fewest_survivors_without_the_colluders_hold_the_targets_noise(make, owners, colluding, min_owners):
    """Whatever servers know, honest owners' noise is theirs alone: servers see shares of sums that hold it already."""
    architecture = make(colluding=colluding, min_owners=min_owners)
    step = vs.simulate(tables(owners), SCHEMA, architecture).plan(vs.Count("age"), privacy=promise()).steps[0]
    honest = max(colluding + 2, min_owners or 0) - colluding
    assert step.site is NoiseSite.OWNERS
    assert {block.squared_sensitivity for block in step.noise.blocks} == {1}
    assert accounted_delta(tuple(honest * share for share in step.noise.shares)) <= 1e-6 * (1 + 1e-3)
    assert min(step.noise.shares) == 4 or accounted_delta(tuple((honest - 1) * share for share in step.noise.shares)) > 1e-6


@pytest.mark.parametrize("owners", [2, 3, 7])
@pytest.mark.parametrize("colluding", [0, 1, 5])
def test_two_honest_servers_hold_the_targets_noise_whoever_uploaded(owners, colluding):
    """One of three servers is corrupt and subtracts its own noise; owners, however many collude, know none."""
    if colluding + 2 > owners:
        pytest.skip("this configuration cannot hold")
    architecture = vs.Sharing(servers=3, entry="rows", colluding=colluding)
    step = vs.simulate(tables(owners, 4), SCHEMA, architecture).plan(vs.Count(), privacy=promise()).steps[0]
    assert step.site is NoiseSite.SERVERS
    assert tail_delta(2 * step.noise.shares[0], 1.0) <= 1e-6


def test_an_analyst_who_pools_with_a_server_sees_the_other_two_servers_noise_only_summed():
    """A server knows the previous one's component. Were parts opened as they are, it would tell that server's noise."""
    cut = vs.simulate(tables(), SCHEMA, ROWS_ENTRY).plan(vs.Count(), privacy=promise()).steps[0].cut
    scheme, keys = Sealed(cut), [bytes([place]) * 16 for place in range(3)]
    field = scheme.field
    held = share(np.array([36] * cut.size, dtype=object), field, np.random.default_rng(1).bytes)

    def parts(noises, keys):
        found = []
        for index in range(3):
            party = Party(index, Prss(keys[index], keys[index - 1]))
            raw = scheme._part(Executed(held[index], True), party, lambda size, index=index: np.array([noises[index]] * size, dtype=object))
            found.append(field.from_bytes(raw[1:], (cut.size,)))
        return found

    first = parts((5, 70, -900), keys)
    assert field.decode(field.add(field.add(*first[:2]), first[2])).tolist() == [36 + 5 + 70 - 900] * cut.size
    seen_by_1 = field.decode(field.subtract(first[0], held[0].own))
    assert 5 not in seen_by_1
    assert len(set(seen_by_1.tolist())) == cut.size
    other = parts((5, 70, -900), [*keys[:2], b"\7" * 16])  # the key that server 1 does not hold
    assert field.decode(field.subtract(other[0], held[0].own)).tolist() != seen_by_1.tolist()


@pytest.mark.parametrize("name", ["rows", "sealed", "homomorphic", "two servers"])
def test_wide_noise_fits_into_rings_fields_and_plaintexts(name, monkeypatch):
    """Noise far wider than all totals, and than 2^61: what is opened spreads as the plan says, on both sides of what rows can add up to."""
    monkeypatch.setattr(simulation.secrets, "token_bytes", random.Random(7).randbytes)
    schema = vs.Schema(vs.Integer("income", lower=0, upper=10**7), max_rows=64)
    incomes = {f"owner{place}": pd.DataFrame({"income": [10_000.0] * 8}) for place in range(3)}
    study = vs.simulate(incomes, schema, BEFORE[name])
    narrow = promise(epsilon=1e-6)
    noise = study.plan(vs.Mean("income"), privacy=narrow).steps[0].noise
    margins = 1.96 * np.sqrt(np.array([3 * variance for variance in noise.variances], dtype=float))
    for _ in range(8):
        study.mean("income", privacy=narrow)
    opened = np.array([released.values for _, released in study.observed["analyst"].opened], dtype=float)
    assert margins[-1] > 2**61
    assert (opened.min(axis=0) < 0).all()
    assert (opened.max(axis=0) > 0).all()
    assert (0.3 * margins < np.abs(opened).max(axis=0)).all()
    assert (np.abs(opened) < 3 * margins).all()


def test_what_is_opened_exactly_is_refused_where_there_is_a_budget_and_recorded_where_there_is_none():
    budgeted = vs.simulate(tables(), SCHEMA, policies={"owner1": vs.Policy(budget=(5.0, 1e-6))})
    with pytest.raises(vs.PolicyDenied) as error:
        budgeted.count(privacy=promise("after_opening"))
    assert error.value.code == "privacy_required"
    assert budgeted.budget()["owner0"].releases == 0
    free = vs.simulate(tables(4), SCHEMA, faults=[vs.testing.Dropout("owner3", round="masked_input", after=1)])
    free.count(privacy=promise("after_opening"))
    assert free.budget()["owner0"].spent == 0
    with pytest.raises(vs.PolicyDenied) as error:
        free.count(privacy=promise("after_opening"))
    assert error.value.code == "isolating_difference"


def test_noisy_openings_of_servers_are_not_recorded_as_exact_ones():
    """The same noisy count over other owners isolates nobody: three servers open both."""
    study = vs.simulate(tables(4), SCHEMA, vs.Sharing(servers=3), faults=[vs.testing.Dropout("owner3", round="share", after=1)])
    assert len(study.count(privacy=promise()).contributors) == 4
    assert len(study.count(privacy=promise()).contributors) == 3


@pytest.mark.parametrize("name", ["rows", "sealed", "homomorphic"])
def test_regressions_are_private_there_too(name, counted):
    """Known draws move every cross-product, and nothing else does."""
    source = np.random.default_rng(3)
    data = {
        f"owner{place}": pd.DataFrame({"age": source.integers(20, 90, 40), "sex": source.choice(["female", "male"], 40)})
        for place in range(3)
    }
    study = vs.simulate(data, SCHEMA, BEFORE[name])
    found = study.linear_regression("age ~ C(sex)", privacy=promise(epsilon=50.0), estimator="ssp")
    opened = study.observed["analyst"].opened[-1][1].values
    masked = vs.simulate(data, SCHEMA)
    counted.clear()
    expected = masked.linear_regression("age ~ C(sex)", privacy=promise(epsilon=50.0), estimator="ssp")
    assert masked.observed["analyst"].opened[-1][1].values.tolist() == opened.tolist()
    assert found.params.tolist() == expected.params.tolist()
