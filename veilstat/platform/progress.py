"""Live news of a query, in notebooks and terminals: a bar of its openings and, in a deployment, who is awaited in which round."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from .driver import Progress, no_progress
from .plan import Plan

FEWEST_OPENINGS = 10


@runtime_checkable
class Watching(Protocol):
    """A ``Progress`` that is also told what a deployment waits for between two openings, about once a second."""

    def __call__(self, label: str, done: int, at_most: int) -> None: ...

    def waits(self, status: Mapping[str, Any]) -> None:
        """``status`` is what ``Study.status`` gives."""
        ...


@contextmanager
def default_progress(plan: Plan, chosen: Progress | None) -> Iterator[Progress]:
    """The chosen report; else a bar where somebody watches; else nothing."""
    if chosen is not None:
        yield chosen
    elif not (sys.stderr.isatty() or "ipykernel" in sys.modules):
        yield no_progress
    else:
        from rich.console import Console

        with closing_bar(plan, Console(stderr=True)) as report:
            yield report


@contextmanager
def closing_bar(plan: Plan, console: Any) -> Iterator[Watching]:
    """A bar on a rich console that goes away at the end. It is shown once there is news worth it: many openings, or a wait."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed} of at most {task.total}"),
        TimeElapsedColumn(),
    )
    bar = Progress(*columns, console=console, transient=True)
    try:
        yield _Bar(bar, plan.title, sum(step.at_most for step in plan.steps))
    finally:
        bar.stop()


class _Bar:
    """Writes both kinds of news on one line."""

    def __init__(self, bar: Any, title: str, openings: int) -> None:
        self._bar, self._title, self._openings = bar, title, openings
        self._task = bar.add_task(title, total=openings)

    def __call__(self, label: str, done: int, at_most: int) -> None:
        if self._openings >= FEWEST_OPENINGS:
            self._bar.start()
        self._bar.update(self._task, description=f"{self._title}, {label}", completed=done, total=at_most)

    def waits(self, status: Mapping[str, Any]) -> None:
        self._bar.start()
        self._bar.update(self._task, description=f"{self._title}, {in_words(status)}")


def in_words(status: Mapping[str, Any]) -> str:
    """A deployment's status in one line."""
    parts = [status["round"] or ("approval" if status["missing"] else "computing")]
    if status["missing"]:
        parts.append(f"waiting for {', '.join(status['missing'])}")
    return f"{', '.join(parts)}, {sum(status['bytes'].values()):,} bytes"
