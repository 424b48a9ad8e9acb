"""Masks that are expanded side by side: the same bits as one after the other, errors are heard of, threads end."""

import os
import threading

import numpy as np
import pytest

import veilstat as vs
from tests.test_masking import Run
from veilstat.arithmetic.executor import SERIAL, Executor
from veilstat.arithmetic.keystream import SEED_BYTES, SHARED_BYTES, add_keystreams, expand
from veilstat.arithmetic.rings import Ring
from veilstat.platform.threads import cores, executor_of
from veilstat.testing.tables import small_schema, small_tables

ADDED, SUBTRACTED = ([os.urandom(SEED_BYTES) for _ in range(count)] for count in (4, 7))


def length(ring):
    return SHARED_BYTES // ring.element_bytes + 5


class Counted:
    """An executor that notes how many pieces it was given."""

    def __init__(self, workers):
        self.pieces = []
        self.executor = Executor(workers, self.map)

    def map(self, function, items):
        kept = list(items)
        self.pieces.append(len(kept))
        return map(function, reversed(kept))


def by_integers(ring, vector, added, subtracted):
    """Sums of NIST's counter mode, a number at a time, at the vector's ends."""
    places = [*range(3), *range(len(vector) - 3, len(vector))]
    size = ring.element_bytes

    def at(seed, place):
        stream = expand(seed, size * len(vector))
        return int.from_bytes(stream[place * size : (place + 1) * size], "little")

    start = ring.decode(vector, 0)
    return [
        (start[place] + sum(at(seed, place) for seed in added) - sum(at(seed, place) for seed in subtracted)) % (1 << ring.bits)
        for place in places
    ], places


@pytest.mark.parametrize("bits", [32, 64, 128])
@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_any_number_of_workers_gives_the_bits_of_one(bits, workers):
    ring = Ring(bits)
    vector = ring.from_bytes(os.urandom(length(ring) * ring.element_bytes)).copy()
    alone, together, backwards = vector.copy(), vector.copy(), vector.copy()
    add_keystreams(ring, alone, ADDED, SUBTRACTED, SERIAL)
    add_keystreams(ring, together, ADDED, SUBTRACTED, executor_of(workers))
    add_keystreams(ring, backwards, ADDED, SUBTRACTED, Counted(workers).executor)
    assert np.array_equal(alone, together)
    assert np.array_equal(alone, backwards)
    expected, places = by_integers(ring, vector, ADDED, SUBTRACTED)
    assert ring.decode(together, 0)[places].tolist() == expected


@pytest.mark.parametrize(
    ("seeds", "elements", "pieces"),
    [(11, 5 + SHARED_BYTES // 8, [3]), (5, 5 + SHARED_BYTES // 8, []), (11, 5, []), (0, 5 + SHARED_BYTES // 8, [])],
)
def test_only_many_masks_of_long_vectors_are_shared_out(seeds, elements, pieces):
    ring, counted = Ring(64), Counted(8)
    add_keystreams(ring, ring.zeros(elements), [bytes(SEED_BYTES)] * seeds, [], counted.executor)
    assert counted.pieces == pieces


def test_an_error_in_a_thread_is_raised_and_no_thread_is_left():
    ring, before = Ring(64), threading.active_count()
    with pytest.raises(ValueError, match="28 bytes"):
        add_keystreams(ring, ring.zeros(length(ring)), [*ADDED, *ADDED, b"short"], SUBTRACTED, executor_of(4))
    assert threading.active_count() == before


def test_pieces_run_at_the_same_time_in_as_many_threads():
    meeting = threading.Barrier(3, timeout=20)
    assert sorted(executor_of(3).map(lambda piece: (meeting.wait(), piece)[1], range(3))) == [0, 1, 2]


def test_one_thread_is_this_one():
    assert executor_of(1) is SERIAL
    assert 1 <= cores() <= min(8, os.cpu_count())
    for none in (0, -1):
        with pytest.raises(ValueError, match="at least one"):
            executor_of(none)


@pytest.mark.parametrize("bits", [64, 128])
def test_a_server_with_threads_opens_the_same_sum_over_the_survivors(bits, monkeypatch):
    monkeypatch.setattr("veilstat.arithmetic.keystream.SHARED_BYTES", 1)
    counted = Counted(4)
    run = Run(owners=7, bits=bits, lost={"o1": "masked_input", "o5": "masked_input"}, executor=counted.executor)
    survivors, released = run.finish()
    assert survivors == ("o0", "o2", "o3", "o4", "o6")
    assert released.values.tolist() == run.expected(survivors)
    assert counted.pieces == [4], "fifteen masks"


def test_a_coordinator_hands_its_executor_to_every_step(monkeypatch):
    monkeypatch.setattr("veilstat.arithmetic.keystream.SHARED_BYTES", 1)
    monkeypatch.setattr("veilstat.arithmetic.keystream.FEWEST_SEEDS", 1)
    study, counted = vs.simulate(small_tables(), small_schema()), Counted(2)
    study._backend.coordinator.executor = counted.executor
    expected = study.mean("bp").estimate
    assert study.mean("bp").estimate == expected
    assert counted.pieces == [2, 2]
