"""Products modulo 2^64 and 2^128 of shared columns, beside matrix multiplication by numpy: CPU milliseconds, one thread.

    python benchmarks/products.py

A server's part of a Gram matrix of replicated shares is two such Gram matrices and one sum of columns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from veilstat.arithmetic.products import gram, inner, multiply, weighted_sums
from veilstat.arithmetic.rings import Ring


def milliseconds(call: Callable[[], Any]) -> float:
    """The best of five runs."""
    times = []
    for _ in range(5):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return 1e3 * min(times)


def main() -> None:
    """One line per ring and size."""
    print("| ring | rows x columns | gram | inner | X v | elementwise | numpy X'X |")
    print("|---|---|---|---|---|---|---|")
    for bits in (64, 128):
        for rows in (100_000, 1_000_000):
            ring = Ring(bits)
            shape = (10, rows) if bits == 64 else (10, rows, 2)
            x = np.random.default_rng(1).integers(0, 2**64, shape, dtype=np.uint64)
            weights = x[:1, :10].copy()
            matmul = f"{milliseconds(partial(np.matmul, x, x.T)):.1f}" if bits == 64 else ""
            times = (
                milliseconds(partial(gram, ring, x)),
                milliseconds(partial(inner, ring, x, x)),
                milliseconds(partial(weighted_sums, ring, weights, x)),
                milliseconds(partial(multiply, ring, x[0], x[1])),
            )
            print(f"| 2^{bits} | {rows:,} x 10 | " + " | ".join(f"{value:.1f}" for value in times) + f" | {matmul} |", flush=True)


if __name__ == "__main__":
    main()
