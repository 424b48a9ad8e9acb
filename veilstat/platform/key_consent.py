"""Whether an owner takes part in a new key of encrypted rows, on disk: its person asks for one, or has withdrawn.

A word is good for few attempts, each under a number of its own: a server that has keys begun again and again, or that
repeats an old word, soon finds none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from veilstat.errors import VeilstatError

from .durable import disk_failures, replace_file, sync_directory

MOST_ATTEMPTS = 5
"""Keys that may be begun on one word; the first one that is made uses the word up."""


class _Wish(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    number: bytes
    attempts: int


@dataclass(frozen=True, slots=True)
class KeyConsent:
    """One owner's, in a directory of its own. What cannot be written, or is damaged, is a VeilstatError, which names no directory: others may be told."""

    directory: Path

    def __post_init__(self) -> None:
        self._found()

    def ask(self, number: bytes) -> None:
        """Ask for a new key; ``number`` names the first attempt."""
        self._write(self._wish, msgspec.msgpack.encode(_Wish(number, MOST_ATTEMPTS)))

    @property
    def number(self) -> bytes:
        """That of the next attempt; empty where the owner does not ask, or has withdrawn: a crash may have left its word."""
        wish = self._found()
        return b"" if wish is None or self.is_withdrawn else wish.number

    def spend(self, following: bytes) -> None:
        """Take one attempt, before anything is made in it; the next one, if there is any left, has another number."""
        wish = self._found()
        if wish is None or wish.attempts <= 1:
            self.settle()
        else:
            self._write(self._wish, msgspec.msgpack.encode(_Wish(following, wish.attempts - 1)))

    def settle(self) -> None:
        """Ask no longer."""
        self._remove(self._wish)

    def withdraw(self) -> None:
        """Take part in nothing until ``rejoin``."""
        self._write(self._withdrawn, b"")
        self.settle()

    def rejoin(self) -> None:
        """Take part again."""
        self._remove(self._withdrawn)

    @property
    def is_withdrawn(self) -> bool:
        """Whether the owner takes part in nothing."""
        return self._withdrawn.exists()

    @property
    def _wish(self) -> Path:
        return self.directory / "wish"

    @property
    def _withdrawn(self) -> Path:
        return self.directory / "withdrawn"

    def _found(self) -> _Wish | None:
        try:
            return msgspec.msgpack.decode(self._wish.read_bytes(), type=_Wish)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError):
            raise VeilstatError(
                "the file 'wish' of encrypted rows is damaged; check the disk, remove the file and share the rows again",
                code="epoch_damaged",
            ) from None

    def _write(self, place: Path, content: bytes) -> None:
        with disk_failures(f"the file {place.name!r} of encrypted rows could not be written"):
            replace_file(place, content)

    def _remove(self, place: Path) -> None:
        with disk_failures(f"the file {place.name!r} of encrypted rows could not be removed"):
            place.unlink(missing_ok=True)
            sync_directory(self.directory)
