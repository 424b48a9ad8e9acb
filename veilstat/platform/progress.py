"""A progress bar for queries of many openings, in notebooks and terminals."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .driver import Progress, no_progress
from .plan import Plan

FEWEST_OPENINGS = 10


@contextmanager
def default_progress(plan: Plan, chosen: Progress | None) -> Iterator[Progress]:
    """The chosen report; else a bar where somebody watches a plan of many openings; else nothing."""
    openings = sum(step.at_most for step in plan.steps)
    if chosen is not None:
        yield chosen
    elif openings < FEWEST_OPENINGS or not (sys.stderr.isatty() or "ipykernel" in sys.modules):
        yield no_progress
    else:
        with _bar(plan.title) as report:
            yield report


@contextmanager
def _bar(title: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed} of at most {task.total}"), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title)

        def report(label: str, done: int, at_most: int) -> None:
            bar.update(task, description=f"{title}, {label}", completed=done, total=at_most)

        yield report
