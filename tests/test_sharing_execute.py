"""Circuits of the real statistics on shares, against exact evaluation in the clear."""

import math
import os
from fractions import Fraction

import numpy as np
import pytest

import veilstat as vs
from tests import datasets
from tests.sharing import integers, opened, parties, run_three
from veilstat.architectures.sharing.circuit.analysis import ranges, supports
from veilstat.architectures.sharing.circuit.execute import execute
from veilstat.architectures.sharing.protocols.araki16 import share
from veilstat.architectures.sharing.protocols.division import HIGHEST, LOWEST, OUT_OF_RANGE, UNDEFINED
from veilstat.language.circuit import Op
from veilstat.language.cut import Entry, cut, entering
from veilstat.language.evaluate import NoRows, SingularMatrix, evaluate
from veilstat.platform.table import Table
from veilstat.schema.encoding import round_half_up
from veilstat.statistics.solve import solve

RES = Fraction(1, 2**40)


def clear(chosen, leaves, public):
    """The cut's integers by evaluation over the rationals; None where a system is singular."""
    wanted = tuple(o.node for o in chosen.openings)
    try:
        with np.errstate(invalid="ignore"):
            values = evaluate(chosen.circuit, wanted, rows=NoRows(), inputs=public, known=leaves, solve=solve)
    except SingularMatrix:
        return None
    result = []
    for opening in chosen.openings:
        node = chosen.circuit.nodes[opening.node]
        for element in opening.elements:
            value = values[opening.node].reshape(-1)[element]
            if node.scale is not None:
                result.append(int(value))
            elif value != value:
                result.append(UNDEFINED)
            else:
                rounded = round_half_up(Fraction(value) / opening.resolution ** (2 if opening.rooted else 1))
                kept = math.isqrt(abs(rounded)) * (1 if rounded >= 0 else -1) if opening.rooted else rounded
                result.append(kept if LOWEST <= rounded <= HIGHEST else OUT_OF_RANGE)
    return result


def on_shares(chosen, leaves, public, random=os.urandom):
    known = ranges(chosen)
    dealt = {place: share(integers(values), known.field, random) for place, values in leaves.items()}
    ended = run_three(
        execute(known, {place: shares[party.index] for place, shares in dealt.items()}, public, party) for party in parties(random)
    )
    solvable = {result.solvable for result in ended.results}
    assert len(solvable) == 1
    values = [int(value) for value in opened(known.field, [result.values for result in ended.results])]
    assert len(values) == chosen.size
    return (values if solvable.pop() else None), ended, known


def agree(chosen, leaves, public=None):
    public = public or {}
    found, ended, known = on_shares(chosen, leaves, public)
    assert found == clear(chosen, leaves, public)
    assert len(known.denominators.monomials) == len(ranges(chosen).denominators.monomials)
    return found, ended, known


def totals(chosen, places, tables, schema):
    """What all owners contribute together."""
    sums = {}
    for name, frame in tables.items():
        rows = Table(name, frame, schema).rows(chosen.columns())
        for place, value in evaluate(chosen.circuit, places, rows=rows, inputs={}, known={}).items():
            sums[place] = np.asarray(sums.get(place, 0) + value.astype(object), dtype=object)
    return sums


def of_statistic(statistic, schema):
    (step,) = statistic.steps(schema)
    return cut(step.trace(schema, 3), Entry.TOTALS, supports)


def contributed(chosen):
    needed = chosen.circuit.needed(tuple(o.node for o in chosen.openings))
    return tuple(place for place in sorted(needed) if chosen.circuit.nodes[place].op is Op.INNER)


STATISTICS = [
    (datasets.wine, vs.Mean("ash")),
    (datasets.wine, vs.Mean(("alcohol", "proline", "ash"))),
    (datasets.diabetes, vs.Variance(("bmi", "s5"))),
    (datasets.wine, vs.Std("magnesium", missing="listwise")),
    (datasets.diabetes, vs.Covariance(("age", "bmi", "s5"))),
    (datasets.wine, vs.Correlation(("alcohol", "malic_acid", "ash"))),
    (datasets.wine, vs.MeanBy("proline", by="kind")),
    (datasets.wine, vs.Count("ash")),
    (datasets.diabetes, vs.LinearRegression("target ~ bmi + bp")),
    (datasets.diabetes, vs.LinearRegression("target ~ age + bmi + bp + s5 + C(sex)")),
    (datasets.wine, vs.LinearRegression("proline ~ alcohol + malic_acid + C(kind) + alcohol:C(kind)")),
    (datasets.wine, vs.LinearRegression("ash ~ 0 + alcohol")),
    (datasets.fair, vs.LinearRegression("children ~ age + yrs_married + religious + I(age**2)")),
    (datasets.longley, vs.LinearRegression("TOTEMP ~ GNPDEFL + GNP + UNEMP + ARMED + POP + YEAR")),
]


@pytest.mark.parametrize("data,statistic", STATISTICS, ids=lambda part: str(part) if not callable(part) else part.__name__)
def test_statistics_open_what_exact_arithmetic_gives(data, statistic):
    _, schema, tables = data()
    chosen = of_statistic(statistic, schema)
    agree(chosen, totals(chosen, contributed(chosen), tables, schema))


@pytest.mark.parametrize("split_totals", [False, True])
def test_leaves_may_be_linear_combinations(split_totals):
    """Owners send what is linear in their rows, such as n - p, rather than the totals below it."""
    _, schema, tables = datasets.diabetes()
    chosen = of_statistic(vs.LinearRegression("target ~ bmi + bp + C(sex)"), schema)
    places = tuple(o.node for o in entering(chosen).openings) if split_totals else contributed(chosen)
    agree(chosen, totals(chosen, places, tables, schema))


def test_designs_without_a_unique_solution_end_with_a_flag():
    _, schema, tables = datasets.wine()
    chosen = of_statistic(vs.LinearRegression("proline ~ alcohol + C(kind)"), schema)
    full = totals(chosen, contributed(chosen), tables, schema)
    for frame in (
        {"a": tables["owner1"][tables["owner1"]["kind"] == "a"]},
        {"a": tables["owner1"].head(1)},
        {"a": tables["owner1"].head(0)},
        {"a": tables["owner1"].assign(alcohol=11.5)},
    ):
        found, ended, _ = agree(chosen, totals(chosen, contributed(chosen), frame, schema))
        assert found is None
        values = opened(ended.results[0].values.domain, [result.values for result in ended.results]).tolist()
        rows = len(frame["a"])
        assert values == [rows, rows, *[0] * (len(values) - 2)]
    assert agree(chosen, full)[0] is not None


@pytest.mark.parametrize("rows", [0, 1, 2, 3])
def test_few_rows_give_undefined_values_and_no_wrong_ones(rows):
    _, schema, tables = datasets.wine()
    for statistic in (vs.Mean(("ash", "proline")), vs.Covariance(("ash", "proline")), vs.MeanBy("ash", by="kind")):
        chosen = of_statistic(statistic, schema)
        found, _, _ = agree(chosen, totals(chosen, contributed(chosen), {"a": tables["owner1"].head(rows)}, schema))
        assert (UNDEFINED in found) == (rows < 2 or isinstance(statistic, vs.MeanBy))


def test_exactly_as_many_rows_as_terms():
    """No freedom is left: the residuals are 0 and the variances are 0 / 0."""
    _, schema, tables = datasets.diabetes()
    chosen = of_statistic(vs.LinearRegression("target ~ bmi + bp + age"), schema)
    found, _, _ = agree(chosen, totals(chosen, contributed(chosen), {"a": tables["owner1"].head(4)}, schema))
    assert found.count(UNDEFINED) == 4
