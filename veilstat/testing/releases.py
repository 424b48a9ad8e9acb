"""Private releases without parties, fast enough for thousands: what is opened is the owners' totals and all their noise.

For studies of coverage. The circuit, its cut, the noise and the estimate are those of a study; messages are not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from veilstat.language.answers import answers
from veilstat.language.evaluate import evaluate
from veilstat.language.step import Arrays, Opened, Request
from veilstat.platform.plan import Plan, StepPlan
from veilstat.platform.private_plan import answer_noise
from veilstat.platform.table import Table


def releases(plan: Plan, tables: Mapping[str, pd.DataFrame], random: Callable[[int], bytes], count: int = 1) -> list[Any]:
    """Results of a private plan over the same rows, each with noise of its own.

    Args:
        plan: of a query with ``privacy=``. tables: a DataFrame for each owner; every owner adds its noise.
        random: where noise comes from, such as ``random.Random(seed).randbytes``. count: how many.
    """
    owners = [Table(name, frame, plan.definition.schema) for name, frame in tables.items()]
    return [_release(plan, owners, random) for _ in range(count)]


def _release(plan: Plan, owners: list[Table], random: Callable[[int], bytes]) -> Any:
    steps = {step.label: step for step in plan.steps}
    running = plan.form.run(plan.definition.schema)
    request = next(running)
    while True:
        try:
            request = running.send(_opened(steps[request.label], request, owners, random))
        except StopIteration as stop:
            return stop.value


def _opened(step: StepPlan, request: Request, owners: list[Table], random: Callable[[int], bytes]) -> Opened:
    assert step.noise is not None
    chosen = step.cut
    public: Arrays = {name: step.step.public[name].integers(name, value) for name, value in request.public.items()}
    vector = np.zeros(chosen.size, dtype=object)
    for table in owners:
        totals = evaluate(chosen.circuit, chosen.nodes, rows=table.rows(chosen.columns()), inputs=public, known={})
        vector = vector + chosen.flatten(totals) + step.noise.draw(random)
    values = answers(chosen, vector, public, chosen.answers)
    return Opened(values, tuple(table.owner for table in owners), noise=answer_noise(chosen, step.noise, len(owners)))
