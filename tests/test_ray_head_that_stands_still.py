"""A head of Ray's that is frozen, not gone: calls of Ray's that wait for it are made in threads, so that the coordinator goes on."""

import asyncio
import threading
import time
from concurrent.futures import CancelledError

import pytest

pytest.importorskip("ray")
from veilstat.arithmetic.rings import Ring
from veilstat.platform.deployment import ray_addition
from veilstat.platform.deployment.ray_addition import BATCH, RayTasks, SumInTasks
from veilstat.transports import ray as lines
from veilstat.transports.line import Broken

WITHIN = 0.2
STALL = 6.0
"""How long a call would hold up whoever makes it; no test takes as long."""


class Frozen:
    """A relay as Ray's driver has it before the head has heard of it; ``placed``: whether the driver could place it."""

    def __init__(self, placed):
        self.thaw, self.placed, self.killed = threading.Event(), placed, threading.Event()
        self.open = self

    def options(self, **_):
        return Placing(self)

    def remote(self):
        return asyncio.get_running_loop().create_future()

    def kill(self, relay):
        assert relay is self
        self.thaw.wait(STALL)
        self.killed.set()


class Placing:
    """What places a relay."""

    def __init__(self, relay):
        self.relay = relay

    def remote(self):
        if not self.relay.placed:
            self.relay.thaw.wait(STALL)
        return self.relay


async def stall_while_connecting():
    """How long the loop did nothing, at most, until the line was given up, and why it was."""
    loop = asyncio.get_running_loop()
    connecting = loop.create_task(lines.RayLine.connect("north"))
    longest = 0.0
    while not connecting.done():
        began = loop.time()
        await asyncio.sleep(WITHIN / 20)
        longest = max(longest, loop.time() - began)
    with pytest.raises(Broken) as error:
        await connecting
    return longest, str(error.value)


@pytest.mark.parametrize(("placed", "who"), [(False, "Ray's head"), (True, "the owner's node")])
def test_a_head_that_stands_still_holds_nobody_up(monkeypatch, placed, who):
    relay = Frozen(placed)
    monkeypatch.setattr(lines, "_RELAYS", relay)
    monkeypatch.setattr(lines, "ANSWERED_WITHIN", WITHIN)
    monkeypatch.setattr(lines.ray, "kill", relay.kill)

    async def connect():
        try:
            return await stall_while_connecting()
        finally:
            relay.thaw.set()

    stall, why = asyncio.run(connect())
    assert why == f"{who} did not answer within {WITHIN:g} seconds"
    assert stall < STALL / 2
    if placed:
        assert relay.killed.wait(STALL / 2)


def test_a_head_that_stands_still_holds_no_sum_of_masked_vectors_up(monkeypatch):
    thaw, reports = threading.Event(), []

    def stand_still():
        thaw.wait(STALL)
        raise lines.RayError

    monkeypatch.setattr(lines.ray, "get_runtime_context", stand_still)
    monkeypatch.setattr(ray_addition, "_WITHIN", WITHIN)
    its = SumInTasks(RayTasks(1), Ring(64), 1, lambda *counts: reports.append(counts))
    began = time.monotonic()
    for number in range(BATCH + 1):
        its.add(memoryview(number.to_bytes(8, "little")))
    assert its.total().tolist() == [sum(range(BATCH + 1))]
    assert time.monotonic() - began < STALL / 2
    assert reports == [(0, BATCH)]
    thaw.set()


def test_what_adds_in_tasks_is_ended_before_ray_and_waits_for_no_frozen_head(monkeypatch):
    thaw, adding, placed = threading.Event(), threading.Event(), threading.Event()

    def stand_still():
        adding.set()
        thaw.wait(STALL)
        raise lines.RayError

    monkeypatch.setattr(lines.ray, "get_runtime_context", stand_still)
    monkeypatch.setattr(ray_addition, "_LOOKS", WITHIN)
    monkeypatch.setattr(ray_addition, "_adding", placed.set)
    tasks = RayTasks(1)
    pending = tasks.start(Ring(64), [memoryview(bytes(8))] * BATCH)
    assert adding.wait(STALL)
    began = time.monotonic()
    tasks.close()
    assert pending.cancelled()
    assert time.monotonic() - began < STALL / 2
    thaw.set()
    tasks.close()
    assert not placed.is_set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_fails_in_another_way_gives_its_sum_up_at_once(monkeypatch):
    def fail():
        raise RuntimeError("no error of Ray's")

    monkeypatch.setattr(lines.ray, "get_runtime_context", fail)
    tasks = RayTasks(1)
    with pytest.raises(CancelledError):
        tasks.start(Ring(64), [memoryview(bytes(8))] * BATCH).result(STALL)
    tasks.close()
