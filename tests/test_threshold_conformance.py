"""Where any three of five owners decrypt, the suite that every architecture passes holds too."""

import pytest

import veilstat as vs
from veilstat.testing import conformance


def three_decrypt():
    return vs.Homomorphic(threshold=3)


@pytest.mark.parametrize("seeds", [pytest.param(range(2), id="some"), pytest.param(range(2, 5), id="more", marks=pytest.mark.long)])
def test_messages_may_arrive_in_any_order(seeds):
    conformance.check_every_order(three_decrypt, seeds)


@pytest.mark.parametrize("check", ["every_dropout", "harmless_faults", "tampering", "protection"])
def test_the_suite_for_every_architecture_passes(check):
    getattr(conformance, f"check_{check}")(three_decrypt)


@pytest.mark.parametrize("query", conformance.queries(conformance.SHORT), ids=lambda query: query.name)
def test_answers_openings_and_costs(query):
    conformance.check_queries(three_decrypt, [query])
