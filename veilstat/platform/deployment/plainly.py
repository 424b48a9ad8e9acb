"""Errors of tasks that run together, as a person should see them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from veilstat.errors import VeilstatError
from veilstat.protocol.faults import ProtocolError

from ..driver import as_error


@contextmanager
def plainly() -> Iterator[None]:
    """Raise the first error that veilstat foresaw by itself; a group without one stays as it is."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException | None = group.subgroup((VeilstatError, ProtocolError))
        if error is None:
            raise
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise (as_error(error.fault) if isinstance(error, ProtocolError) else error) from None
