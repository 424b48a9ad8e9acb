"""What the process of the coordinator and that of an owner's agent have in common: a log, and how they end."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from veilstat.errors import VeilstatError
from veilstat.protocol.faults import ProtocolError

from ..driver import as_error
from .journal import Journal


def open_journal(path: Path) -> Journal:
    """The log of this process, which also takes down how it crashes; errors as ``Journal``."""
    journal = Journal(path, lambda: datetime.now(UTC))
    sys.excepthook = journal.write_crash
    return journal


def told_to_end() -> asyncio.Event:
    """Set once the process gets SIGTERM or SIGINT."""
    is_over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, is_over.set)
    return is_over


@contextmanager
def plainly() -> Iterator[None]:
    """Of the errors of tasks that run together, raise the first that veilstat foresaw by itself; a group without one stays as it is."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException | None = group.subgroup((VeilstatError, ProtocolError))
        if error is None:
            raise
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise (as_error(error.fault) if isinstance(error, ProtocolError) else error) from None
