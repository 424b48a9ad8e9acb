"""Products over encrypted rows that are shared out: the same ciphertexts whatever the executor, and loops without the interpreter's lock."""

import threading
import time

import numpy as np
import pytest

import veilstat as vs
from tests.encrypted_rows import Parties, make_epoch, query_cut
from veilstat.architectures.homomorphic.rows.answers import Answer
from veilstat.architectures.homomorphic.rows.quadratic import opened
from veilstat.arithmetic.executor import Executor
from veilstat.platform.threads import executor_of


@pytest.fixture(scope="module")
def products():
    """Computes all products that a covariance needs, with an executor."""
    parties = Parties()
    kept = make_epoch(parties)["server"]
    numbers = opened(query_cut(parties, vs.Covariance(["x", "y"])), parties.schema, parties.rows.parameters)

    def compute(executor):
        evaluation = parties.rows.evaluation(kept, executor)
        return evaluation.totals([Answer.of(number, evaluation.layout) for number in numbers])

    return compute


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_any_number_of_workers_gives_the_ciphertexts_of_one(products, workers):
    alone, together = products(executor_of(1)), products(executor_of(workers))
    assert alone.keys() == together.keys()
    assert all(np.array_equal(alone[pair], together[pair]) for pair in alone)


def test_an_error_in_a_worker_is_raised(products):
    def broken(function, items):
        raise RuntimeError("no core is left")
        yield

    with pytest.raises(RuntimeError, match="no core"):
        products(Executor(2, broken))


def turns_of_another(call):
    """How often another thread was run during a call, and the call's seconds."""
    turns, is_over = 0, threading.Event()

    def tick():
        nonlocal turns
        while not is_over.wait(0.001):
            turns += 1

    thread = threading.Thread(target=tick)
    thread.start()
    began = time.perf_counter()
    call()
    seconds = time.perf_counter() - began
    is_over.set()
    thread.join()
    return turns, seconds


@pytest.mark.parametrize("kind", ["forward", "inverse", "multiply_add"])
def test_other_threads_run_during_a_loop(kind):
    kernels = pytest.importorskip("veilstat.architectures.homomorphic.kernels")
    values = np.zeros(1 << 24, dtype=np.uint64)
    loops = {
        "forward": lambda: kernels.forward(values[: 1 << 22], values[: 1 << 22], values[: 1 << 22], 97),
        "inverse": lambda: kernels.inverse(values[: 1 << 22], values[: 1 << 22], values[: 1 << 22], 97, 1, 1),
        "multiply_add": lambda: kernels.multiply_add(values, values, values, np.uint64(97)),
    }
    loops[kind]()
    turns, seconds = turns_of_another(loops[kind])
    assert turns > 5, f"{turns} turns in {seconds:.3f} s"
