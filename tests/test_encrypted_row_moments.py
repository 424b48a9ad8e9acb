"""Encrypted rows on real data: every moment and every regression bit for bit that of the clear."""

import pytest

import veilstat as vs
from tests.datasets import ALL, longley, numeric

FORMULAS = {
    "diabetes": "target ~ age + bmi + bp + s5 + C(sex)",
    "wine": "alcohol ~ malic_acid + ash + magnesium + C(kind)",
    "fair": "rate_marriage ~ age + yrs_married + children + any",
    "randhie": "mdvis ~ lncoins + disea + physlm + hlthg",
    "longley": "TOTEMP ~ GNPDEFL + GNP + UNEMP + ARMED + POP + YEAR",
}


def both(make):
    _, schema, tables = make()
    return schema, vs.simulate(tables, schema, vs.Homomorphic(entry="rows")), vs.simulate(tables, schema, "clear")


def bits(table):
    return [float(value).hex() for value in table.to_numpy().reshape(-1)]


@pytest.mark.parametrize(
    "name", ["wine", "longley", *(pytest.param(name, marks=pytest.mark.long) for name in ("diabetes", "fair", "randhie"))]
)
def test_moments_and_regressions_are_those_of_the_clear(name):
    schema, encrypted, clear = both(longley if name == "longley" else ALL[name])
    columns = numeric(schema)
    for ask in (lambda study: study.covariance(columns), lambda study: study.variance(columns)):
        assert bits(ask(encrypted).estimate) == bits(ask(clear).estimate)
    ours, oracle = (study.linear_regression(FORMULAS[name]) for study in (encrypted, clear))
    assert bits(ours.params) == bits(oracle.params)
    assert bits(ours.bse) == bits(oracle.bse)
    assert ours.n == oracle.n
