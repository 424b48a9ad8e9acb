"""Linear systems on shares, against exact rational arithmetic; singular ones; what is opened."""

import random
from fractions import Fraction

import numpy as np
import pytest

from tests.sharing import integers, opened, run
from veilstat.architectures.sharing.protocols.field import Field
from veilstat.architectures.sharing.protocols.solve import cramer_bounds, solve


def solved(matrix, right, field, known=None):
    known = np.zeros((len(matrix), 0), dtype=object) if known is None else known
    return run(lambda party, a, b: solve(party, a, b, known, field), field, matrix, right)


def determinant(matrix):
    """By expansion over fractions (Gauss), to be independent of flint."""
    rows = [[Fraction(int(value)) for value in row] for row in matrix]
    result = Fraction(1)
    for place in range(len(rows)):
        pivot = next((k for k in range(place, len(rows)) if rows[k][place]), None)
        if pivot is None:
            return 0
        if pivot != place:
            rows[place], rows[pivot], result = rows[pivot], rows[place], -result
        result *= rows[place][place]
        for k in range(place + 1, len(rows)):
            factor = rows[k][place] / rows[place][place]
            rows[k] = [x - factor * y for x, y in zip(rows[k], rows[place], strict=True)]
    return int(result)


def gram(rows, size, seed, top=1000):
    x = integers(np.random.default_rng(seed).integers(-top, top, size=(rows, size)))
    return x.T @ x


@pytest.mark.parametrize("size", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("symmetric", [True, False])
def test_solutions_are_exact_fractions(size, symmetric):
    source = np.random.default_rng(size)
    matrix = gram(40, size, size) if symmetric else integers(source.integers(-(10**6), 10**6, size=(size, size)))
    right = integers(source.integers(-(10**9), 10**9, size=(size, 3)))
    bound, numerator_bounds = cramer_bounds(abs(matrix), abs(right))
    field = Field.for_bits(max(bound, numerator_bounds.max()).bit_length())
    ended = solved(matrix, right, field)
    numerators = opened(field, [result.numerators for result in ended.results])
    denominator = int(opened(field, [result.determinant for result in ended.results]))
    assert denominator == determinant(matrix)
    assert (matrix @ numerators == denominator * right).all()
    assert ended.rounds == 1 + max(6, 1 + int(np.ceil(np.log2(2 * size + 1))))
    for shared in range(3):
        ended = solved(matrix, right[:, :shared], field, known=right[:, shared:])
        assert (opened(field, [result.numerators for result in ended.results]) == numerators).all()


def test_the_determinant_keeps_its_sign_and_zero_pivots_are_no_trouble():
    field = Field(127)
    matrix = integers([[0, 1, 0], [0, 0, -1], [1, 0, 0]])
    ended = solved(matrix, integers([[1], [2], [3]]), field)
    assert int(opened(field, [result.determinant for result in ended.results])) == -1
    assert opened(field, [result.numerators for result in ended.results]).tolist() == [[-3], [-1], [2]]


@pytest.mark.parametrize("rank", [0, 1, 2, 4])
def test_singular_systems_end_with_none_at_every_server(rank):
    field = Field(521)
    source = np.random.default_rng(rank)
    matrix = integers(source.integers(-100, 100, size=(5, max(rank, 1)))) @ integers(source.integers(-100, 100, size=(max(rank, 1), 5)))
    matrix = matrix * int(rank > 0)
    assert solved(matrix, integers(np.ones((5, 1))), field).results == (None, None, None)


def test_what_is_opened_of_a_singular_matrix_has_its_rank_and_looks_uniform():
    """Small leading bits of M = R A S, for a zero column and for proportional columns, whose row spaces differ."""
    field, histograms = Field(61), []
    for matrix in ([[1, 0], [0, 0]], [[3, 6], [1, 2]]):
        counts = np.zeros((4, 8))
        for _ in range(150):
            ended = solved(matrix, [[1], [1]], field)
            last = [field.from_bytes(payloads[-1], (len(payloads[-1]) // field.element_bytes,)) for payloads in ended.received]
            total = field.add(field.add(last[0][-4:], last[1][-4:]), last[2][-4:])
            assert (int(total[0]) * int(total[3]) - int(total[1]) * int(total[2])) % field.order == 0
            for place in range(4):
                counts[place, int(total[place]) >> 58] += 1
        histograms.append(counts)
    for counts in histograms:
        expected = counts.sum() / counts.size
        assert ((counts - expected) ** 2 / expected).sum() < 75  # 28 degrees of freedom


@pytest.mark.parametrize("size", [1, 2, 5, 8])
@pytest.mark.parametrize("units", [0, 5])
def test_bounds_hold_for_determinants_and_numerators(size, units):
    source = random.Random(size)
    for trial in range(25):
        top = 10 ** source.randint(0, 6)
        matrix = integers([[source.randint(-top, top) for _ in range(size)] for _ in range(size)])
        if trial == 0:
            matrix = integers([[top if (i & j).bit_count() % 2 else -top for i in range(size)] for j in range(size)])
        scale = integers([10 ** source.randint(0, units) for _ in range(size)])
        matrix = matrix * scale[:, None] * scale
        right = integers([[source.randint(-top, top) for _ in range(3)] for _ in range(size)])
        largest, numerators = cramer_bounds(abs(matrix), abs(right))
        assert abs(determinant(matrix)) <= largest
        for row in range(size):
            for column in range(3):
                replaced = matrix.copy()
                replaced[:, row] = right[:, column]
                assert abs(determinant(replaced)) <= numerators[row, column]


def test_bounds_of_columns_in_different_units_are_tight():
    """Products of bounds n u_i u_j, as of X'X: the determinant is at most n^p times the product of u_i^2."""
    units = integers([1, 10**3, 10**6, 10**9, 10, 1, 10**5, 2])
    bound, _ = cramer_bounds(10**6 * units[:, None] * units, integers(np.ones((8, 1))))
    assert bound.bit_length() <= int(np.prod(10**6 * units * units)).bit_length() + 8 * 3 + 8
