"""Products modulo 2^64 and 2^128 against Python integers, at the values where limbs and parts overflow."""

import numpy as np
import pytest

from veilstat.arithmetic.products import gram, inner, multiply, weighted_sums
from veilstat.arithmetic.rings import Ring

EDGES = [0, 1, 2**21 - 1, 2**22 - 1, 2**22, 2**43 - 1, 2**43, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 2**64, 2**127, 2**128 - 1]


def uniform(bits, shape, seed):
    return np.random.default_rng(seed).integers(0, 2**64, (*shape, 2) if bits == 128 else shape, dtype=np.uint64)


def integers(ring, elements):
    shape = elements.shape if ring.limbs == 1 else elements.shape[:-1]
    return ring.decode(np.ascontiguousarray(elements).reshape(-1, *([2] * (ring.limbs - 1))), 0).reshape(shape)


def edges(ring):
    return ring.encode(np.array(EDGES, dtype=object))


@pytest.mark.parametrize("bits", [64, 128])
def test_elementwise_products_are_those_of_integers(bits):
    ring = Ring(bits)
    every, random = edges(ring), uniform(bits, (2, 500), 1)
    table = multiply(ring, every[:, None], every[None, :])
    expected = [[a * b % 2**bits for b in EDGES] for a in EDGES]
    assert integers(ring, table).tolist() == expected
    a, b = integers(ring, random)
    assert integers(ring, multiply(ring, *random)).tolist() == [x * y % 2**bits for x, y in zip(a, b, strict=True)]


@pytest.mark.parametrize("bits", [64, 128])
@pytest.mark.parametrize("rows", [0, 1, 511, 513, 8193])
def test_sums_over_rows_are_those_of_integers(bits, rows):
    ring = Ring(bits)
    a, b = uniform(bits, (3, rows), rows), uniform(bits, (4, rows), rows + 1)
    plain_a, plain_b = integers(ring, a), integers(ring, b)
    assert integers(ring, inner(ring, a, b)).tolist() == (plain_a @ plain_b.T % 2**bits if rows else np.zeros((3, 4), int)).tolist()
    assert integers(ring, gram(ring, a)).tolist() == (plain_a @ plain_a.T % 2**bits if rows else np.zeros((3, 3), int)).tolist()


@pytest.mark.parametrize("bits", [64, 128])
def test_the_largest_values_in_every_row_stay_exact(bits):
    ring, rows = Ring(bits), 530_000
    largest = np.full((1, rows, 2) if bits == 128 else (1, rows), 2**64 - 1, dtype=np.uint64)
    expected = rows * (2**bits - 1) ** 2 % 2**bits
    assert integers(ring, gram(ring, largest)).tolist() == [[expected]]
    assert integers(ring, inner(ring, largest, largest)).tolist() == [[expected]]


@pytest.mark.parametrize("bits", [64, 128])
def test_limbs_in_separate_planes_give_the_same(bits):
    ring, a = Ring(bits), uniform(bits, (3, 700), 5)
    planes = np.moveaxis(np.ascontiguousarray(np.moveaxis(a, -1, 0)), 0, -1)
    assert np.array_equal(gram(ring, planes), gram(ring, a))
    assert np.array_equal(weighted_sums(ring, a[:2, :3], planes), weighted_sums(ring, a[:2, :3], a))


@pytest.mark.parametrize("bits", [64, 128])
def test_weighted_sums_are_those_of_integers(bits):
    ring = Ring(bits)
    weights, columns = uniform(bits, (2, 5), 7), uniform(bits, (5, 9000), 8)
    expected = integers(ring, weights) @ integers(ring, columns) % 2**bits
    assert integers(ring, weighted_sums(ring, weights, columns)).tolist() == expected.tolist()


def test_wider_rings_are_refused():
    ring = Ring(192)
    with pytest.raises(ValueError, match="2\\^192"):
        multiply(ring, ring.zeros(1), ring.zeros(1))
