"""Silent errors that other systems for computing on shares are known for, as cases that come out exact here.

Division: wrong answers for operands of very different magnitude, for negative ones, and off by one where quotients are
near a tie. Decoding: negative numbers off by one. Constants: 1/3 or 0.1 rounded to the system's fixed point.
"""

import math
import os
import random
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

import veilstat as vs
from tests.sharing import integers
from tests.test_sharing_circuits import Inputs
from tests.test_sharing_execute import on_shares
from veilstat.architectures.sharing.protocols.araki16 import reconstruct, share
from veilstat.architectures.sharing.protocols.field import Field
from veilstat.architectures.sharing.protocols.ring import NARROW, WIDE
from veilstat.language.circuit import Output


def half_up(value):
    return math.floor(value + Fraction(1, 2))


def opened_quotients(numerators, divisors, size, resolution):
    """n / d as three servers open it, in units of the resolution; all operands are below ``size`` in magnitude."""
    inputs = Inputs(1)
    n, d = (inputs.total((len(values),), -size, size, values=values) for values in (numerators, divisors))
    found, _, _ = on_shares(*inputs.cut({"quotient": Output((n / d).index, resolution)}), {})
    return found


def test_quotients_of_operands_far_apart_are_neither_zero_nor_rounded_to_the_wrong_side():
    sizes = [1, 2, 3, 7, 10**3, 2**20 + 1, 10**9, 2**40 - 1, 10**15, 2**62 - 1]
    pairs = [(sign * n, d) for n in sizes for d in sizes for sign in (1, -1)]
    resolution = Fraction(1, 2**60)
    found = opened_quotients(*zip(*pairs, strict=True), 2**62, resolution)
    assert found == [half_up(Fraction(n, d) / resolution) for n, d in pairs]
    assert found[pairs.index((1, 10**15))] == 1153


@pytest.mark.parametrize("bits", [8, 33, 62])
def test_random_divisions_of_either_sign_and_next_to_ties(bits):
    pick, size, pairs = random.Random(bits), 1 << bits, []
    while len(pairs) < 400:
        d = pick.choice((-1, 1)) * pick.randrange(1, 1 << pick.randrange(1, bits))
        tie = (2 * pick.randint(-size // abs(d), size // abs(d)) + 1) * d // 2
        n = pick.choice((pick.randint(-size, size), tie - 1, tie, tie + 1))
        if abs(n) <= size:
            pairs.append((n, d))
    found = opened_quotients(*zip(*pairs, strict=True), size, Fraction(1))
    assert found == [half_up(Fraction(n, d)) for n, d in pairs]
    assert sum(Fraction(n, d).denominator == 2 for n, d in pairs) > 20


@pytest.mark.parametrize("domain", [NARROW, WIDE, Field(61), Field(127), Field(521)])
def test_negative_numbers_are_decoded_to_the_unit(domain):
    half = domain.order // 2
    values = [sign * value for value in (0, 1, 2, 3, 255, 256, half - 2, half - 1) for sign in (1, -1)]
    for _ in range(20):
        assert domain.decode(reconstruct(share(integers(values), domain, os.urandom))).tolist() == values


@pytest.mark.parametrize("constant", [Fraction(1, 3), Fraction("0.1"), Fraction(-22, 7), Fraction(1, 10**30)])
def test_products_with_constants_stay_exact(constant):
    inputs, unit, most = Inputs(1), Fraction(1, 2**80), 10**6
    values = [0, 1, -1, 3, most, 1 - most]
    x = inputs.total((6,), -most, most, values=values)
    rounded = (x * constant).round(unit, Fraction(-4 * most), Fraction(4 * most))
    same = (x * constant).equal(x / (1 / constant))
    found, _, _ = on_shares(*inputs.cut({"rounded": Output(rounded.index), "same": Output(same.index)}), {})
    assert found == [half_up(value * constant / unit) for value in values] + [1] * 6


def test_a_thousand_tenths_are_a_hundred():
    schema = vs.Schema(vs.Continuous("x", lower=0, upper=1, step=0.1), vs.Continuous("y", lower=0, upper=1, step="0.0001"), max_rows=1000)
    frame = pd.DataFrame({"x": np.full(1000, 0.1), "y": np.full(1000, 0.3333)})
    tables = dict.fromkeys(("north", "south", "west"), frame)
    for architecture in (vs.Sharing(), vs.Sharing(open="estimate"), vs.Sharing(entry="rows")):
        study = vs.simulate(tables, schema, architecture=architecture)
        assert study.sum(["x", "y"]).estimate.tolist() == [300.0, 999.9]
        assert study.mean(["x", "y"]).estimate.tolist() == [0.1, 0.3333]
