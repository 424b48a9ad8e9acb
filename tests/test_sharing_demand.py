"""Tasks that wait for each other: each starts when it is needed, runs once, and shares rounds with all others."""

import pytest

from tests.sharing import run_three
from veilstat.architectures.sharing.circuit.demand import need, on_demand
from veilstat.architectures.sharing.protocols.rounds import exchange


def tasks(log):
    def sends(key, rounds):
        log.append(key)
        for _ in range(rounds):
            yield from exchange(key.encode())
        return key

    def adds(key, *keys):
        log.append(key)
        return key + "".join((yield from need(*keys)))

    def start(key):
        match key:
            case "a" | "b" | "c":
                return sends(key, ord(key) - ord("a") + 1)
            case "ab":
                return adds("+", "a", "b")
            case "cab":
                return adds("*", "c", "ab", "a")
            case "loop":
                return adds("?", "pool")
            case "pool":
                return adds("!", "loop")
        raise AssertionError(key)

    return start


def test_tasks_run_once_and_side_by_side():
    log = []
    ended = run_three(on_demand(tasks(log if index == 0 else []), ["cab", "b"]) for index in range(3))
    assert ended.results == (["*c+aba", "b"],) * 3
    assert sorted(log) == ["*", "+", "a", "b", "c"]
    assert ended.rounds == 3
    assert [len(message) for message in ended.received[0]] == [3, 2, 1]


def test_nothing_is_sent_for_tasks_that_send_nothing():
    ended = run_three(on_demand(lambda key: iter_nothing(), ["x"]) for _ in range(3))
    assert (ended.rounds, ended.results) == (0, ([7],) * 3)


def iter_nothing():
    yield from ()
    return 7


def test_a_circle_is_found():
    with pytest.raises(RuntimeError):
        run_three(on_demand(tasks([]), ["a", "loop"]) for _ in range(3))
