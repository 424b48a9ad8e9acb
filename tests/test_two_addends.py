"""Two addends of three components: carries, bits, intervals and table entries, against Python integers and bisection."""

import bisect
import random
from fractions import Fraction

import numpy as np
import pytest

from tests.sharing import parties, run, run_three
from tests.test_sharing_views import joined, two_samples
from veilstat.architectures.sharing.protocols import intervals
from veilstat.architectures.sharing.protocols.adder import bits_held, carries, sliced, unsliced
from veilstat.architectures.sharing.protocols.araki16 import open_masked, reconstruct, share
from veilstat.architectures.sharing.protocols.conversion import addends_of, divided, less_than_zero, quotients, sign_bits
from veilstat.architectures.sharing.protocols.field import Field
from veilstat.architectures.sharing.protocols.intervals import COUNT, DIGITS, FINEST, interval, length, start, tabulated
from veilstat.architectures.sharing.protocols.piecewise import LOGISTIC, piecewise
from veilstat.architectures.sharing.protocols.ring import NARROW, WIDE
from veilstat.architectures.sharing.protocols.turns import deal, held, parted, shared, to_arithmetic, whole
from veilstat.architectures.sharing.protocols.words import OCTETS

EDGES = [0, 1, 2, 7, 8, 15, 16, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1]


def opened_bits(results, count):
    """Shared slices as a matrix of bits, of the elements of all three parts in order."""
    size = -(-count // 3)
    whole_slices = reconstruct(results)
    return np.concatenate([unsliced(part, size) for part in np.split(whole_slices, 3, axis=-1)], axis=-1)[..., :count]


def components(values, seed):
    """Three components modulo 2^64 of each value, many of them at the edges."""
    rng = random.Random(seed)
    first, second = ([rng.choice(EDGES) if rng.random() < 0.5 else rng.randrange(2**64) for _ in values] for _ in range(2))
    third = [(value - a - b) % 2**64 for value, a, b in zip(values, first, second, strict=True)]
    return [np.array(part, dtype=np.uint64) for part in (first, second, third)]


@pytest.mark.parametrize("ends", [(1,), (4,), (5,), (1, 2, 3), (3, 19, 20, 32), (7, 35, 36, 40, 63), tuple(range(1, 64))])
@pytest.mark.parametrize("count", [1, 2, 3, 23, 24, 25, 1000])
def test_carries_are_those_of_the_two_addends(ends, count):
    values = [random.Random(place).choice([*EDGES, 12345]) for place in range(count)]
    parts = components(values, count)

    def protocol(party):
        addends = held(party, parts[party.index], parts[party.index - 1], NARROW.add)
        return (yield from carries(party, addends.each(lambda words: sliced(words[..., None], 64)), ends))

    ended = run_three(map(protocol, parties()))
    size = -(-count // 3)
    for element in range(count):
        turn = element // size
        known = (int(parts[turn][element]) + int(parts[turn - 1][element])) % 2**64
        other = int(parts[(turn + 1) % 3][element])
        expected = [int(known % 2**end + other % 2**end >= 2**end) for end in ends]
        assert opened_bits(ended.results, count)[:, element].tolist() == expected
    groups = sum(-(-(end - begin) // 4) for begin, end in zip((0, *ends), ends, strict=False))
    assert ended.rounds == 2 + (groups - 1).bit_length()


@pytest.mark.parametrize("count", [1, 8, 9, 100])
def test_slices_are_bits(count):
    rng = random.Random(count)
    values = [rng.randrange(2**128) for _ in range(count)]
    words = np.array([[value % 2**64, value >> 64] for value in values], dtype=np.uint64)
    bits = unsliced(sliced(words, 101), count)
    assert bits.tolist() == [[value >> place & 1 for value in values] for place in range(101)]


@pytest.mark.parametrize("domain", [NARROW, WIDE, Field(89)])
def test_bits_enter_every_domain(domain):
    words = np.random.default_rng(1).integers(0, 256, (4, 3 * 5), dtype=np.uint8)

    def protocol(party, slices):
        return (yield from to_arithmetic(party, domain, bits_held(party, slices, 100), 100))

    servers = parties()
    dealt = share(words, OCTETS, random.Random(1).randbytes)
    ended = run_three(protocol(party, dealt[party.index]) for party in servers)
    expected = np.concatenate([unsliced(part, 34) for part in np.split(words, 3, axis=-1)], axis=-1)[:, :100]
    assert domain.decode(reconstruct(ended.results)).tolist() == expected.tolist()
    assert (ended.rounds, ended.bytes_per_server) == (2, 4 * (34 + 102) * domain.element_bytes)


def test_what_is_dealt_is_a_sharing_and_uniform_to_both_others():
    zeros = np.zeros(30_000, dtype=np.uint64)

    def dealt(party):
        return (yield from deal(party, NARROW, zeros))

    def both(party):
        addends = held(party, zeros + np.uint64(party.index), zeros + np.uint64((party.index - 1) % 3), NARROW.add)
        return (yield from shared(party, NARROW, addends))

    ended = run_three(map(dealt, parties()))
    for index, found in enumerate(ended.results):
        assert not (found.sent + found.kept).any()
        assert (ended.results[(index + 1) % 3].theirs[1] == found.sent).all()
        assert (ended.results[index - 1].theirs[0] == found.kept).all()
        counts = np.bincount(np.frombuffer(ended.received[index][0], dtype=np.uint8), minlength=256)
        assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 400  # 255 degrees of freedom
    assert (reconstruct(run_three(map(both, parties())).results) == 3).all()


def test_parts_come_back_in_order():
    values = np.arange(10, dtype=np.uint64)
    for party in parties():
        found = held(party, values, values, lambda own, previous: own)
        assert whole(party, found.mine, found.theirs)[:10].tolist() == values.tolist()
    assert parted(values).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 0]]


def test_every_number_finds_its_interval():
    """All combinations of the six digits, against a search among the intervals' starts."""
    numbers = np.arange(1 << DIGITS)
    slices = np.concatenate([sliced(part[:, None].astype(np.uint64), DIGITS) for part in np.split(np.resize(numbers, 72), 3)], axis=-1)
    ended = run(interval, OCTETS, slices)
    found = (opened_bits(ended.results, 72) * (1 << np.arange(5))[:, None]).sum(axis=0)
    starts = [start(number) for number in range(COUNT)]
    assert found[:64].tolist() == [bisect.bisect_right(starts, number / 2**FINEST) - 1 for number in numbers]
    assert [begin + length(number) for number, begin in enumerate(starts)] == [*starts[1:], 16]
    assert ended.rounds == 2


@pytest.mark.parametrize("count", [1, 96, 5000])
def test_table_entries_are_those_of_the_index(count):
    rng = np.random.default_rng(count)
    table = rng.integers(0, 2**63, (6, COUNT), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    size = -(-count // 3)
    index = rng.integers(0, COUNT, 3 * size)
    slices = np.concatenate([sliced(part[:, None].astype(np.uint64), 5) for part in np.split(index, 3)], axis=-1)
    ended = run(lambda party, number: tabulated(party, table, number, count), OCTETS, slices)
    assert (reconstruct(ended.results) == table[:, index[:count]]).all()
    assert ended.rounds == 2


def test_several_quotients_share_their_carries():
    values = [rng.randrange(-(2**61), 2**61) for rng in map(random.Random, range(300))]
    ended = run(lambda party, x: both_quotients(party, x), NARROW, values)
    found = reconstruct(ended.results)
    for number, places in enumerate((7, 33)):
        assert NARROW.decode(found[number]).tolist() == [value >> places for value in values]


def both_quotients(party, x):
    fine, coarse = yield from quotients(party, x, (7, 33), NARROW)
    return fine.reshape((1, -1)).joined(coarse.reshape((1, -1)))


def opened_signs(party, x):
    """Opening shared bits shows the bits and nothing else: here of a value whose sign is known."""
    yield from open_masked((yield from sign_bits(party, x + x.scaled(-1), 62)))


PROTOCOLS = {
    "negative": (lambda party, x: less_than_zero(party, x, 62, NARROW), 1 << 61),
    "signs": (lambda party, x: opened_signs(party, x), 1 << 61),
    "quotient": (lambda party, x: divided(party, x, 33, NARROW), 1 << 61),
    "wider": (lambda party, x: divided(party, x, 0, WIDE), 1 << 61),
    "logistic": (lambda party, x: piecewise(party, LOGISTIC, x, Fraction(1, 2**50), 62, NARROW), 1 << 61),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_messages_of_extreme_values_look_alike(name):
    protocol, extreme = PROTOCOLS[name]
    ring = WIDE if name == "logistic" else NARROW
    views = [joined([run(protocol, ring, [value] * 3000) for _ in range(4)]) for value in (extreme, -extreme, 0)]
    assert two_samples(views[0], views[1]) < 6
    assert two_samples(views[0], views[2]) < 6


def test_halves_add_up():
    values = [random.Random(place).randrange(2**128) for place in range(50)]
    dealt = share(np.array(values, dtype=object), WIDE, random.Random(2).randbytes)
    found = [addends_of(party, dealt[party.index]) for party in parties()]
    for place, value in enumerate(values):
        turn, within = divmod(place, 17)
        mine = found[turn].mine[within]
        others = [found[(turn - 1) % 3].theirs[0, within], found[(turn + 1) % 3].theirs[1, within]]
        assert others[0].tolist() == others[1].tolist()
        total = sum(int(words[0]) + (int(words[1]) << 64) for words in (mine, others[0]))
        assert total % 2**128 == value


def test_interpolation_is_as_good_as_stated():
    for function in (lambda y: 1 / (1 + np.exp(-y)), lambda y: np.log1p(np.exp(-y))):
        for number in range(COUNT):
            middle, half = start(number) + length(number) / 2, length(number) / 2
            places = np.linspace(-half, half, 401)
            value = np.polynomial.polynomial.polyval(places, intervals.interpolated(function, number, 22))
            assert np.abs(value - function(middle + places)).max() < 2.0**-26.9
