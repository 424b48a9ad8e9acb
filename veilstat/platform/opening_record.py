"""What was opened, over whom, across queries: no two exact answers may differ by the data of a few owners."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from veilstat.language.cut import Cut
from veilstat.language.wording import express
from veilstat.protocol.context import digest

from .gate import denied
from .opening_file import Entry, OpeningFile

Explain = Callable[[str, frozenset[str], frozenset[str]], str]
"""From a sum, and over whom it was opened before and is asked for now, to why it is not opened again."""


def isolated_owners(expression: str, before: frozenset[str], now: frozenset[str]) -> str:
    """For sums over the same rows of other owners."""
    names = ", ".join(sorted(before ^ now))
    return f"{expression!r} was opened before over other owners, and the difference would be the data of {names}; ask when the same owners take part"


@dataclass(slots=True)
class OpeningRecord:
    """What a party has let be opened: it refuses a second exact answer whose difference from the first isolates fewer than
    ``fewest`` owners.

    Expressions are compared as they stand; linear combinations of different ones are not searched.

    Args:
        file: keeps openings across restarts; without one they are forgotten with the process.

    Raises:
        VeilstatError: the file was damaged.
    """

    fewest: int
    file: OpeningFile | None = None
    _opened: dict[bytes, list[frozenset[str]]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.file is not None:
            for entry in self.file.read():
                self._count(entry)

    def authorise(self, cut: Cut, public: bytes, survivors: Iterable[str], explain: Explain = isolated_owners) -> None:
        """Check against everything opened before, then count this as opened; ``explain`` says why not.

        Raises:
            ProtocolError: PolicyDenied, or the opening could not be recorded.
        """
        roster = frozenset(survivors)
        digests = cut.circuit.node_digests()
        keys = [digest("veilstat/opened/1", digests[opening.node], public) for opening in cut.openings]
        for opening, key in zip(cut.openings, keys, strict=True):
            for before in self._opened.get(key, ()):
                if any(0 < len(difference) < self.fewest for difference in (before - roster, roster - before)):
                    raise denied("isolating_difference", explain(express(cut.circuit, opening.node, {}), before, roster))
        unknown = [key for key in dict.fromkeys(keys) if roster not in self._opened.get(key, ())]
        if unknown:
            entry = Entry(unknown, sorted(roster))
            if self.file is not None:
                self.file.append(entry)
            self._count(entry)

    def _count(self, entry: Entry) -> None:
        for key in entry.expressions:
            self._opened.setdefault(key, []).append(frozenset(entry.over))
