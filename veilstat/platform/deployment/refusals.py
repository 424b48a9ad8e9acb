"""How often an owner may refuse because of its rows: each refusal tells one bit about them, so there are few, and a restart forgets none."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from veilstat.errors import SchemaError, VeilstatError
from veilstat.protocol.faults import Fault, ProtocolError

from ..durable import append_line, whole_lines
from .journal import Journal

MOST_A_DAY = 20
_DAY = 86_400.0


@dataclass(slots=True)
class Refusals:
    """The refusals of the last day. After too many, every query is refused with the same words until some are a day old.

    Args:
        path: a file with one line for each, its time. clock: seconds since 1970; where it runs backwards, refusals count for longer.

    Raises:
        SchemaError: the file cannot be made or read. VeilstatError: it was damaged.
    """

    path: Path
    party: str
    journal: Journal
    clock: Callable[[], float]
    _times: deque[float] = field(default_factory=deque)

    def __post_init__(self) -> None:
        try:
            lines = whole_lines(self.path)
        except OSError as error:
            raise SchemaError(f"the record of refusals {str(self.path)!r} cannot be kept: {error.strerror}", code="no_file") from None
        try:
            self._times.extend(float(int(line)) for line in lines)
        except ValueError:
            text = f"the record of refusals {str(self.path)!r} is damaged; restore it from a copy, or remove it if a day has passed"
            raise VeilstatError(text, code="record_damaged") from None

    def conceal(self, error: VeilstatError) -> VeilstatError:
        """What others are told instead of an error that depends on rows, which stays in the owner's log; ProtocolError if it cannot be counted."""
        self.journal.write("refused_for_rows", code=error.code, detail=error.message)
        now = int(self.clock())
        try:
            append_line(self.path, b"%d\n" % now)
        except OSError as failure:
            text = f"a refusal could not be recorded ({failure.strerror}); nothing was answered"
            raise ProtocolError(Fault("VeilstatError", "record_failed", text, (self.party,))) from None
        self._times.append(now)
        return self._refusal()

    def check(self) -> None:
        """Raise where the day's refusals are used up."""
        while self._times and self.clock() - self._times[0] > _DAY:
            self._times.popleft()
        if len(self._times) >= MOST_A_DAY:
            self.journal.write("refused_for_number", refusals=len(self._times))
            raise self._refusal()

    def _refusal(self) -> VeilstatError:
        text = f"data owner {self.party!r} cannot take part in this query; its log says why"
        return VeilstatError(text, code="owner_refused", culprits=(self.party,))
