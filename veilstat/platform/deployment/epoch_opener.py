"""When a key is made: once all owners have asked for one, each of them is connected, and no analyst has a session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..definition import ANALYST, SERVER
from .switchboard import Switchboard

PAUSE = 30.0
"""Seconds between the beginnings of two keys: whatever ended the first one is not met again at once."""


@dataclass(slots=True)
class EpochOpener:
    """Opens epochs on a switchboard, and reports what became of them; ``clock`` never runs backwards."""

    board: Switchboard
    clock: Callable[[], float]
    _earliest: float | None = None
    _is_open: bool = False

    def tick(self) -> None:
        """Called several times a second."""
        board, party = self.board, self.board.party
        if self._is_open and not party.is_making_key:
            self._is_open = False
            self._report()
        if not party.may_open_epoch or ANALYST in board.ports or not board.ports.keys() >= set(party.definition.owners):
            return
        now = self.clock()
        if self._earliest is None or now >= self._earliest:
            self._earliest, self._is_open = now + PAUSE, True
            board.begin(party.open_epoch)

    def _report(self) -> None:
        party = self.board.party
        if party.fault is not None:
            self.board.report("epoch_failed", ", ".join(party.fault.culprits), party.fault.code)
        elif party.kept is not None:
            self.board.report("epoch_made", SERVER, party.kept.record.identity.hex()[:16])
