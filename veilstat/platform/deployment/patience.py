"""How long a party waits for others: a time for each round, however much arrives in it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass


@dataclass(slots=True)
class Patience:
    """Seconds for each thing that is awaited; ``clock`` never runs backwards."""

    seconds: float
    clock: Callable[[], float]
    _awaited: Hashable = None
    _since: float = 0.0

    def is_over(self, awaited: Hashable) -> bool:
        """Whether the same has been awaited for too long; None: nothing is. Once it is over, it begins anew."""
        now = self.clock()
        if awaited is None or awaited != self._awaited:
            self._awaited, self._since = awaited, now
            return False
        if now - self._since < self.seconds:
            return False
        self._since = now
        return True
