"""How often somebody may ask: a bucket of permissions that fills at a steady rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

_MOST_NAMES = 10_000


@dataclass(slots=True)
class RateLimit:
    """``burst`` requests at once and ``rate`` a second for each name; ``clock`` never runs backwards."""

    rate: float
    burst: float
    clock: Callable[[], float]
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict)

    def allows(self, name: str) -> bool:
        """Take one permission of a name, if it has any left."""
        now = self.clock()
        left, since = self._buckets.pop(name, (self.burst, now))
        left = min(self.burst, left + self.rate * (now - since))
        allowed = left >= 1
        # The name that asked longest ago is forgotten first, so that strangers cannot fill the memory.
        while len(self._buckets) >= _MOST_NAMES:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[name] = (left - allowed, now)
        return allowed
