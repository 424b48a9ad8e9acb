"""Rings of rows: shares modulo 2^64 and 2^128 and their exact conversions, against Python integers."""

import random

import numpy as np
import pytest

from tests.sharing import compute, integers, opened, parties, run, run_three
from veilstat.architectures.sharing.protocols.araki16 import Shares, matmul, multiply, reconstruct
from veilstat.architectures.sharing.protocols.conversion import divided, less_than_zero, sign_bits
from veilstat.architectures.sharing.protocols.field import Field
from veilstat.architectures.sharing.protocols.ring import NARROW, WIDE, RingDomain, narrowed

FIELD = Field(127)


def edges(bits):
    """Signed values at which carries, words and signs change."""
    near = [sign * (1 << place) + offset for place in (0, 1, 31, 32, 62, 63, 64, 126, 127) for sign in (1, -1) for offset in (-1, 0, 1)]
    rng = random.Random(bits)
    drawn = [rng.randrange(-(1 << bits - 1), 1 << bits - 1) >> rng.randrange(bits) for _ in range(2000)]
    return [value for value in [0, *near, *drawn] if -(1 << bits - 1) <= value < 1 << bits - 1]


@pytest.mark.parametrize("bits", [64, 128])
def test_arithmetic_is_that_of_integers(bits):
    ring, values = RingDomain(bits), edges(bits)
    a, b = integers(values), integers(values[::-1])
    half = 1 << bits - 1

    def signed(x):
        return (x + half) % (2 * half) - half

    for operation, exact in ((ring.add, a + b), (ring.subtract, a - b), (ring.multiply, a * b)):
        assert ring.decode(operation(ring.encode(a), ring.encode(b))).tolist() == signed(exact).tolist()
    table = ring.multiply(ring.encode(a[:40, None]), ring.encode(b[None, :40]))
    assert ring.decode(table).tolist() == signed(a[:40, None] * b[None, :40]).tolist()
    assert ring.decode(ring.multiply(ring.encode(np.int64(-3)), ring.encode(np.int64(5)))).tolist() == -15
    single = [ring.encode(np.array(value, dtype=object)) for value in (half - 1, -half)]
    assert ring.decode(ring.subtract(*single)).tolist() == ring.decode(ring.add(*single)).tolist() == -1
    for axis in (0, 1, None):
        assert (
            ring.decode(ring.sum(ring.encode(a[:60].reshape(6, 10)), axis)).tolist()
            == integers(signed(a[:60].reshape(6, 10).sum(axis=axis))).tolist()
        )
    product = ring.matmul(ring.encode(a[:60].reshape(6, 10)), ring.encode(b[:50].reshape(10, 5)))
    assert ring.decode(product).tolist() == signed(a[:60].reshape(6, 10) @ b[:50].reshape(10, 5)).tolist()


@pytest.mark.parametrize("bits", [64, 128])
def test_encoding_accepts_every_kind_of_integer(bits):
    ring = RingDomain(bits)
    assert ring.decode(ring.encode(np.array([-1, 5], dtype=np.int8))).tolist() == [-1, 5]
    assert ring.decode(ring.encode(np.array([True, False]))).tolist() == [1, 0]
    assert ring.decode(ring.encode(np.uint64(2**63))).tolist() == (2**63 if bits == 128 else -(2**63))
    everything = ring.encode(integers(edges(bits)))
    assert ring.decode(ring.from_bytes(ring.to_bytes(everything), everything.shape)).tolist() == edges(bits)
    with pytest.raises(ValueError, match="2\\^96"):
        RingDomain(96)


@pytest.mark.parametrize("ring", [NARROW, WIDE])
def test_shared_products_cost_one_element_for_each_output(ring):
    a, b = np.arange(-600, 600).reshape(3, 400), np.arange(800).reshape(400, 2) * 10**6
    values, ended = compute(matmul, ring, a, b)
    assert values.tolist() == (a @ b).tolist()
    assert (ended.rounds, ended.bytes_per_server) == (1, 6 * ring.element_bytes)
    values, _ = compute(multiply, ring, a[:, :2], b[:3])
    assert values.tolist() == (a[:, :2] * b[:3]).tolist()


def held(bits):
    """The values that conversions take, up to both ends of their range."""
    end = (1 << bits - 2) - 1
    return [value for value in edges(bits) if abs(value) <= end] + [end, -end]


@pytest.mark.parametrize("ring", [NARROW, WIDE])
@pytest.mark.parametrize("field", [FIELD, Field(607)])
def test_totals_enter_the_field_exactly_up_to_the_last_bit(ring, field):
    values = [value for value in held(ring.bits) if 2 * abs(value) < field.order]
    ended = run(lambda party, x: divided(party, x, 0, field), ring, values)
    assert opened(field, ended.results).tolist() == values
    assert ended.rounds == 2


@pytest.mark.parametrize("places", [0, 1, 2, 17, 31, 32, 33, 62, 63, 64, 65, 87, 126])
@pytest.mark.parametrize(("ring", "target"), [(NARROW, NARROW), (NARROW, WIDE), (WIDE, NARROW), (WIDE, WIDE), (WIDE, FIELD)])
def test_division_by_powers_of_two_is_exact(ring, target, places):
    if places > ring.bits - 2:
        return
    values = [value for value in held(ring.bits) if -(1 << 63) <= value >> places < 1 << 63]
    ended = run(lambda party, x: divided(party, x, places, target), ring, values)
    assert opened(target, ended.results).tolist() == [value >> places for value in values]
    assert ended.rounds <= 5 + max(0, -(-places // 4) - 1).bit_length()


ENDS = [0, 1, 2**62 - 1, 2**62, 2**63 - 1, 2**63, 2**63 + 1, 3 * 2**62 - 1, 3 * 2**62, 2**64 - 1]


@pytest.mark.parametrize("places", [0, 1, 30, 62])
def test_every_number_of_wraps_and_carries_is_counted(places):
    dealt = [(a, b, (x - a - b) % 2**64) for a in ENDS for b in ENDS for x in (0, 1, -1, 2**30 - 1, 2**30, -(2**30), 2**62 - 1, 1 - 2**62)]
    arrays = [np.array(parts, dtype=np.uint64) for parts in zip(*dealt, strict=True)]
    servers = [Shares(NARROW, arrays[index], arrays[index - 1]) for index in range(3)]
    ended = run_three(divided(party, servers[party.index], places, FIELD) for party in parties())
    assert opened(FIELD, ended.results).tolist() == [((sum(parts) + 2**63) % 2**64 - 2**63) >> places for parts in dealt]


def test_wide_shares_serve_as_narrow_ones():
    ended = run(lambda party, x: multiply(party, narrowed(x), narrowed(x)), WIDE, [3, -5, 2**40])
    assert opened(NARROW, ended.results).tolist() == [9, 25, 0]


@pytest.mark.parametrize("bits", [1, 2, 6, 9, 15, 20, 31, 32, 40, 63])
@pytest.mark.parametrize("ring", [NARROW, WIDE])
@pytest.mark.parametrize("target", [NARROW, WIDE, FIELD])
def test_signs_of_values_up_to_every_width(bits, ring, target):
    largest = (1 << bits) - 1
    rng = random.Random(bits)
    values = [0, 1, -1, largest, -largest, *(rng.randint(-largest, largest) for _ in range(300)), -1]
    ended = run(lambda party, x: less_than_zero(party, x, bits, target), ring, values)
    assert opened(target, ended.results).tolist() == [int(value < 0) for value in values]
    assert ended.rounds == 4 + (-(-bits // 4) - 1).bit_length()
    ended = run(lambda party, x: sign_bits(party, x, bits), ring, values)
    assert reconstruct(ended.results).tolist() == [int(value < 0) for value in values]
    assert ended.rounds == 2 + (-(-bits // 4) - 1).bit_length()
