"""Products modulo 2^64 and 2^128 of shared columns, beside matrix multiplication by numpy: CPU milliseconds, one thread.

    OMP_NUM_THREADS=1 python -m benchmarks.products

A server's part of a Gram matrix of replicated shares is two such Gram matrices and one sum of columns.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.measuring import fastest, heading, row
from veilstat.arithmetic.products import gram, inner, multiply, weighted_sums
from veilstat.arithmetic.rings import Ring


def main() -> None:
    """One line per ring and size."""
    print(heading("ring", "rows x columns", "gram", "inner", "X v", "elementwise", "numpy X'X"))
    for bits in (64, 128):
        for rows in (100_000, 1_000_000):
            ring = Ring(bits)
            shape = (10, rows) if bits == 64 else (10, rows, 2)
            x = np.random.default_rng(1).integers(0, 2**64, shape, dtype=np.uint64)
            weights = x[:1, :10].copy()
            calls = [
                partial(gram, ring, x),
                partial(inner, ring, x, x),
                partial(weighted_sums, ring, weights, x),
                partial(multiply, ring, x[0], x[1]),
                *([partial(np.matmul, x, x.T)] if bits == 64 else []),
            ]
            times = [f"{1e3 * fastest(call, 5):.1f}" for call in calls] + [""] * (5 - len(calls))
            print(row(f"2^{bits}", f"{rows:,} x 10", *times), flush=True)


if __name__ == "__main__":
    main()
