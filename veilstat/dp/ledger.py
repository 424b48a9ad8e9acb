"""An owner's privacy ledger: what was spent, and whether the next release still fits the budget.

Costs add up in zero-concentrated differential privacy, which may be spent adaptively up to a bound fixed beforehand
(Whitehouse, Ramdas, Rogers, Wu, ICML 2023, Theorem 1). What was reserved counts as spent, whatever became of it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

from veilstat.errors import BudgetExhausted, VeilstatError

from .calibration import analytic_epsilon, zcdp_epsilon, zcdp_rho

_ROUNDING = 0.99
START = hashlib.sha256(b"veilstat/ledger/1").hexdigest()


def not_kept(line: bytes) -> None:
    """For ledgers that live in memory."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What an owner has spent and has left.

    Args:
        epsilon, delta: the whole budget, None where there is none. spent, left: in zCDP; left is None without a budget.
        releases: how many releases were paid for.
    """

    epsilon: float | None
    delta: float | None
    spent: Fraction
    left: Fraction | None
    releases: int

    @property
    def epsilon_spent(self) -> float | None:
        """The epsilon, at the budget's delta, that all releases so far promise together; None without a budget."""
        if self.delta is None:
            return None
        return zcdp_epsilon(float(self.spent), self.delta) if self.spent else 0.0

    @property
    def fits(self) -> float | None:
        """The epsilon, at the budget's delta, that one more release may promise whatever its calibration; None without a budget.

        A single count, whose noise is the least, costs most for its epsilon: as much as continuous noise would.
        """
        if self.left is None or self.delta is None:
            return None
        return _ROUNDING * analytic_epsilon(math.sqrt(1 / (2 * self.left)), self.delta) if self.left > 0 else 0.0

    def __str__(self) -> str:
        paid = f"{self.releases} release{'s' * (self.releases != 1)} paid for, rho = {float(self.spent):.3g} in zCDP"
        if self.epsilon is None or self.left is None:
            return f"no budget; {paid}"
        return (
            f"budget of epsilon {self.epsilon:g} at delta {self.delta:g}: {paid}, epsilon {self.epsilon_spent:.3g}; "
            f"rho = {float(self.left):.3g} left, so that one more release with epsilon below {self.fits:.3g} at this delta fits"
        )


class Ledger:
    """Append-only and chained by hashes. ``keep`` must have made a line durable when it returns.

    Args:
        promise: (epsilon, delta) of the whole budget, or None. lines: what was kept before. keep: stores one more line.

    Raises:
        VeilstatError: lines are damaged, missing or out of order.
    """

    def __init__(
        self, promise: tuple[float, float] | None = None, lines: Iterable[bytes] = (), keep: Callable[[bytes], None] = not_kept
    ) -> None:
        self.promise, self._keep = promise, keep
        self._limit = None if promise is None else zcdp_rho(*promise)
        self._head, self._spent, self._releases = START, Fraction(0), 0
        for line in lines:
            self._count(line)

    @property
    def budget(self) -> Budget:
        """What is spent and left."""
        epsilon, delta = self.promise or (None, None)
        left = None if self._limit is None else self._limit - self._spent
        return Budget(epsilon, delta, self._spent, left, self._releases)

    def cost(self, rho: Fraction, promise: tuple[float, float]) -> Fraction:
        """What a release is counted as: rho, and no more than the whole budget for a first one whose promise is within it.

        Its promise may be proven by its exact tail, which costs more in zCDP than its epsilon; nothing is left then.
        """
        if (
            self.promise is None
            or self._limit is None
            or self._releases
            or not all(its <= most for its, most in zip(promise, self.promise, strict=True))
        ):
            return rho
        return min(rho, self._limit)

    def check(self, rho: Fraction, promise: tuple[float, float]) -> None:
        """Refuse what no longer fits: BudgetExhausted says what is left and what would fit."""
        budget = self.budget
        if budget.left is None or self.cost(rho, promise) <= budget.left:
            return
        raise BudgetExhausted(
            f"the release costs rho = {float(rho):.3g} in zCDP, and {float(budget.left):.3g} is left of a budget of "
            f"epsilon {budget.epsilon:g} at delta {budget.delta:g}; nothing was opened. A release with epsilon "
            f"below {budget.fits:.3g} at this delta would fit",
        )

    def spend(self, rho: Fraction, promise: tuple[float, float], context: bytes) -> None:
        """Count a release as spent, durably; noise may be drawn once this has returned.

        Args:
            rho: its cost in zCDP. promise: its (epsilon, delta). context: what names the release.

        Raises:
            BudgetExhausted: it does not fit.
        """
        self.check(rho, promise)
        entry = [self._head, str(self.cost(rho, promise)), context.hex()]
        line = json.dumps([*entry, _digest(entry)]).encode()
        self._keep(line)
        self._count(line)

    def _count(self, line: bytes) -> None:
        try:
            *entry, digest = json.loads(line)
            previous, rho, _ = entry
            cost = Fraction(rho)
        except (ValueError, TypeError):
            raise _damaged() from None
        if previous != self._head or digest != _digest(entry) or cost < 0:
            raise _damaged()
        self._head, self._spent, self._releases = digest, self._spent + cost, self._releases + 1


def _digest(entry: list[str]) -> str:
    return hashlib.sha256(json.dumps(entry).encode()).hexdigest()


def _damaged() -> VeilstatError:
    return VeilstatError(
        "the privacy ledger is damaged: a line is missing, altered or out of order; restore it from a copy", code="ledger_damaged"
    )
