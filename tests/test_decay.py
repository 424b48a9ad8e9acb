"""Bounds of exp(-x) against decimal arithmetic, and decisions that look at as many bits as they need."""

import random
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest

from veilstat.dp.decay import decay, is_below_decay, product


def oracle(exponent, bits):
    """2^bits exp(-exponent) to 60 digits beyond the point."""
    with localcontext() as context:
        context.prec = 120 + bits // 3
        return (Decimal(-exponent.numerator) / Decimal(exponent.denominator)).exp() * (Decimal(2) ** bits)


EXPONENTS = [
    Fraction(0),
    Fraction(1),
    Fraction(1, 2),
    Fraction(1, 4096),
    Fraction(10**40 + 1, 10**40),
    Fraction(37, 3),
    Fraction(700),
    Fraction(10**6),
]


@pytest.mark.parametrize(
    "exponent",
    EXPONENTS + [Fraction(random.Random(seed).randrange(1, 10**9), random.Random(~seed).randrange(1, 10**9)) for seed in range(40)],
)
@pytest.mark.parametrize("bits", [1, 32, 63, 127, 500])
def test_bounds_hold_and_are_narrow(exponent, bits):
    low, high = decay(exponent, bits)
    assert low <= oracle(exponent, bits) <= high
    assert low >= 0
    assert high - low <= 2


def test_products_are_rounded_outwards():
    source = random.Random(1)
    for _ in range(500):
        a, b = sorted(source.randrange(1 << 40) for _ in range(2)), sorted(source.randrange(1 << 40) for _ in range(2))
        low, high = product(tuple(a), tuple(b), 40)
        assert low * 2**40 <= a[0] * b[0] < (low + 1) * 2**40
        assert (high - 1) * 2**40 <= a[1] * b[1] < high * 2**40


@pytest.mark.parametrize("exponent", [Fraction(1, 3), Fraction(2)])
@pytest.mark.parametrize("bits", [0, 3, 32])
def test_every_prefix_is_decided_as_often_as_it_should(exponent, bits):
    """The prefix that holds exp(-x) itself: how often a uniform number that begins with it is below is its further bits."""
    threshold = oracle(exponent, bits)
    prefix, source = int(threshold), random.Random(2)
    hits = sum(is_below_decay(prefix, bits, exponent, source.randbytes) for _ in range(4000))
    assert abs(hits / 4000 - float(threshold - prefix)) < 0.035


def test_no_bit_is_drawn_where_the_prefix_decides():
    def never(size):
        raise AssertionError("bits were drawn")

    threshold = int(oracle(Fraction(1), 32))
    assert is_below_decay(threshold - 3, 32, Fraction(1), never)
    assert not is_below_decay(threshold + 4, 32, Fraction(1), never)


def test_a_tie_is_broken_by_the_next_bits():
    with localcontext() as context:
        context.prec = 120
        digits = int(oracle(Fraction(1), 160))
    prefix, following = digits >> 128, (digits >> 64 & (1 << 64) - 1, digits & (1 << 64) - 1)

    def answers(*words):
        queue = list(words)
        return lambda size: queue.pop(0).to_bytes(8, "little")

    assert is_below_decay(prefix, 32, Fraction(1), answers(following[0] - 5))
    assert not is_below_decay(prefix, 32, Fraction(1), answers(following[0] + 5))
    assert is_below_decay(prefix, 32, Fraction(1), answers(following[0], following[1] - 5))
    assert not is_below_decay(prefix, 32, Fraction(1), answers(following[0], following[1] + 5))
