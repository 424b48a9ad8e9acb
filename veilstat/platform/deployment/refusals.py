"""How often an owner may refuse because of its rows: each refusal tells one bit about them, so there are few."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from veilstat.errors import VeilstatError

from .journal import Journal

MOST_A_DAY = 20
_DAY = 86_400.0


@dataclass(slots=True)
class Refusals:
    """The refusals of the last day. After too many, every query is refused with the same words until some are a day old.

    ``clock`` never runs backwards.
    """

    party: str
    journal: Journal
    clock: Callable[[], float]
    _times: deque[float] = field(default_factory=deque)

    def conceal(self, error: VeilstatError) -> VeilstatError:
        """What others are told instead of an error that depends on rows, which stays in the owner's log."""
        self.journal.write("refused_for_rows", code=error.code, detail=error.message)
        self._times.append(self.clock())
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
