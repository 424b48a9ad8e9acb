"""The workloads of `sharing.py` by MPyC, three parties on loopback; run by it, with an interpreter that has MPyC.

    PYTHON benchmarks/sharing_mpyc.py -M3 --no-log WORKLOAD ROWS PART

Prints the seconds that one part of PART equal ones took (of the rows, or of ten gradient steps) and the deviation from
the exact answer, of logistic regression from numpy's on the same rows.
"""

import secrets
import sys
import time
from typing import Any

import numpy as np
from mpyc.runtime import mpc

COLUMNS, STEPS = 10, 10


async def shared(array: Any) -> Any:
    """Party 0's array, once every party has its shares."""
    result = mpc.input(array, senders=0)
    await mpc.barrier()
    return result


async def gram(rows: int, part: int) -> tuple[float, Any]:
    """All products of two columns, opened."""
    field = mpc.SecFld(2**61 - 1)
    data = np.random.default_rng(1).integers(0, 1000, (rows // part, COLUMNS))
    x = await shared(field.array(data.astype(object)))
    start = time.perf_counter()
    result = await mpc.output(x.T @ x)
    seconds = time.perf_counter() - start
    return seconds, np.abs(np.vectorize(int)(np.array(result.tolist())) - data.T @ data).max()


async def regression(rows: int, part: int) -> tuple[float, Any]:
    """Coefficients as fractions: their numerators and determinant are opened, and a system that random matrices hide."""
    order = 2**521 - 1
    field = mpc.SecFld(order)
    rng = np.random.default_rng(1)
    data = rng.integers(0, 300, (rows // part, 1)) + rng.integers(0, 700, (rows // part, COLUMNS))
    data = np.hstack([np.ones((len(data), 1), dtype=np.int64), data])
    x = await shared(field.array(data.astype(object)))
    start = time.perf_counter()
    moments = x.T @ x
    matrix, right = moments[:COLUMNS, :COLUMNS], moments[:COLUMNS, COLUMNS:]
    ones = np.tri(COLUMNS, dtype=int)
    lower, upper = (
        random_matrix(field, order) * (ones - np.eye(COLUMNS, dtype=int)) + np.eye(COLUMNS, dtype=int),
        random_matrix(field, order) * ones.T,
    )
    mask = lower @ upper
    hidden = await mpc.output(mask @ matrix)
    solution = np.linalg.inv(hidden) @ (mask @ right)
    determinant = np.linalg.det(hidden) / await mpc.output(mpc.np_prod(np.diag(upper)))
    numerators = await mpc.output(solution * determinant)
    seconds = time.perf_counter() - start
    *signed, divisor = ((int(value) + order // 2) % order - order // 2 for value in [*numerators.reshape(COLUMNS).tolist(), determinant])
    exact = np.linalg.lstsq(data[:, :COLUMNS].astype(float), data[:, COLUMNS].astype(float))[0]
    return seconds, np.abs(np.array([value / divisor for value in signed]) - exact).max()


def random_matrix(field: Any, order: int) -> Any:
    """The sum of random matrices of all parties."""
    own = np.array([secrets.randbelow(order) for _ in range(COLUMNS**2)], dtype=object).reshape(COLUMNS, COLUMNS)
    return sum(mpc.input(field.array(own)))


async def logistic(rows: int, part: int) -> tuple[float, Any]:
    """Gradient steps with the three straight pieces that MPyC's comparisons allow in place of the logistic function."""
    fixed = mpc.SecFxp(40, 20)
    rng = np.random.default_rng(1)
    data = rng.normal(size=(rows, COLUMNS))
    labels = (rng.random(rows) < 1 / (1 + np.exp(-data[:, 0]))).astype(float)
    x, y = await shared(fixed.array(data)), await shared(fixed.array(labels))
    rate, weights = 4 / (COLUMNS + 1), np.zeros(COLUMNS)
    start = time.perf_counter()
    current = fixed.array(np.zeros(COLUMNS))
    for _ in range(STEPS // part):
        moved = x @ current + 0.5
        above, positive = moved >= 1, moved >= 0
        predicted = positive * moved * (1 - above) + above
        current = current - (x.T @ (predicted - y) * (1 / rows)) * rate
    result = await mpc.output(current)
    seconds = time.perf_counter() - start
    for _ in range(STEPS // part):
        weights -= data.T @ (1 / (1 + np.exp(-data @ weights)) - labels) * (rate / rows)
    return seconds, np.abs(np.array(result.tolist(), dtype=float) - weights).max()


async def compare(rows: int, part: int) -> tuple[float, Any]:
    """How many numbers of 32 bits are below 0."""
    whole = mpc.SecInt(32)
    data = np.random.default_rng(1).integers(-(2**31), 2**31, rows // part)
    x = await shared(whole.array(data.astype(object)))
    start = time.perf_counter()
    result = int(await mpc.output(mpc.np_sum(x < 0)))
    seconds = time.perf_counter() - start
    return seconds, abs(result - np.count_nonzero(data < 0))


async def main() -> None:
    """One workload."""
    name, rows, part = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    workloads = {"gram": gram, "regression": regression, "logistic": logistic, "compare": compare}
    await mpc.start()
    seconds, error = await workloads[name](rows, part)
    if mpc.pid == 0:
        print(seconds, float(error))
    await mpc.shutdown()


mpc.run(main())
