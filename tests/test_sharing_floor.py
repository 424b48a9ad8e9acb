"""Bits, comparisons and division by public integers on shares, against Python integers."""

import random

import numpy as np
import pytest

from tests.sharing import compute, integers, opened, parties, run, run_three
from veilstat.architectures.sharing.protocols.araki16 import Shares, constant, reconstruct
from veilstat.architectures.sharing.protocols.field import Field
from veilstat.architectures.sharing.protocols.floor import (
    MASKING,
    bits_of,
    equal_to_zero,
    floor_divide,
    less_than_zero,
    moved,
    open_under_mask,
    scaled_down,
    select,
)
from veilstat.architectures.sharing.protocols.prss import random_integers
from veilstat.architectures.sharing.protocols.words import (
    WORDS,
    add,
    pack,
    parities,
    shifted_left,
    shifted_right,
    suffix_or,
    to_arithmetic,
)

WIDTHS = [1, 3, 63, 64, 65, 128, 130, 300]


def numbers(words):
    """The unsigned integers that packed words hold."""
    return [int.from_bytes(row.astype("<u8").tobytes(), "little") for row in words.reshape(-1, words.shape[-1])]


def values_of(width, count, seed):
    source = random.Random(seed)
    special = [0, 1, (1 << width) - 1, 1 << (width - 1), (1 << width) // 3]
    return [special[i] if i < len(special) else source.getrandbits(source.randint(1, width)) for i in range(count)]


def signed(bits, count, seed):
    """Edges of |x| < 2^bits, powers of two and their neighbours, then random values of random lengths."""
    source = random.Random(seed)
    top = (1 << bits) - 1
    edge = [0, 1, -1, top, -top, top - 1, 1 - top]
    near = [sign * ((1 << k) + off) for k in range(0, bits, max(1, bits // 8)) for off in (-1, 0, 1) for sign in (1, -1)]
    found = [x for x in edge + near if abs(x) <= top]
    return integers(found + [source.randint(-1, 1) * source.getrandbits(source.randint(1, bits)) for _ in range(count)])


@pytest.mark.parametrize("width", WIDTHS)
def test_shifts_cross_words(width):
    values = values_of(width, 30, 1)
    packed = pack(integers(values), width)
    shared = Shares(WORDS, packed, ~packed)
    whole = 64 * packed.shape[-1]
    for places in (0, 1, 7, 63, 64, 65, 127, 128, whole, whole + 5):
        assert numbers(shifted_left(shared, places).own) == [(value << places) % (1 << whole) for value in values]
        assert numbers(shifted_right(shared, places).own) == [value >> places for value in values]
        assert numbers(shifted_right(shared, places).previous) == [(value ^ ((1 << whole) - 1)) >> places for value in values]


@pytest.mark.parametrize("width", WIDTHS)
def test_sums_of_shared_bits(width):
    a, b = (values_of(width, 300, seed) for seed in (1, 2))
    b[:5] = b[:5][::-1]

    def shared(values):
        packed = pack(integers(values), width)
        random_words = np.random.default_rng(width).integers(0, 1 << 63, size=(2, *packed.shape), dtype=np.uint64)
        parts = [random_words[0], random_words[1], packed ^ random_words[0] ^ random_words[1]]
        return [Shares(WORDS, parts[index], parts[index - 1]) for index in range(3)]

    dealt = [shared(values) for values in (a, b)]
    ended = run_three(add(party, *(shares[party.index] for shares in dealt), width) for party in parties())
    found = numbers(reconstruct(ended.results))
    assert [value % (1 << width) for value in found] == [(x + y) % (1 << width) for x, y in zip(a, b, strict=True)]
    assert ended.rounds == 1 + int(np.ceil(np.log2(width)))


def test_suffix_or_and_parities():
    width = 130
    values = values_of(width, 200, 4)
    packed = pack(integers(values), width)
    masks = pack(integers([(1 << width) - 1, 0b1010, 1 << 100]), width)

    def protocol(party):
        shared = constant(party, WORDS, packed)
        filled = yield from suffix_or(party, shared, width)
        return filled, parities(shared, masks)

    ended = run_three(protocol(party) for party in parties())
    assert numbers(reconstruct([r[0] for r in ended.results])) == [(1 << value.bit_length()) - 1 for value in values]
    expected = [[(value & int(mask)).bit_count() % 2 for mask in numbers(masks)] for value in values]
    assert reconstruct([r[1] for r in ended.results]).tolist() == expected


def test_bits_become_numbers():
    field = Field(127)

    def protocol(party):
        own, previous = random_integers(party, 1, 200)
        shared = Shares(WORDS, own.astype(np.uint64), previous.astype(np.uint64))
        return shared, (yield from to_arithmetic(party, field, shared))

    ended = run_three(protocol(party) for party in parties())
    bits = reconstruct([r[0] for r in ended.results])
    assert set(bits.tolist()) == {0, 1}
    assert (opened(field, [r[1] for r in ended.results]) == bits.astype(object)).all()
    assert ended.rounds == 2


@pytest.mark.parametrize("bits", [1, 2, 30, 60, 61, 62, 200, 900])
def test_signs_zeros_and_bits_are_exact(bits):
    field = Field.for_bits(bits + MASKING)
    values = signed(bits, 400, bits)

    negative, ended = compute(lambda party, x: less_than_zero(party, x, bits), field, values)
    assert (negative == integers([int(value < 0) for value in values])).all()
    assert ended.rounds == 5 + int(np.ceil(np.log2(-(-bits // 4))))
    zero, _ = compute(lambda party, x: equal_to_zero(party, x, bits), field, values.reshape(-1, 1))
    assert (zero.reshape(-1) == integers([int(value == 0) for value in values])).all()
    shared = run(lambda party, x: bits_of(party, x, bits), field, values)
    modulus = 1 << (bits + 1)
    assert [number % modulus for number in numbers(reconstruct(shared.results))] == [value % modulus for value in values]


@pytest.mark.parametrize("bits", [1, 8, 61, 130, 700])
def test_floor_division_is_exact(bits):
    field = Field.for_bits(bits + MASKING)
    source = random.Random(bits)
    values = signed(bits, 1500, bits)
    special = [1, 2, 3, 4, 7, 8, (1 << bits) - 1, 1 << bits, (1 << bits) + 1, 1 << (bits + 9), 10, 1 << max(bits - 1, 0)]
    divisors = integers([special[i % 24] if i % 24 < 12 else source.getrandbits(source.randint(1, bits)) + 1 for i in range(len(values))])
    result, _ = compute(lambda party, x: floor_divide(party, x, divisors, bits, bits + 10), field, values)
    assert (result == values // divisors).all()
    multiples = (values // divisors) * divisors
    result, _ = compute(lambda party, x: floor_divide(party, x, divisors, bits, bits + 10), field, multiples)
    assert (result == values // divisors).all()


def test_every_small_quotient():
    field = Field(89)
    values, divisors = np.meshgrid(np.arange(-40, 41), np.arange(1, 45))
    result, ended = compute(lambda party, x: floor_divide(party, x, integers(divisors), 6, 6), field, values)
    assert (result == values // divisors).all()
    assert ended.rounds == 5 + 1


def test_scaling_down_errs_by_less_than_four_units_and_never_more():
    bits, places = 150, 60
    field = Field.for_bits(bits + MASKING)
    values = signed(bits, 3000, 9)
    result, ended = compute(lambda party, x: scaled_down(party, x, places, bits), field, values)
    errors = (result << places) - values
    assert errors.max() < 3 << places
    assert errors.min() > -(1 << places)
    assert ended.rounds == 1


@pytest.mark.parametrize("value", [-7, 0, 7])
def test_single_numbers_without_an_axis(value):
    field = Field(127)
    expected = {
        lambda party, x: less_than_zero(party, x, 10): value < 0,
        lambda party, x: equal_to_zero(party, x, 10): value == 0,
        lambda party, x: floor_divide(party, x, 3, 10, 2): value // 3,
        lambda party, x: select(party, x, x, x): value,
    }
    for protocol, wanted in expected.items():
        result, _ = compute(protocol, field, value)
        assert result.shape == ()
        assert int(result) == wanted


def test_integers_move_to_another_field():
    for bits, start, end in ((20, Field(89), Field(521)), (400, Field(521), Field(1279)), (50, Field(521), Field(61))):
        values = signed(bits, 100, bits)
        ended = run(lambda party, x, bits=bits, end=end: moved(party, x, bits, end), start, values)
        assert (opened(end, ended.results) == values).all()
        assert ended.rounds == 1


def test_select():
    field = Field(127)
    result, ended = compute(select, field, [1, 0, 1], [5, 6, -7], [50, 60, 70])
    assert result.tolist() == [5, 60, -7]
    assert ended.rounds == 1


def test_a_field_without_room_for_masks_is_refused():
    with pytest.raises(ValueError):
        run(lambda party, x: less_than_zero(party, x, 128 - MASKING), Field(127), [1])
    compute(lambda party, x: less_than_zero(party, x, 127 - MASKING), Field(127), [1])


def test_a_masked_opening_hides_the_value():
    """Opened values of two extreme secrets are told apart by no bin of 16."""
    bits, count = 20, 20_000
    field = Field(127)
    histograms = []
    for value in ((1 << bits) - 1, 1 - (1 << bits)):
        ended = run(lambda party, x: open_under_mask(party, x, bits), field, [value] * count)
        masked = ended.results[0]
        hidden = [int(c) - int(a) - int(b) for c, a, b in zip(masked.opened, masked.own, masked.previous, strict=True)]
        histograms.append(np.bincount([max(0, h) >> (bits + 1 + 60) for h in hidden], minlength=16))
    assert ((histograms[0] - histograms[1]) ** 2 / (histograms[0] + histograms[1])).sum() < 60
