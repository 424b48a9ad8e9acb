"""Replicated sharing: products, openings and rounds against Python integers, and what a server sees."""

import os
import random

import numpy as np
import pytest

from tests.sharing import compute, integers, opened, parties, run, run_three
from veilstat.architectures.sharing.protocols.araki16 import (
    Shares,
    component,
    concatenated,
    constant,
    input_of_first,
    matmul,
    multiply,
    open_masked,
    random_shares,
    reconstruct,
    share,
    split,
)
from veilstat.architectures.sharing.protocols.field import EXPONENTS, Field
from veilstat.architectures.sharing.protocols.prss import random_integers
from veilstat.architectures.sharing.protocols.rounds import exchange, gather
from veilstat.errors import CapabilityError
from veilstat.protocol.faults import ProtocolError

FIELDS = [Field(61), Field(127), Field(521), Field(2203)]


def edges(field, count, seed=0):
    """Edge values of a field, then random ones."""
    source, q = random.Random(seed), field.order
    special = [0, 1, -1, 2, q // 2, -(q // 2), q // 2 - 1, 1 << 59, -(1 << 59)]
    return integers([special[i] if i < len(special) else source.randrange(-(q // 2), q // 2 + 1) for i in range(count)])


@pytest.mark.parametrize("field", FIELDS)
def test_dealt_values_come_back(field):
    values = edges(field, 200).reshape(20, 10)
    dealt = share(values, field, os.urandom)
    assert (field.decode(reconstruct(dealt)) == values).all()


def test_any_buffer_is_elements_and_bytes_are_canonical():
    for field in FIELDS:
        ones = bytes([255]) * field.element_bytes
        assert field.from_bytes(ones, (1,))[0] == 0
        values = field.encode(edges(field, 30))
        assert (field.from_bytes(field.to_bytes(values), (30,)) == values).all()


def test_reduction_takes_integers_of_any_size():
    source = random.Random(1)
    for field in FIELDS:
        values = integers(
            [source.randrange(-(1 << 5 * field.exponent), 1 << 5 * field.exponent) for _ in range(200)] + [field.order, -field.order]
        )
        assert (field.encode(values) == values % field.order).all()


def test_the_smallest_field_is_chosen_and_too_much_is_refused():
    assert [Field.for_bits(bits).exponent for bits in (1, 59, 60, 87, 88, 700, 1278)] == [61, 61, 89, 89, 107, 1279, 2203]
    for exponent in EXPONENTS[:8]:
        assert (1 << (exponent - 2)) - 1 <= Field.for_bits(exponent - 2).order // 2
    with pytest.raises(CapabilityError):
        Field.for_bits(44_496)
    with pytest.raises(ValueError):
        Field(127 * 2)


@pytest.mark.parametrize("field", FIELDS)
def test_products_broadcast_and_take_one_round(field):
    a, b = edges(field, 60).reshape(6, 1, 10), edges(field, 60, seed=2).reshape(6, 10)
    result, ended = compute(multiply, field, a, b)
    assert (field.encode(result) == a * b % field.order).all()
    assert (ended.rounds, ended.bytes_per_server) == (1, 360 * field.element_bytes)


@pytest.mark.parametrize("field", FIELDS)
def test_a_matrix_product_sends_one_element_for_each_output(field):
    a, b = edges(field, 48, seed=3).reshape(3, 16), edges(field, 80, seed=4).reshape(16, 5)
    result, ended = compute(matmul, field, a, b)
    assert (field.encode(result) == (a @ b) % field.order).all()
    assert (ended.rounds, ended.bytes_per_server) == (1, 15 * field.element_bytes)


def test_linear_operations_and_constants():
    field = Field(127)
    a, b = edges(field, 20, seed=5).reshape(4, 5), edges(field, 20, seed=6).reshape(4, 5)
    public = integers(np.arange(5) - 7)

    def protocol(party, x, y):
        yield from ()
        z = (x - y).scaled(-3) + x.scaled(public) + constant(party, field, public)
        return concatenated([z, z.total(axis=0), z.total(), z.left_times(integers(np.ones((2, 4))))])

    result, ended = compute(protocol, field, a, b)
    z = -3 * (a - b) + a * public + public
    expected = np.concatenate([z.reshape(-1), z.sum(axis=0), [z.sum()], z.sum(axis=0), z.sum(axis=0)])
    assert (field.encode(result) == expected % field.order).all()
    assert ended.rounds == 0


def test_parts_of_different_shapes_travel_as_one_vector():
    field = Field(61)

    def protocol(party, x, y):
        yield from ()
        first, second = split(concatenated([x, y]), [x.shape, y.shape])
        return concatenated([second, first])

    result, _ = compute(protocol, field, [[1, 2], [3, 4]], 5)
    assert result.tolist() == [5, 1, 2, 3, 4]


def test_a_component_is_a_sharing_of_what_two_servers_know():
    field = Field(127)

    def protocol(party):
        yield from ()
        own, previous = random_integers(party, 90, 6)
        pair = Shares(field, own, previous)
        return own, [component(party, pair, place) for place in range(3)]

    results = run_three(protocol(party) for party in parties()).results
    for place in range(3):
        values = opened(field, [parts[place] for _, parts in results])
        assert (values == results[place][0]).all()
        assert all(0 <= value < 1 << 90 for value in values)


def test_only_server_0_gives_the_input():
    field = Field(127)
    ended = run_three(input_of_first(party, field, field.encode([party.index + 5, -3 - party.index])) for party in parties())
    assert opened(field, ended.results).tolist() == [5, -3]
    assert ended.rounds == 1
    assert not any(ended.received[0][0])
    assert not any(ended.received[2][0])


def test_correlated_randomness_agrees_and_never_repeats():
    field = Field(127)

    def protocol(party):
        yield from ()
        return concatenated([random_shares(party, field, (50,)), random_shares(party, field, (50,))])

    values = opened(field, run_three(protocol(party) for party in parties()).results)
    assert len(set(values)) == 100


@pytest.mark.parametrize("field", FIELDS)
def test_an_opening_reaches_everybody(field):
    values = edges(field, 30).reshape(5, 6)
    ended = run(lambda party, x: open_masked(x), field, values)
    assert all((field.decode(result) == values).all() for result in ended.results)
    assert ended.rounds == 1


def test_gathered_protocols_share_their_rounds():
    field = Field(521)

    def power(party, x, times):
        result = x
        for _ in range(times):
            result = yield from multiply(party, result, x)
        return result

    def protocol(party, x, y):
        parts = yield from gather([power(party, x, 3), power(party, y, 0), power(party, y, 5), power(party, x[:1], 1)])
        return concatenated(parts)

    a, b = integers([3, -2]), integers([7, -1, 0])
    result, ended = compute(protocol, field, a, b)
    assert result.tolist() == [81, 16, 7, -1, 0, 7**6, 1, 0, 9]
    assert ended.rounds == 5
    assert ended.bytes_per_server == (2 * 3 + 3 * 5 + 1) * field.element_bytes


def test_a_message_of_the_wrong_length_is_refused():
    for reply in (b"", b"123", b"12345"):
        for protocol in (exchange(b"1234"), gather([exchange(b"12"), exchange(b"34")])):
            assert protocol.send(None) == b"1234"
            with pytest.raises(ProtocolError):
                protocol.send(reply)


def test_servers_that_end_in_different_rounds_are_found():
    def protocol(rounds):
        for _ in range(rounds):
            yield from exchange(b"1")

    with pytest.raises(RuntimeError):
        run_three([protocol(1), protocol(1), protocol(2)])


def test_secrets_do_not_show():
    field = Field(61)
    shares = share([123456789], field, os.urandom)[0]
    assert str(int(shares.own[0])) not in repr(shares)
    assert "prss" not in repr(parties()[0])


def test_inconsistent_components_do_not_reconstruct():
    field = Field(61)
    one, other = share([1, 2], field, os.urandom), share([1, 2], field, os.urandom)
    with pytest.raises(ValueError):
        reconstruct([one[0], one[1], other[2]])


def test_what_a_server_receives_in_a_product_is_uniform_for_any_inputs():
    field, counts = Field(61), np.zeros((2, 16))
    for kind, value in enumerate((0, 1 << 59)):
        for _ in range(4):
            ended = run(multiply, field, [value] * 500, [value] * 500)
            for server in range(3):
                elements = field.from_bytes(ended.received[server][0], (500,))
                counts[kind] += np.bincount([int(element) >> 57 for element in elements], minlength=16)
    expected = counts.sum() / counts.size
    assert (((counts - expected) ** 2) / expected).sum() < 80  # 31 degrees of freedom: exceeded once in 300,000 runs


def test_single_elements_of_the_smallest_field_stay_python_integers():
    field = Field(61)
    dealt = share([field.order // 2, 5], field, os.urandom)
    assert isinstance(dealt[0][0].own[()], int)
    assert isinstance(dealt[0].total().own[()], int)
