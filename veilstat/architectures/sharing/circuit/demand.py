"""Tasks that wait for each other's results and run as soon as these are there, in as few rounds as they allow.

A task is a protocol that may also yield ``Need``: it is resumed with the results of other tasks, which are started when
they are first needed. All tasks that send in a round send together. Who waits for what is public, and tasks are resumed
in one order, so that every server draws its correlated randomness in the same order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from ..protocols.rounds import Protocol, exchange

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Need:
    """What a task yields to receive the results of others, as a list."""

    keys: tuple[Hashable, ...]


Task: TypeAlias = "Generator[bytes | Need, Any, T]"


def need(*keys: Hashable) -> Task[list[Any]]:
    """The results of other tasks."""
    results: list[Any] = yield Need(keys)
    return results


def on_demand(start: Callable[[Hashable], Task[Any]], keys: Sequence[Hashable]) -> Protocol[list[Any]]:
    """Run the tasks ``keys`` and all that they need; ``start`` makes the task of a key.

    Raises:
        RuntimeError: tasks wait for each other in a circle.
    """
    pool = _Pool(start)
    for key in keys:
        pool.open(key)
    pool.resume()
    while pool.sending:
        lanes, pool.sending = pool.sending, []
        received = yield from exchange(b"".join([lane.payload for lane in lanes]))
        begin = 0
        for lane in lanes:
            end = begin + len(lane.payload)
            pool.ready.append((lane, received[begin:end]))
            begin = end
        pool.resume()
    if pool.waiting:
        raise RuntimeError("tasks wait for each other in a circle")
    return [pool.results[key] for key in keys]


@dataclass(slots=True, eq=False)
class _Lane:
    key: Hashable
    task: Task[Any] = field(repr=False)
    payload: bytes = field(default=b"", repr=False)
    keys: tuple[Hashable, ...] = ()
    missing: int = 0


class _Pool:
    def __init__(self, start: Callable[[Hashable], Task[Any]]) -> None:
        self.start = start
        self.opened: set[Hashable] = set()
        self.results: dict[Hashable, Any] = {}
        self.waiting: dict[Hashable, list[_Lane]] = {}
        self.ready: deque[tuple[_Lane, Any]] = deque()
        self.sending: list[_Lane] = []

    def open(self, key: Hashable) -> None:
        if key not in self.opened:
            self.opened.add(key)
            self.ready.append((_Lane(key, self.start(key)), None))

    def resume(self) -> None:
        """Go on until every task has ended, waits, or sends."""
        while self.ready:
            lane, value = self.ready.popleft()
            try:
                item = lane.task.send(value)
            except StopIteration as stop:
                self._finish(lane, stop.value)
                continue
            if isinstance(item, Need):
                self._wait(lane, item.keys)
            else:
                lane.payload = item
                self.sending.append(lane)

    def _wait(self, lane: _Lane, keys: tuple[Hashable, ...]) -> None:
        missing = [key for key in dict.fromkeys(keys) if key not in self.results]
        lane.keys, lane.missing = keys, len(missing)
        for key in missing:
            self.waiting.setdefault(key, []).append(lane)
            self.open(key)
        if not missing:
            self._answer(lane)

    def _finish(self, lane: _Lane, result: Any) -> None:
        self.results[lane.key] = result
        for waiting in self.waiting.pop(lane.key, []):
            waiting.missing -= 1
            if not waiting.missing:
                self._answer(waiting)

    def _answer(self, lane: _Lane) -> None:
        self.ready.append((lane, [self.results[key] for key in lane.keys]))
