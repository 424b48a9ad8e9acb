"""Where ledgers are kept: one for each data owner, in memory or on disk, by its own agent or by a server while it is offline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

from veilstat.dp.ledger import Budget, Ledger
from veilstat.dp.ledger_file import open_ledger
from veilstat.errors import VeilstatError

Promise: TypeAlias = "tuple[float, float] | None"
OpenLedger: TypeAlias = "Callable[[str, Promise], Ledger]"
"""From an owner's name and its whole budget (epsilon, delta) to its ledger."""


def in_memory(owner: str, promise: Promise) -> Ledger:
    """A ledger that ends with the process."""
    return Ledger(promise)


def in_directory(directory: Path) -> OpenLedger:
    """Ledgers on disk, one file for each owner."""
    return lambda owner, promise: open_ledger(directory / f"{owner.encode().hex()}.ledger", promise)


@dataclass(frozen=True, slots=True)
class LedgersForOthers:
    """What one compute server keeps for owners who uploaded their rows. A later upload of an owner goes on in its ledger."""

    open: OpenLedger
    opened: dict[str, Ledger] = field(default_factory=dict)

    def budget(self, owner: str, whole: Promise) -> Budget:
        """What is spent and left of an owner's budget, as far as this server knows."""
        return self._of(owner, whole).budget

    def check(self, budgets: Mapping[str, Promise], rho: Fraction, promise: tuple[float, float]) -> None:
        """Refuse what no longer fits one owner's budget; BudgetExhausted names it."""
        for owner, budget in budgets.items():
            try:
                self._of(owner, budget).check(rho, promise)
            except VeilstatError as error:
                raise error.at(f"data owner {owner!r}") from None

    def spend(self, budgets: Mapping[str, Promise], rho: Fraction, promise: tuple[float, float], context: bytes) -> None:
        """Count a release in every owner's ledger, durably, or in none where it does not fit one of them."""
        self.check(budgets, rho, promise)
        for owner, budget in budgets.items():
            self._of(owner, budget).spend(rho, promise, context)

    def _of(self, owner: str, whole: Promise) -> Ledger:
        if owner not in self.opened:
            self.opened[owner] = self.open(owner, whole)
        return self.opened[owner]
