"""Masked vectors that are added in tasks: the same sum whatever becomes of the tasks, and few vectors kept."""

import os
import threading
import time
from concurrent.futures import CancelledError
from types import SimpleNamespace

import numpy as np
import pytest

from veilstat.architectures.addition import SumHere
from veilstat.arithmetic.rings import Ring
from veilstat.platform.deployment.ray_addition import BATCH, FEWEST_BYTES, RayTasks, SumInTasks, addition_in, sum_of

BITS, LENGTH, COUNT = 192, 5000, 23
VECTORS = [os.urandom(LENGTH * BITS // 8) for _ in range(COUNT)]


def plain_sum(vectors):
    """By Python's integers."""
    size = BITS // 8
    parts = [[int.from_bytes(vector[start : start + size], "little") for start in range(0, len(vector), size)] for vector in vectors]
    return b"".join((sum(entries) % (1 << BITS)).to_bytes(size, "little") for entries in zip(*parts, strict=True))


FAILURES = {"lost": CancelledError, "late": TimeoutError}


class Here:
    """Tasks in this process, of which chosen ones go wrong in a chosen way."""

    workers = 2

    def __init__(self, wrong=(), how="lost", over=True):
        self.wrong, self.how, self.over = wrong, how, over
        self.started, self.waits, self.cancelled = 0, [], []

    def start(self, ring, vectors):
        self.started += 1
        place = self.started

        def result(seconds):
            self.waits.append(seconds)
            if place in self.wrong and self.how in FAILURES:
                raise FAILURES[self.how]
            total = sum_of(ring.bits, *(np.frombuffer(vector, np.uint8) for vector in vectors)).data
            return total[:-8] if place in self.wrong else total

        return SimpleNamespace(done=lambda: self.over, result=result, cancel=lambda: self.cancelled.append(place))


def ignore(added, lost):
    pass


def added(tasks, vectors=VECTORS, report=ignore):
    its = SumInTasks(tasks, Ring(BITS), LENGTH, report)
    for vector in vectors:
        its.add(memoryview(vector))
    return bytes(Ring(BITS).to_bytes(its.total()))


@pytest.mark.parametrize("how", ["lost", "late", "short"])
@pytest.mark.parametrize("wrong", [(), (1,), (2,), (3, 4), (5,), (1, 2, 3, 4, 5)])
@pytest.mark.parametrize("over", [True, False])
def test_the_sum_is_that_of_integers_whatever_becomes_of_the_tasks(how, wrong, over):
    assert added(Here(wrong, how, over)) == plain_sum(VECTORS)


def test_nothing_is_sent_and_nobody_is_waited_for_after_a_loss():
    tasks = Here((1,), over=False)
    assert added(tasks) == plain_sum(VECTORS)
    assert tasks.started == 2, "both workers were busy before the loss showed"
    assert tasks.waits == [10.0, 0]
    assert tasks.cancelled == [1], "what has failed is ended, what is done is used"
    tasks = Here((1,))
    added(tasks)
    assert tasks.started == 1


@pytest.mark.parametrize(
    ("wrong", "how", "told"), [((), "lost", (20, 0)), ((3,), "lost", (8, 4)), ((1,), "late", (0, 4)), ((2,), "short", (4, 4))]
)
def test_it_is_told_how_many_vectors_tasks_added_and_lost(wrong, how, told):
    reports = []
    added(Here(wrong, how), report=lambda *counts: reports.append(counts))
    assert reports == [told]


def test_no_more_vectors_are_kept_than_workers_have():
    tasks, most = Here(over=False), 0
    its = SumInTasks(tasks, Ring(BITS), LENGTH, ignore)
    for vector in VECTORS:
        its.add(memoryview(vector))
        most = max(most, len(its._arrived) + sum(len(batch.vectors) for batch in its._running))
    assert most < BATCH * (tasks.workers + 1)


def test_a_sum_of_nothing_is_zero():
    assert added(Here(), []) == bytes(len(VECTORS[0]))


@pytest.mark.parametrize(
    ("bits", "length", "kind"), [(64, 1 << 20, SumHere), (192, 1 << 20, SumHere), (256, 1 << 10, SumHere), (256, 1 << 15, SumInTasks)]
)
def test_only_large_vectors_of_wide_elements_are_sent(bits, length, kind):
    assert isinstance(addition_in(Here(), ignore)(Ring(bits), length), kind)
    assert (kind is SumInTasks) == (bits > 192 and length * bits >= 8 * FEWEST_BYTES)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_ray_adds_on_this_machine_and_says_what_it_did_not_add(monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=256 << 20, configure_logging=False)
    try:
        tasks = RayTasks(2)
        pending = tasks.start(Ring(BITS), [memoryview(vector) for vector in VECTORS[:3]])
        assert bytes(pending.result(60)) == plain_sum(VECTORS[:3])
        assert added(tasks) == plain_sum(VECTORS)
        with pytest.raises(CancelledError):
            tasks.start(Ring(BITS), [memoryview(b"no vector")] * 2).result(60)
        before = threading.active_count()
        abandoned = tasks.start(Ring(BITS), [memoryview(bytes(24 << 20))] * 4)
        with pytest.raises(TimeoutError):
            abandoned.result(0)
        assert abandoned.cancel()
        deadline = time.monotonic() + 60
        while threading.active_count() > before:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        ray.shutdown()
