"""Discrete Gaussian noise: microseconds a draw in vectors, beside OpenDP's where it is installed.

python benchmarks/noise.py
"""

from __future__ import annotations

import importlib
import secrets
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

from veilstat.dp.discrete_gaussian import discrete_gaussian, rounded_variance

DRAWS = 200_000


def microseconds(call: Callable[[], Any]) -> float:
    """CPU time of a draw, the best of three runs."""
    times = []
    for _ in range(3):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return 1e6 * min(times) / DRAWS


def opendp(sigma: float) -> Callable[[], Any]:
    """OpenDP's vector mechanism on integers; ImportError where it is not installed."""
    peer: Any = importlib.import_module("opendp.prelude")
    peer.enable_features("contrib")
    domain = peer.vector_domain(peer.atom_domain(T=int), size=DRAWS)
    mechanism, zeros = peer.m.make_gaussian(domain, peer.l2_distance(T=float), scale=sigma), [0] * DRAWS
    return lambda: mechanism(zeros)


def main() -> None:
    """One line for each sigma."""
    print("| sigma | veilstat | OpenDP |")
    print("|---|---|---|")
    for sigma in (1, 20, 10**4, 10**8, 10**12, 10**20):
        variance = rounded_variance(Fraction(sigma) ** 2)
        ours = microseconds(partial(discrete_gaussian, variance, DRAWS, secrets.token_bytes))
        try:
            theirs = f"{microseconds(opendp(float(sigma))):.2f}"
        except ImportError:
            theirs = ""
        print(f"| {sigma:,} | {ours:.3f} | {theirs} |", flush=True)


if __name__ == "__main__":
    main()
