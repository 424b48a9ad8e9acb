"""Discrete Gaussian noise: microseconds a draw in vectors, beside OpenDP's where it is installed.

OMP_NUM_THREADS=1 python -m benchmarks.noise
"""

from __future__ import annotations

import importlib
import secrets
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

from benchmarks.measuring import fastest, heading, row
from veilstat.dp.discrete_gaussian import discrete_gaussian, rounded_variance

DRAWS, CALLS = 200_000, 3


def opendp(sigma: float) -> Callable[[], Any]:
    """OpenDP's vector mechanism on integers; ImportError where it is not installed."""
    peer: Any = importlib.import_module("opendp.prelude")
    peer.enable_features("contrib")
    domain = peer.vector_domain(peer.atom_domain(T=int), size=DRAWS)
    mechanism, zeros = peer.m.make_gaussian(domain, peer.l2_distance(T=float), scale=sigma), [0] * DRAWS
    return lambda: mechanism(zeros)


def main() -> None:
    """One line for each sigma."""
    print(heading("sigma", "veilstat", "OpenDP"))
    for sigma in (1, 20, 10**4, 10**8, 10**12, 10**20):
        variance = rounded_variance(Fraction(sigma) ** 2)
        ours = 1e6 / DRAWS * fastest(partial(discrete_gaussian, variance, DRAWS, secrets.token_bytes), CALLS)
        try:
            theirs = f"{1e6 / DRAWS * fastest(opendp(float(sigma)), CALLS):.2f}"
        except ImportError:
            theirs = ""
        print(row(f"{sigma:,}", f"{ours:.2f}", theirs), flush=True)


if __name__ == "__main__":
    main()
