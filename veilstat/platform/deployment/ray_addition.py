"""Masked vectors added in Ray's tasks, a few at a time, on the coordinator's own machine; what Ray loses is added here.

The tree has two levels: tasks add batches, this process adds their sums. With more levels every vector would have to be
kept until the root arrives, since what a lost task had to add is added here. That is no repetition of a step of a
protocol: a vector was taken once, and its owner is asked for nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from veilstat.architectures.addition import Addition, SumHere
from veilstat.arithmetic.rings import Elements, Ring

_FEWEST_LIMBS, FEWEST_BYTES = 4, 1 << 20
"""Of an element, and of a vector: below, handing a vector over costs more than adding it (``python -m benchmarks.deployment --adding``)."""
BATCH = 4
_WITHIN, _LOOKS = 10.0, 0.5


Report = Callable[[int, int], None]
"""Told, at the end of a sum, how many vectors were added in tasks, and how many of those that were sent came to nothing there."""


class Tasks(Protocol):
    """Where batches are added, ``workers`` of them at a time."""

    @property
    def workers(self) -> int: ...

    def start(self, ring: Ring, vectors: list[memoryview]) -> Future[memoryview]:
        """Begin to add, without waiting for anybody; gives the sum to come, which is cancelled once it is lost, or nobody waits for it any more."""
        ...


def addition_in(tasks: Tasks, report: Report) -> Addition:
    """Adds large vectors of wide elements in tasks, and others here."""
    return lambda ring, length: (
        SumInTasks(tasks, ring, length, report)
        if ring.limbs >= _FEWEST_LIMBS and length * ring.element_bytes >= FEWEST_BYTES
        else SumHere(ring, length)
    )


@dataclass(frozen=True, slots=True)
class _Batch:
    vectors: list[memoryview] = field(repr=False)
    pending: Future[memoryview]


class SumInTasks:
    """While all workers are busy, this process adds too; so no more than ``workers`` + 1 batches are ever kept.

    After the first loss everything is added here.
    """

    def __init__(self, tasks: Tasks, ring: Ring, length: int, report: Report) -> None:
        self._report, self._added, self._lost = report, 0, 0
        self._tasks, self._free, self._ring, self._bytes = tasks, tasks.workers, ring, length * ring.element_bytes
        self._here = SumHere(ring, length)
        self._arrived: list[memoryview] = []
        self._running: list[_Batch] = []

    def add(self, vector: memoryview) -> None:
        self._arrived.append(vector)
        if len(self._arrived) < BATCH:
            return
        for batch in [batch for batch in self._running if batch.pending.done()]:
            self._finish(batch)
        if len(self._running) < self._free:
            self._running.append(_Batch(self._arrived, self._tasks.start(self._ring, self._arrived)))
        else:
            self._add_here(self._arrived)
        self._arrived = []

    def total(self) -> Elements:
        self._add_here(self._arrived)
        for batch in list(self._running):
            self._finish(batch)
        self._report(self._added, self._lost)
        return self._here.total()

    def _finish(self, batch: _Batch) -> None:
        self._running.remove(batch)
        try:
            result = batch.pending.result(_WITHIN if self._free else 0)
        except (CancelledError, TimeoutError):
            batch.pending.cancel()
            self._lose(batch.vectors)
            return
        if len(result) == self._bytes:
            self._here.add(result)
            self._added += len(batch.vectors)
        else:
            self._lose(batch.vectors)

    def _lose(self, vectors: list[memoryview]) -> None:
        self._free = 0
        self._lost += len(vectors)
        self._add_here(vectors)

    def _add_here(self, vectors: list[memoryview]) -> None:
        for vector in vectors:
            self._here.add(vector)


@dataclass(frozen=True, slots=True)
class RayTasks:
    """Tasks on the node where this process is the driver, and nowhere else: whoever adds could add something else.

    Each is begun and awaited in a thread, since every call of Ray's blocks for as long as a head that stands still does.
    """

    workers: int
    _begun: dict[threading.Thread, Future[memoryview]] = field(default_factory=dict, init=False, repr=False)

    def start(self, ring: Ring, vectors: list[memoryview]) -> Future[memoryview]:
        for thread in [thread for thread in self._begun if not thread.is_alive()]:
            del self._begun[thread]
        pending: Future[memoryview] = Future()
        thread = threading.Thread(target=_add_in_task, args=(pending, ring.bits, vectors), daemon=True)
        self._begun[thread] = pending
        thread.start()
        return pending

    def close(self) -> None:
        """End all that runs, before Ray ends under it; waits for no longer than Ray usually takes to let go."""
        for pending in self._begun.values():
            pending.cancel()
        deadline = time.monotonic() + 2 * _LOOKS
        for thread in self._begun:
            thread.join(max(0.0, deadline - time.monotonic()))


def _add_in_task(pending: Future[memoryview], bits: int, vectors: list[memoryview]) -> None:
    """The node is named by Ray, not by a label that any node could carry."""
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    try:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        task = _adding().options(num_cpus=1, max_retries=0, scheduling_strategy=here)
        parts = [ray.put(np.frombuffer(vector, np.uint8)) for vector in vectors]
        if pending.cancelled():
            return
        reference = task.remote(bits, *parts)
        while not ray.wait([reference], timeout=_LOOKS)[0]:
            if pending.cancelled():
                ray.cancel(reference, force=True)
                return
        total: npt.NDArray[np.uint8] = ray.get(reference, timeout=_WITHIN)
        if pending.set_running_or_notify_cancel():
            pending.set_result(total.data.cast("B"))
    except RayError:
        return
    finally:
        pending.cancel()


@cache
def _adding() -> Any:
    """Made once: Ray's head keeps a copy of the function for each time that it is."""
    import ray

    return ray.remote(sum_of)


def sum_of(bits: int, *vectors: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The sum of little-endian vectors modulo 2^bits: what a task does."""
    ring = Ring(bits)
    total = ring.from_bytes(vectors[0].data).copy()
    for vector in vectors[1:]:
        ring.add(total, ring.from_bytes(vector.data))
    return np.frombuffer(ring.to_bytes(total), np.uint8)
