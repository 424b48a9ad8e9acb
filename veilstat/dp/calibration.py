"""How much noise a promise (epsilon, delta) needs, for a vector or a number that one unit changes by at most 1, or by ``sensitivity``.

What is released has discrete Gaussian noise: vectors are calibrated by its concentrated differential privacy, numbers by
its exact tail (Canonne, Kamath, Steinke, NeurIPS 2020). The continuous calibrations are references, not proofs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

_MARGIN = 1e-9
_SIGNIFICANT_BITS = 20
MOST_TERMS = 1 << 18
"""Values of a number over which its tail is summed, at most."""


def analytic_delta(sigma: float, epsilon: float) -> float:
    """The delta of continuous Gaussian noise: Balle, Wang (ICML 2018), Theorem 8; a reference for comparison."""
    return _normal_tail(epsilon * sigma - 0.5 / sigma) - math.exp(epsilon) * _normal_tail(epsilon * sigma + 0.5 / sigma)


def analytic_epsilon(sigma: float, delta: float) -> float:
    """The least epsilon that continuous Gaussian noise promises at delta (Balle, Wang)."""
    return _bisect(lambda epsilon: analytic_delta(sigma, epsilon) > delta, 0.0, 1 / sigma**2 + 20 / sigma)


def textbook_sigma(epsilon: float, delta: float) -> float:
    """sqrt(2 ln(1.25 / delta)) / epsilon: Dwork, Roth (2014), Theorem A.1, which is proven for epsilon < 1 only."""
    return math.sqrt(2 * math.log(1.25 / delta)) / epsilon


def zcdp_delta(rho: float, epsilon: float) -> float:
    """The delta that rho-zCDP implies at epsilon: Canonne, Kamath, Steinke, Corollary 13. Every order gives a valid bound."""

    def falls(order: float) -> bool:
        return (2 * order - 1) * rho - epsilon + math.log1p(-1 / order) < 0

    order = _bisect(falls, 1 + 1e-9, (epsilon + 1) / rho + 2)
    logarithm = (order - 1) * (order * rho - epsilon) - math.log(order - 1) + order * math.log1p(-1 / order)
    return min(1.0, math.exp(logarithm))


def zcdp_rho(epsilon: float, delta: float) -> Fraction:
    """The largest rho, to 20 significant bits, that keeps the promise (epsilon, delta)."""
    rho = _bisect(lambda trial: zcdp_delta(trial, epsilon) <= delta * (1 - _MARGIN), epsilon * epsilon / 1e5, epsilon)
    unit = Fraction(2) ** (math.floor(math.log2(rho)) - _SIGNIFICANT_BITS)
    return (math.floor(Fraction(rho) / unit) - 1) * unit


def zcdp_epsilon(rho: float, delta: float) -> float:
    """The least epsilon that rho-zCDP implies at delta."""
    return _bisect(lambda epsilon: zcdp_delta(rho, epsilon) > delta, 0.0, rho + 4 * math.sqrt(rho * math.log(1 / delta)))


def tail_delta(variance: Fraction, epsilon: float) -> float:
    """The exact delta of a number that changes by 1, with discrete Gaussian noise: Canonne, Kamath, Steinke, Theorem 7, rounded up.

    Raises:
        ValueError: the tail has more than ``MOST_TERMS`` values.
    """
    reach = math.ceil(40 * math.sqrt(variance)) + 1
    if reach > MOST_TERMS:
        raise ValueError("the tail is too long to be summed; calibrate by zCDP")
    x = np.arange(-reach, reach + 1, dtype=np.float64)
    weights = np.exp(-x * x / (2 * float(variance)))
    gains = epsilon - (2 * x + 1) / (2 * float(variance))
    return float((weights * -np.expm1(np.minimum(gains, 0))).sum() / weights.sum()) * (1 + _MARGIN)


def sum_distance(share_variance: Fraction, count: int) -> float:
    """How far, in log-probability, a sum of ``count`` discrete Gaussians is from one: Kairouz, Liu, Steinke (ICML 2021), Theorem 11."""
    spread = 2 * math.pi**2 * float(share_variance)
    return 10 * sum(math.exp(-spread * k / (k + 1)) for k in range(1, count))


def _normal_tail(x: float) -> float:
    return 0.5 * math.erfc(x / math.sqrt(2))


def _bisect(holds: Callable[[float], bool], low: float, high: float) -> float:
    """The largest argument, within bounds, up to which a predicate holds that fails from some point on."""
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high
