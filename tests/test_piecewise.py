"""Logistic and softplus on shares: their error against exact values, everywhere and at every seam."""

import math
from fractions import Fraction

import numpy as np
import pytest

import veilstat as vs
from tests.sharing import compute, opened, run
from veilstat.architectures.sharing.protocols.piecewise import ERROR, LOGISTIC, SOFTPLUS, UNITS, piecewise
from veilstat.architectures.sharing.protocols.ring import NARROW, WIDE

both = pytest.mark.parametrize("name", [LOGISTIC, SOFTPLUS])


def exact(name, x):
    """The function without cancellation."""
    tail = math.exp(-abs(x))
    if name == SOFTPLUS:
        return max(x, 0) + math.log1p(tail)
    return (1 if x >= 0 else tail) / (1 + tail)


def values_of(name, operands, scale, bits, ring=NARROW):
    def protocol(party, shares):
        return (yield from piecewise(party, name, shares, scale, bits, ring))

    ended = run(protocol, WIDE, operands)
    return [int(value) * UNITS[name] for value in opened(ring, ended.results)], ended


def worst(name, operands, scale, bits, ring=NARROW):
    values, _ = values_of(name, operands, scale, bits, ring)
    return max(abs(float(value) - exact(name, operand * float(scale))) for value, operand in zip(values, operands, strict=True))


@both
@pytest.mark.parametrize("ring", [NARROW, WIDE])
def test_the_error_is_below_the_stated_bound_everywhere(name, ring):
    scale = Fraction(1, 2**40)
    grid = [round(x / float(scale)) for x in np.linspace(-20, 20, 20_001)]
    assert worst(name, grid, scale, 48, ring) <= ERROR


@both
def test_every_seam_between_intervals_and_both_ends(name):
    scale = Fraction(1, 2**40)
    seams = [sign * (half << 39) + offset for half in range(41) for sign in (1, -1) for offset in (-512, -511, -1, 0, 1, 511, 512)]
    assert worst(name, seams, scale, 48) <= ERROR
    far = [sign * ((1 << place) + offset) for place in range(40, 57) for sign in (1, -1) for offset in (-(1 << 38), -1, 0, 1 << 39)]
    far = [operand for operand in far if abs(operand) < 1 << 56]
    assert worst(name, far, scale, 56) <= ERROR


@both
def test_below_sixteen_the_error_is_smaller_still(name):
    scale = Fraction(1, 2**40)
    grid = [round(x / float(scale)) for x in np.linspace(-15.99, 15.99, 20_000)]
    assert worst(name, grid, scale, 48) <= 2.0**-26.8


@both
@pytest.mark.parametrize(("scale", "bits"), [(Fraction(1), 6), (Fraction(1, 8), 9), (Fraction(3, 2**20), 26), (Fraction(1, 2**60), 85)])
def test_other_scales(name, scale, bits):
    top = min(1 << bits, int(30 / scale))
    operands = [round(share * (top - 1)) for share in np.linspace(-1, 1, 999)]
    assert worst(name, operands, scale, bits) <= ERROR


def test_results_do_not_depend_on_the_randomness():
    operands = [round(x * 2**40) for x in np.linspace(-17, 17, 500)]
    first, ended = values_of(LOGISTIC, operands, Fraction(1, 2**40), 48)
    second, _ = values_of(LOGISTIC, operands, Fraction(1, 2**40), 48)
    assert first == second
    assert ended.rounds == 29


def test_too_wide_operands_are_refused():
    for scale, bits in ((Fraction(1, 3), 10), (Fraction(1, 2**20), 80), (Fraction(1, 2**100), 127), (Fraction(1, 2**125), 100)):
        with pytest.raises(vs.CapabilityError):
            compute(lambda party, x, scale=scale, bits=bits: piecewise(party, LOGISTIC, x, scale, bits, NARROW), WIDE, [0])
