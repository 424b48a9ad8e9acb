"""What an owner's person has done with rows that leave the owner for longer than a query, one command at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from veilstat.errors import CapabilityError, QuorumLost, VeilstatError

from .journal import Journal

Say: TypeAlias = Callable[[str], None]
SHARE, SHOW, WITHDRAW = "share", "show", "withdraw"


class Rows(Protocol):
    """An owner's rows, wherever they are kept. The person reads at once what ``say`` is given; whatever goes wrong is a VeilstatError."""

    async def share(self, say: Say) -> None:
        """Let the rows be asked about from now on, in place of those that were shared before."""
        ...

    async def show(self, say: Say) -> None:
        """Who holds which rows, and what may be asked of them."""
        ...

    async def withdraw(self, say: Say) -> None:
        """Let nothing more be asked about the rows."""
        ...


class Settle(Protocol):
    """How an agent is made to do something that it begins itself; AgentHost has it."""

    def __call__(self, begin: Callable[[], None], moved: Callable[[], None] = ...) -> Awaitable[None]:
        """Call ``begin``, and ``moved`` whenever something has happened, until the agent waits for nobody; VeilstatError if it failed."""
        ...


class StaysHere:
    """Where rows never leave their owner there is nothing to share."""

    async def share(self, say: Say) -> None:
        raise CapabilityError(
            "in this study rows stay with their owner, whose agent answers every query; with [sharing] entry = 'rows' owners share them once",
            code="no_uploads",
        )

    show = withdraw = share


@dataclass(slots=True)
class RowsErrands:
    """Carries a person's commands out, and writes them down."""

    rows: Rows
    journal: Journal
    _running: str = ""

    async def carry_out(self, verb: str, say: Say) -> None:
        """One command.

        Raises:
            QuorumLost: another one still runs. VeilstatError: what went wrong.
        """
        if self._running:
            raise QuorumLost(f"`veilstat rows {self._running}` still runs here; try again once it has ended", code="rows_busy")
        self._running = verb
        code = ""
        try:
            await {SHARE: self.rows.share, SHOW: self.rows.show, WITHDRAW: self.rows.withdraw}[verb](say)
        except VeilstatError as error:
            code = error.code
            raise
        finally:
            self._running = ""
            self.journal.write(f"rows_{verb}", code=code)
