"""A party's own log: one JSON object for each event, in a file that its account alone can read."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType

from veilstat.errors import SchemaError

from .limits import RateLimit
from .private import is_open_to_others

_LINES_A_SECOND, LINES_AT_ONCE = 0.2, 100.0


@dataclass(frozen=True, slots=True)
class Journal:
    """Events with times, parties, codes and words; never a data value. ``now`` is the clock.

    Raises:
        SchemaError: the file cannot be written, or others can read it.
    """

    path: Path
    now: Callable[[], datetime]

    def __post_init__(self) -> None:
        try:
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        except OSError as error:
            raise SchemaError(f"the log {str(self.path)!r} cannot be written: {error.strerror}", code="no_file") from None
        if is_open_to_others(self.path):
            raise SchemaError(f"the log can be read by others; run: chmod 600 {self.path}", code="readable_by_others")

    def write(self, event: str, **words: object) -> None:
        """One line; OSError where the disk takes no more."""
        entry = {"time": self.now().isoformat(timespec="milliseconds"), "event": event, **words}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def write_crash(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """For ``sys.excepthook``: what kind of error and where, without its words, which may hold data."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
            kind, trace = type(error), error.__traceback__
        places = []
        while trace is not None:
            code = trace.tb_frame.f_code
            places.append(f"{Path(code.co_filename).name}:{trace.tb_lineno} {code.co_name}")
            trace = trace.tb_next
        self.write("crashed", kind=kind.__name__, places=places)


@dataclass(slots=True)
class Sparing:
    """For events that others can cause as often as they like: few are written, and the next one that is says how many were not."""

    journal: Journal
    clock: Callable[[], float]
    _limit: RateLimit = field(init=False)
    _left_out: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._limit = RateLimit(_LINES_A_SECOND, LINES_AT_ONCE, self.clock)

    def write(self, event: str, **words: object) -> None:
        """One line, or none; OSError where the disk takes no more."""
        if not self._limit.allows(event):
            self._left_out[event] += 1
            return
        count = self._left_out.pop(event, 0)
        self.journal.write(event, **words, **({"left_out": count} if count else {}))
