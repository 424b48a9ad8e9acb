"""Linear systems on shares, as exact fractions, by masking with random matrices (Bar-Ilan, Beaver, PODC 1989).

R and S are products L D U of random unit triangular and diagonal matrices over the field F_q, hence uniform on the
big cell of GL_n(F_q), which holds all but a fraction of n / q of it. M = R A S is opened: for an invertible A it is
within 2 n / q of uniform on GL_n, whatever A is. For a singular A of rank r it is as close to uniform on the
matrices of rank r, so that it shows the rank and nothing else: "rank of the system" is a declared opening.

Then A^-1 = S M^-1 R, and det A = det M / (det R det S) makes integers of it: Cramer's numerators adj(A) b over the
common denominator det A, both of bounded size (Hadamard).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .araki16 import Elements, Shares, beside, constant, matmul, multiply, open_masked, product, random_shares
from .field import Field
from .prss import Party
from .rounds import Protocol, gather

Integers = npt.NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class Solution:
    """x = numerators / determinant, of shapes (n, k) and ()."""

    numerators: Shares = field(repr=False)
    determinant: Shares = field(repr=False)


def solve(party: Party, matrix: Shares, right: Shares, known: Integers, system: Field) -> Protocol[Solution | None]:
    """The solution of A x = B over ``system``, or None, publicly, where A is singular.

    A of shape (n, n) is shared, and so are the first columns of B; the last ones, ``known``, are public.
    An invertible A is taken for singular with probability (2 n + 1) / q, below 2^-50 in every field here.
    Rounds: 1 + max(6, 1 + ceil(log2(2 n + 1))).
    """
    size = matrix.shape[0]
    diagonals, scale = random_shares(party, system, (2, size, 1)), random_shares(party, system, (1,))
    inverse, unmasked = yield from gather(
        [_inverse(party, diagonals.reshape((2 * size,)).joined(scale), scale), _unmasked(party, matrix, right, known, diagonals, system)]
    )
    if inverse is None or unmasked is None:
        return None
    solution, masked_determinant = unmasked
    determinant = inverse.scaled(masked_determinant)
    return Solution((yield from multiply(party, solution, determinant)), determinant)


def _inverse(party: Party, factors: Shares, last: Shares) -> Protocol[Shares | None]:
    """The inverse of the product of all factors but the ``last``, which is uniform and hides that product when all are opened."""
    opened = int((yield from open_masked((yield from product(party, factors)))))
    if opened == 0:
        return None
    return last.reshape(()).scaled(pow(opened, -1, last.domain.order))


def _unmasked(
    party: Party, matrix: Shares, right: Shares, known: Integers, diagonals: Shares, system: Field
) -> Protocol[tuple[Shares, int] | None]:
    """(A^-1 B, det R A S), or None where R A S is singular."""
    size = matrix.shape[0]
    lower = _triangular(party, system, np.tri(size, k=-1, dtype=np.int64))
    upper = _triangular(party, system, np.tri(size, k=-1, dtype=np.int64).T)
    scaled = yield from multiply(party, upper, diagonals)
    first, second = yield from gather([matmul(party, lower[place], scaled[place]) for place in range(2)])
    left = yield from matmul(party, first, beside(matrix, right))
    hidden = beside(left[:, size:], first.right_times(known))
    opened = yield from open_masked((yield from matmul(party, left[:, :size], second)))
    inverse, determinant = _inverted(system, opened)
    if inverse is None:
        return None
    return (yield from matmul(party, second, hidden.left_times(inverse))), determinant


def _triangular(party: Party, system: Field, outside: npt.NDArray[np.int64]) -> Shares:
    """Two matrices with 1 on the diagonal and uniform elements where ``outside`` is 1."""
    size = len(outside)
    entries = random_shares(party, system, (2, size, size)).rearranged(lambda part: part * outside)
    return entries + constant(party, system, np.broadcast_to(np.eye(size, dtype=np.int64), (2, size, size)))


def _inverted(system: Field, matrix: Elements) -> tuple[Elements | None, int]:
    """Inverse and determinant of a public matrix, by python-flint; (None, 0) where it is singular."""
    from flint import fmpz_mat, fmpz_mod_mat

    modular = fmpz_mod_mat(fmpz_mat(matrix.tolist()), _modulus(system.order))
    determinant = int(modular.det())
    if determinant == 0:
        return None, 0
    entries = [int(entry) for entry in modular.inv().entries()]
    return np.array(entries, dtype=object).reshape(matrix.shape), determinant


@cache
def _modulus(order: int) -> Any:
    """The context of arithmetic modulo a prime, which python-flint checks once."""
    from flint import fmpz_mod_ctx

    return fmpz_mod_ctx(order)


def cramer_bounds(matrix: Integers, right: Integers) -> tuple[int, Integers]:
    """Bounds on |det A| and on |adj(A) B| from bounds on |A|, shape (n, n), and |B|, shape (n, k).

    Hadamard's product of the rows' lengths, after columns were divided by powers of 2 near the square roots of the
    diagonal, so that columns of different units cost no bits. Rows count no less than 1, which covers minors too.
    """
    halves = [int(entry).bit_length() // 2 for entry in np.diag(matrix)]
    weights = np.array([1 << 2 * (max(halves) - half) for half in halves], dtype=object)
    unit = 1 << 2 * max(halves)
    lengths = [max(1, math.isqrt(-(-int(square) // unit)) + 1) for square in (matrix * matrix * weights).sum(axis=1)]
    determinant = math.prod(lengths) << sum(halves)
    minors = np.array([[determinant // (length << half) + 1 for length in lengths] for half in halves], dtype=object)
    return determinant, np.asarray(minors @ right)
