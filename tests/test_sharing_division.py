"""Exact quotients of shared integers, against Python's floor division."""

import random

import numpy as np
import pytest

from tests.sharing import compute, integers
from tests.test_sharing_floor import signed
from veilstat.architectures.sharing.protocols.division import (
    HIGHEST,
    LOWEST,
    OUT_OF_RANGE,
    UNDEFINED,
    Precision,
    floor_quotients,
    public_quotients,
)
from veilstat.architectures.sharing.protocols.field import Field
from veilstat.architectures.sharing.protocols.floor import MASKING


def expected(n, d, precision):
    if d == 0:
        return UNDEFINED
    quotient = n // d
    return quotient if precision.low <= quotient <= precision.high else OUT_OF_RANGE


def divide(numerators, divisors, precision, which=None, field=None):
    which = np.arange(len(divisors)) if which is None else which
    field = field or Field.for_bits(precision.bits + MASKING)

    def protocol(party, n, d):
        quotients = yield from floor_quotients(party, n, d, which, precision)
        return quotients.marked(party)

    result, ended = compute(protocol, field, numerators, divisors)
    wanted = [expected(int(n), int(divisors[k]), precision) for n, k in zip(numerators, which, strict=True)]
    assert (result == integers(wanted)).all()
    return ended


def divide_by_public(numerators, divisors, precision):
    def protocol(party, n):
        quotients = yield from public_quotients(party, n, divisors, precision)
        return quotients.marked(party)

    result, _ = compute(protocol, Field.for_bits(precision.bits + MASKING), numerators)
    assert (result == integers([expected(int(n), int(d), precision) for n, d in zip(numerators, divisors, strict=True)])).all()


@pytest.mark.parametrize(
    "a,b",
    [
        (1, 1),
        (5, 3),
        (40, 20),
        (20, 40),
        (127, 60),
        (128, 128),
        (129, 2),
        (200, 50),
        (70, 62),
        (70, 63),
        (70, 64),
        (150, 127),
        (150, 128),
        (50, 300),
        (700, 640),
    ],
)
def test_quotients_are_exact(a, b):
    source = random.Random(a * 1000 + b)
    divisors = signed(b, 400, 1)
    ratio = [source.randint(-1, 1) * source.getrandbits(source.randint(1, min(a, 131))) for _ in divisors]
    numerators = [
        max(1 - (1 << a), min((1 << a) - 1, int(d) * q + source.choice((0, 1, -1, int(d) // 2, source.getrandbits(a)))))
        for d, q in zip(divisors, ratio, strict=True)
    ]
    divide(integers(numerators), divisors, Precision(a, b))


@pytest.mark.parametrize("bits", [4, pytest.param(5, marks=pytest.mark.long)])
def test_every_small_quotient(bits):
    most, divisors = (1 << bits) - 1, (1 << bits - 1) - 1
    n, d = (part.reshape(-1) for part in np.meshgrid(np.arange(-most, most + 1), np.arange(-divisors, divisors + 1)))
    for limits in ({}, {"low": -4, "high": 3}, {"low": 0, "high": 0}):
        divide(integers(n), integers(d), Precision(bits, bits - 1, **limits))
    for limits in ({}, {"low": -4, "high": 3}):
        divide_by_public(integers(n), integers(d), Precision(bits, bits - 1, **limits))


@pytest.mark.parametrize("b", [3, 140, 600])
@pytest.mark.parametrize("count", [8, pytest.param(40, marks=pytest.mark.long)])
def test_quotients_just_inside_and_just_outside_the_limit(b, count):
    numerators, divisors = [], []
    for d in signed(b, count, 2):
        for quotient in (HIGHEST, HIGHEST + 1, LOWEST, LOWEST - 1):
            numerators += [quotient * int(d) + off for off in (-1, 0, 1, abs(int(d)) - 1)]
            divisors += [d] * 4
    divide(integers(numerators), integers(divisors), Precision(b + 130, b))


def test_multiples_and_their_neighbours_with_roomy_fields():
    """Where the field has room, fewer truncations happen: the error must still be settled."""
    source = random.Random(3)
    precision = Precision(150, 20)
    divisors = integers([source.choice((1, -1)) * (source.getrandbits(19) + 1) for _ in range(300)])
    numerators = integers([int(d) * source.getrandbits(127) + source.choice((-1, 0, 1)) for d in divisors])
    rounds = [divide(numerators, divisors, precision, field=Field(exponent)).rounds for exponent in (521, 607, 1279, 2203)]
    assert rounds == sorted(rounds, reverse=True)


def test_numerators_share_their_divisors():
    divisors = integers([7, -3, 0])
    which = np.array([0, 1, 1, 2, 0, 0])
    divide(integers([100, 100, -100, 5, -1, 1 << 90]), divisors, Precision(100, 4), which)


def test_rounds_of_a_regression_sized_division():
    ended = divide(integers([(1 << 1000) + 12345]), integers([(1 << 950) - 3]), Precision(1040, 955))
    assert ended.rounds == 56


@pytest.mark.parametrize("mask", [0, 1], ids=["zeros", "ones"])
def test_the_most_unlucky_masks_change_nothing(monkeypatch, mask):
    """With masks of all ones every truncation errs as much as it can, upwards; with zeros, downwards."""

    def unlucky(party, bits, count):
        values = integers([mask * ((1 << bits) - 1)] * count)
        return values, values

    monkeypatch.setattr("veilstat.architectures.sharing.protocols.floor.random_integers", unlucky)
    source = random.Random(5)
    for a, b in ((6, 4), (70, 62), (190, 60), (300, 200)):
        divisors = integers([source.choice((1, -1)) * (source.getrandbits(b) | 1) for _ in range(200)])
        most = min(a - b, 127)
        numerators = integers([int(d) * source.getrandbits(most) + source.choice((0, 1, -1, int(d) // 3, int(d) - 1)) for d in divisors])
        for exponent in (521, 1279):
            divide(numerators, divisors, Precision(a, b), field=Field(exponent))
        divide_by_public(numerators, divisors, Precision(a, b))
