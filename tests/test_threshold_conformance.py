"""Where any three of five owners decrypt, the suite that every architecture passes holds too."""

import pytest

import veilstat as vs
from veilstat.testing import conformance


def three_decrypt():
    return vs.Homomorphic(threshold=3)


@pytest.mark.parametrize("check", ["every_order", "every_dropout", "harmless_faults", "tampering", "protection"])
def test_the_suite_for_every_architecture_passes(check):
    getattr(conformance, f"check_{check}")(three_decrypt)


@pytest.mark.parametrize("query", conformance.queries(conformance.SHORT), ids=lambda query: query.name)
def test_answers_openings_and_costs(query):
    conformance.check_queries(three_decrypt, [query])
