"""Roots of shared integers: exact, and an opening tells of a square no more than its root to the declared resolution does."""

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import veilstat as vs
from tests.sharing import compute, integers
from tests.test_sharing_circuits import Inputs
from tests.test_sharing_execute import on_shares
from veilstat.architectures.sharing.protocols import floor
from veilstat.architectures.sharing.protocols.division import OUT_OF_RANGE, UNDEFINED
from veilstat.architectures.sharing.protocols.field import Field
from veilstat.architectures.sharing.protocols.floor import MASKING
from veilstat.architectures.sharing.protocols.roots import compared_bits, signed_roots
from veilstat.language.circuit import Output


def signed_root(value):
    return math.isqrt(value) if value >= 0 else -math.isqrt(-value)


def roots_of(values, bits):
    field = Field.for_bits(compared_bits(bits) + MASKING)
    return compute(lambda party, x: signed_roots(party, x, bits), field, integers(values))


@pytest.mark.parametrize("bits", [1, 2, 3, 7, 8, 9, 64, 127, 128])
def test_roots_at_squares_their_neighbours_and_the_ends(bits):
    top = 1 << bits
    places = {0, 1, 2, 3, math.isqrt(top), math.isqrt(top) - 1, math.isqrt(top // 2), math.isqrt(top // 3)}
    values = {abs(root * root + near) for root in places for near in (-1, 0, 1)} | {top, top - 1}
    values = sorted(value for value in values if value <= top)
    values += [-value for value in values]
    found, _ = roots_of(values, bits)
    assert found.tolist() == [signed_root(value) for value in values]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-(2**128), 2**128), min_size=1, max_size=6))
def test_any_root_is_exact(values):
    assert roots_of(values, 128)[0].tolist() == [signed_root(value) for value in values]


def test_every_small_root():
    values = list(range(-300, 301))
    found, ended = roots_of(values, 9)
    assert found.tolist() == [signed_root(value) for value in values]
    assert ended.rounds < 90


def opened_roots(numerators, denominator, resolution):
    """n / d as servers open its root."""
    inputs, count = Inputs(1), len(numerators)
    n, d = (inputs.total((count,), -(2**62), 2**62, values=values) for values in (numerators, [denominator] * count))
    return on_shares(*inputs.cut({"root": Output((n / d).index, resolution, rooted=True)}), {})[0]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("root", [0, 3, 2**19, 2**20 - 1])
def test_squares_with_one_root_on_the_lattice_are_opened_alike(root, sign):
    """Opened themselves, on the square of the lattice, these squares would all differ: by as many bits as the root has."""
    resolution, one = Fraction(1, 2**20), 2**60
    least, most = root**2 * 2**20, (root + 1) ** 2 * 2**20 - 1
    squares = sorted({least, least + 1, (least + most) // 2, most - 2**20} if root else {0, 1, 2**18})
    assert opened_roots([sign * square for square in squares], one, resolution) == [sign * root] * len(squares)
    assert root < 2 or len({round(Fraction(square, one) / resolution**2) for square in squares}) > 2


def test_roots_of_what_is_undefined_or_out_of_range_are_marked_so():
    assert opened_roots([1, -1, 0], 0, Fraction(1, 2**20)) == [UNDEFINED] * 3
    assert opened_roots([2**61, 4], 1, Fraction(1, 2**40)) == [OUT_OF_RANGE, 2**41]


RESOLUTION = Fraction(1, 2**40)
SEALED = vs.Sharing(open="estimate")


@pytest.mark.parametrize(
    ("query", "rooted"),
    [(vs.Std("x"), 1), (vs.Correlation(["x", "y"]), 3), (vs.LinearRegression("y ~ x"), 2)],
    ids=lambda part: getattr(part, "name", ""),
)
def test_no_sealed_statistic_opens_the_square_of_what_it_shows(query, rooted):
    schema = vs.Schema(vs.Integer("x", lower=0, upper=999), vs.Integer("y", lower=0, upper=999), max_rows=64)
    random = np.random.default_rng(5)
    tables = {name: pd.DataFrame(random.integers(0, 1000, (20, 2)), columns=["x", "y"]) for name in ("a", "b", "c")}
    study = vs.simulate(tables, schema, SEALED)
    study.run(query)
    plan = study.plan(query)
    assert sum(len(opening.elements) for step in plan.steps for opening in step.cut.openings if opening.rooted) >= rooted - 1
    assert all(entry.resolution in (None, RESOLUTION) for entry in plan.disclosures)
    [(_, released)] = study.observed["analyst"].opened
    places = [opening.rooted for opening in plan.steps[0].cut.openings for _ in opening.elements]
    roots = [int(value) for value, is_root in zip(released.values, places, strict=True) if is_root]
    assert roots
    assert all(abs(value) <= 1000 * 2**40 for value in roots)


@pytest.mark.parametrize("mask", [0, -1])
def test_the_most_unlucky_masks_change_nothing(monkeypatch, mask):
    """Masks of zeros or ones make every truncation err to one side."""

    def drawn(party, bits, count):
        part = integers([mask % (1 << bits)] * count)
        return part, part

    monkeypatch.setattr(floor, "random_integers", drawn)
    values = [root * root + near for root in (1, 2, 1000, 2**31, 2**63 - 1, 3 * 2**62) for near in (-1, 0, 1)]
    assert roots_of(values, 128)[0].tolist() == [signed_root(value) for value in values]
