"""exp(-x) of rational numbers between integers, at any precision: what exact samplers compare random bits with.

All numbers are fixed-point integers, rounded outwards: bounds hold whatever the precision, and close in on the value as it grows.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import TypeAlias

Bounds: TypeAlias = "tuple[int, int]"
MORE_BITS = 64
_GUARD_BITS = 16


def decay(exponent: Fraction, bits: int) -> Bounds:
    """Integers (low, high) with low <= 2^bits exp(-exponent) <= high and high - low <= 2, for an exponent of at least 0.

    Taylor's series of the exponent halved to below 1/2, each term rounded to within two units of the last place; then squares.
    """
    halvings = max(0, exponent.numerator.bit_length() - exponent.denominator.bit_length() + 2)
    precision = bits + halvings + _GUARD_BITS
    numerator, denominator = exponent.numerator, exponent.denominator << halvings
    term, total, count = 1 << precision, 1 << precision, 0
    while term:
        count += 1
        term = term * numerator // (denominator * count)
        total += -term if count % 2 else term
    bounds = (total - 2 * count, total + 2 * count)
    for _ in range(halvings):
        bounds = product(bounds, bounds, precision)
    return max(0, bounds[0] >> precision - bits), (bounds[1] >> precision - bits) + 1


def product(a: Bounds, b: Bounds, bits: int) -> Bounds:
    """Bounds of the product of two numbers that are not negative, all with ``bits`` binary places."""
    return max(0, a[0]) * max(0, b[0]) >> bits, (a[1] * b[1] >> bits) + 1


def is_below_decay(prefix: int, bits: int, exponent: Fraction, random: Callable[[int], bytes]) -> bool:
    """Whether a uniform number in [0, 1), whose first ``bits`` bits are ``prefix``, is below exp(-exponent): exact, as further bits are drawn."""
    while True:
        low, high = decay(exponent, bits)
        if prefix < low:
            return True
        if prefix >= high:
            return False
        prefix, bits = extended(prefix, random), bits + MORE_BITS


def extended(prefix: int, random: Callable[[int], bytes]) -> int:
    """A prefix with ``MORE_BITS`` further random bits."""
    return prefix << MORE_BITS | int.from_bytes(random(MORE_BITS // 8), "little")
