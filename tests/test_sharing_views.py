"""What one server sees: as long, and distributed alike, whatever the data are."""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

import veilstat as vs
from tests.sharing import integers, run
from tests.test_sharing_circuits import Inputs, iteration
from tests.test_sharing_execute import contributed, of_statistic, on_shares, totals
from veilstat.architectures.sharing.circuit.analysis import ranges
from veilstat.architectures.sharing.circuit.traffic import traffic
from veilstat.architectures.sharing.protocols.division import Precision, floor_quotients
from veilstat.architectures.sharing.protocols.field import Field
from veilstat.architectures.sharing.protocols.floor import MASKING, floor_divide, less_than_zero
from veilstat.architectures.sharing.protocols.roots import compared_bits, signed_roots
from veilstat.architectures.sharing.protocols.solve import solve
from veilstat.language.bounds import Interval
from veilstat.language.circuit import Op, Output

SCHEMA = vs.Schema(
    vs.Integer("age", lower=0, upper=120),
    vs.Continuous("bmi", lower=10, upper=70, step=0.1),
    vs.Categorical("sex", levels=("f", "m")),
    max_rows=1000,
)


def table(rows, seed, top):
    source = np.random.default_rng(seed)
    frame = pd.DataFrame({"age": source.integers(0, top, rows), "bmi": np.round(source.uniform(20, 20 + top / 3, rows), 1)})
    return {"a": frame.assign(sex=np.where(source.random(rows) < 0.5, "f", "m"))}


TABLES = table(1000, 1, 121), table(6, 2, 5)


def two_samples(first, second):
    """The largest z-score, over servers and rounds, of a two-sample chi-square of message bytes."""
    worst = 0.0
    for server in range(3):
        assert [len(message) for message in first[server]] == [len(message) for message in second[server]]
        for one, other in zip(first[server], second[server], strict=True):
            a, b = (np.bincount(np.frombuffer(message, dtype=np.uint8), minlength=256) for message in (one, other))
            seen = a + b > 10
            if len(one) > 1000 and seen.sum() > 1:
                statistic = (((a - b) ** 2)[seen] / (a + b)[seen]).sum()
                worst = max(worst, (statistic - seen.sum()) / np.sqrt(2 * seen.sum()))
    return worst


def joined(runs):
    return [[b"".join(messages) for messages in zip(*(ended.received[server] for ended in runs), strict=True)] for server in range(3)]


@pytest.mark.parametrize("statistic", [vs.Mean(("age", "bmi")), vs.LinearRegression("bmi ~ age + C(sex)")], ids=lambda s: s.name)
def test_messages_of_very_different_tables_look_alike(statistic):
    chosen = of_statistic(statistic, SCHEMA)
    views = []
    for tables in TABLES:
        leaves = totals(chosen, contributed(chosen), tables, SCHEMA)
        views.append(joined([on_shares(chosen, leaves, {})[1] for _ in range(12)]))
    assert two_samples(*views) < 6


DIVISION, TOP, EYE = Precision(60, 30), (1 << 60) - 1, integers(np.eye(20))
NOTHING = integers(np.zeros((20, 0)))
PRIMITIVES = {
    "less": (lambda party, x: less_than_zero(party, x, 60), 60, [[TOP] * 600], [[-TOP] * 600]),
    "floor": (lambda party, x: floor_divide(party, x, 12345, 60, 14), 60, [[TOP] * 600], [[0] * 600]),
    "quotient": (
        lambda party, x, y: floor_quotients(party, x, y, np.arange(300), DIVISION),
        DIVISION.bits,
        ([TOP] * 300, [(1 << 30) - 1] * 300),
        ([-TOP] * 300, [0, 1] * 150),
    ),
    "root": (lambda party, x: signed_roots(party, x, 60), compared_bits(60), [[TOP] * 300], [[0, -1] * 150]),
    "solve": (lambda party, a, b: solve(party, a, b, NOTHING, a.domain), 61, (EYE, EYE), (EYE * TOP, EYE - 1)),
}


@pytest.mark.parametrize("name", PRIMITIVES)
def test_messages_of_extreme_values_look_alike(name):
    protocol, bits, one, other = PRIMITIVES[name]
    field = Field.for_bits(bits + MASKING)
    views = [joined([run(protocol, field, *values) for _ in range(5)]) for values in (one, other)]
    assert two_samples(*views) < 6


def test_the_first_message_of_every_product_is_uniform():
    """All bytes of all field elements, over all servers, for a constant table."""
    chosen = of_statistic(vs.Mean("age"), SCHEMA)
    leaves = totals(chosen, contributed(chosen), TABLES[1], SCHEMA)
    low = []
    for _ in range(40):
        _, ended, known = on_shares(chosen, leaves, {})
        width = known.field.element_bytes
        low += [message[place] for messages in ended.received for message in messages[:1] for place in range(0, len(message), width)]
    counts = np.bincount(np.array(low) >> 4, minlength=16)
    expected = len(low) / 16
    assert ((counts - expected) ** 2 / expected).sum() < 50  # 15 degrees of freedom


def test_traffic_is_known_before_there_are_data():
    for statistic in (vs.Mean(("age", "bmi")), vs.Covariance(("age", "bmi")), vs.LinearRegression("bmi ~ age + C(sex)")):
        chosen = of_statistic(statistic, SCHEMA)
        expected = traffic(ranges(chosen))
        for tables in TABLES:
            _, ended, _ = on_shares(chosen, totals(chosen, contributed(chosen), tables, SCHEMA), {})
            assert (ended.rounds, ended.bytes_per_server) == (expected.rounds, expected.payload)


def test_traffic_of_an_iteration_is_a_bound():
    for times in (1, 4):
        inputs = Inputs(3)
        chosen, leaves = inputs.cut({"y": Output(iteration(1000, times, inputs).index, Fraction(1, 2**16))})
        expected = traffic(ranges(chosen))
        _, ended, _ = on_shares(chosen, leaves, inputs.public)
        assert ended.rounds <= expected.rounds
        assert ended.bytes_per_server <= expected.payload


@pytest.mark.parametrize("value", [0, 1, 999])
def test_traffic_does_not_depend_on_public_divisors(value):
    inputs = Inputs(6)
    n = inputs.trace.array(Op.PUBLIC, "n", (), Fraction(1), Interval.of(0, 1000))
    chosen, leaves = inputs.cut({"y": Output((inputs.total((3,), -1000, 1000) / (n * n)).index, Fraction(1, 2**16))})
    inputs.public["n"] = integers(value)
    expected = traffic(ranges(chosen))
    _, ended, _ = on_shares(chosen, leaves, inputs.public)
    assert (ended.rounds, ended.bytes_per_server) == (expected.rounds, expected.payload)
