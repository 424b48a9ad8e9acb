"""Sorting shared values: exact against numpy, and what is opened is a uniformly random order whatever the values are."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import veilstat as vs
from tests.sharing import compute, opened, run
from veilstat.architectures.sharing.protocols import sorting
from veilstat.architectures.sharing.protocols.ring import NARROW, WIDE


def sorted_by_servers(values, bits, ring=NARROW):
    ended = run(lambda party, x: sorting.sort(party, x, bits), ring, values)
    return opened(NARROW, ended.results), ended


@pytest.mark.parametrize("ring", [NARROW, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize(
    "values",
    [[], [5], [2, 1], [7] * 9, list(range(30, 0, -1)), [-(2**31) + 1, 2**31 - 1, 0, -1, 1] * 5],
    ids=["none", "one", "two", "equal", "descending", "extreme"],
)
def test_values_are_sorted(values, ring):
    found, _ = sorted_by_servers(np.array(values, dtype=object), 31, ring)
    assert found.tolist() == sorted(values)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-(2**50) + 1, 2**50 - 1), min_size=1, max_size=60))
def test_any_list_is_sorted(values):
    assert sorted_by_servers(values, 50)[0].tolist() == sorted(values)


def test_the_widest_values_fit_and_wider_ones_are_refused():
    top = 2**56 - 1
    assert sorted_by_servers([top, -top, 0, top] * 8, 56)[0].tolist() == sorted([top, -top, 0, top] * 8)
    with pytest.raises(vs.CapabilityError) as error:
        sorted_by_servers([0] * 33, 56)
    assert error.value.code == "too_wide"


def test_thousands_of_values_take_few_rounds():
    values = np.random.default_rng(1).integers(-(2**20), 2**20, 3000)
    found, ended = sorted_by_servers(values, 20)
    assert found.tolist() == sorted(values.tolist())
    assert ended.rounds < 200


def opened_orders(values, times, monkeypatch):
    """How often the shuffled values had each order, as comparisons that were opened show it."""
    seen, plain = [], sorting.open_masked

    def recorded(shares):
        elements = yield from plain(shares)
        seen.append(tuple(elements.tolist()))
        return elements

    monkeypatch.setattr(sorting, "open_masked", recorded)
    for _ in range(times):
        run(lambda party, x: sorting.sort(party, x, 10), NARROW, values)
    monkeypatch.undo()
    return Counter(seen[::3])


@pytest.mark.parametrize("values", [[7, 7, 7, 7], [1, 2, 3, 4], [9, 9, -5, 0]], ids=["equal", "ascending", "mixed"])
def test_what_is_opened_is_a_uniformly_random_order(values, monkeypatch):
    """Four values: the comparisons of all pairs are opened at once, and each of the 24 orders gives another pattern."""
    times = 480
    counts = opened_orders(values, times, monkeypatch)
    assert len(counts) == math.factorial(4)
    expected = times / 24
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 66  # 23 degrees of freedom, 6 sigma


def test_a_shuffle_is_uniform_and_moves_columns_together():
    counts = Counter()
    for _ in range(600):
        found, ended = compute(lambda party, x: sorting.shuffled(party, x), NARROW, [[0, 1, 2], [10, 11, 12]])
        assert (found[1] - found[0]).tolist() == [10] * 3
        assert (ended.rounds, ended.bytes_per_server) == (3, 3 * 6 * 8)
        counts[tuple(found[0].tolist())] += 1
    assert set(counts) == set(itertools.permutations(range(3)))
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 40  # 5 degrees of freedom


def test_what_servers_receive_in_a_shuffle_is_uniform():
    views = [[], [], []]
    for _ in range(200):
        ended = run(lambda party, x: sorting.shuffled(party, x), NARROW, [0] * 20)
        for server in range(3):
            views[server].append(b"".join(ended.received[server]))
    for view in views:
        counts = np.bincount(np.frombuffer(b"".join(view), dtype=np.uint8), minlength=256)
        expected = counts.sum() / 256
        assert ((counts - expected) ** 2 / expected).sum() < 255 + 6 * math.sqrt(2 * 255)


def test_two_servers_hold_each_permutation_and_the_third_does_not():
    """Whoever lacks a key adds nothing to the elements in that key's order, and draws another permutation in its place."""
    drawn = [[], [], []]

    def watched(party, x):
        for _ in range(3):
            drawn[party.index].append(tuple(sorting._permutation(stream).tolist() for stream in party.prss.draw(16 * 12)))
        yield from ()
        return x

    run(watched, NARROW, [0])
    for key in range(3):
        holders = drawn[key][key][0], drawn[(key + 1) % 3][key][1]
        assert holders[0] == holders[1]
        assert holders[0] not in drawn[(key + 2) % 3][key]
