"""Encrypted rows pass the conformance suite: bit for bit the answers of the clear, or a refusal that says which entry would do."""

import pytest

import veilstat as vs
from veilstat.architectures.homomorphic import Homomorphic
from veilstat.testing import conformance
from veilstat.testing.tables import Sample, small_schema, small_tables

BEYOND = {
    "histogram": "rows_unprotected",
    "mean_by": "degree_too_high",
    "logistic_regression": "rows_unprotected",
    "quantile": "rows_unprotected",
}
"""What one product of ciphertexts does not reach, and the code of its refusal."""

OPEN_THE_SAME = ("std", "variance", "correlation", "mean")
"""As a covariance does, or some of it."""
WITHIN = [
    pytest.param(query, id=f"{query.name}-{place}", marks=[pytest.mark.long] if query.name in OPEN_THE_SAME else [])
    for place, query in enumerate(conformance.queries())
    if query.name not in BEYOND
]
SAMPLE = Sample(small_schema(), small_tables(3))
"""Three owners: every one of them checks what all others upload, so that time grows with the square of their number."""


def make():
    return Homomorphic(entry="rows")


@pytest.fixture(scope="module")
def study():
    return vs.simulate(SAMPLE.tables, SAMPLE.schema, make())


@pytest.mark.parametrize("query", WITHIN)
def test_one_upload_answers_every_query_of_the_suite_exactly(study, query):
    conformance.check_run(study, query, vs.simulate(SAMPLE.tables, SAMPLE.schema, "clear").run(query))


@pytest.mark.parametrize("name", sorted(BEYOND))
def test_what_one_product_does_not_reach_is_refused_in_the_plan(study, name):
    [query] = [query for query in conformance.queries() if query.name == name]
    with pytest.raises(vs.CapabilityError, match="entry='totals'") as error:
        study.plan(query)
    assert error.value.code == BEYOND[name]


def test_descents_open_totals_once_and_iterate_in_the_open(study):
    result = study.linear_regression("bp ~ age + smoker", method="gradient_descent")
    clear = vs.simulate(SAMPLE.tables, SAMPLE.schema, "clear").linear_regression("bp ~ age + smoker", method="gradient_descent")
    assert result.cost.rounds == 1 + 3 * 3
    assert result.params.to_numpy().tolist() == clear.params.to_numpy().tolist()


def test_the_plan_lists_no_iterated_gradient(study):
    plan = study.plan(vs.LinearRegression("bp ~ age + smoker", method="gradient_descent"))
    assert [step.at_most for step in plan.steps] == [1, 1, 1]
    assert "2^" in str(plan)
    assert "BGV" in str(plan)


def test_the_plan_says_what_a_key_and_an_upload_cost(study):
    keys, ciphertexts = study.definition.architecture.epoch_bytes(64)
    assert f"{keys / 2**20:.1f} MiB of key shares and, for 64 rows without missing values, {ciphertexts / 2**20:.1f} MiB" in " ".join(
        str(study.plan(vs.Mean("bp"))).split()
    )


def test_a_study_that_no_parameters_carry_is_refused_when_it_is_made():
    with pytest.raises(vs.CapabilityError, match="128-bit security allows") as error:
        vs.simulate(small_tables(), small_schema(), Homomorphic(entry="rows", smudging_bits=700))
    assert error.value.code == "noise_too_large"


def test_sizes_are_not_guessed_without_a_study():
    with pytest.raises(vs.CapabilityError, match="schema") as error:
        make().announce(None, ("a", "b"), bytes)
    assert error.value.code == "not_fitted"


@pytest.mark.long
@pytest.mark.parametrize("check", ["every_order", "every_dropout", "harmless_faults", "tampering", "protection"])
def test_faults(check):
    getattr(conformance, f"check_{check}")(make)
