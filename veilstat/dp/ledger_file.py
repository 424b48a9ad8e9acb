"""A ledger on disk: one line for each release, forced to the disk before anything that it pays for is drawn."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from veilstat.errors import VeilstatError

from .ledger import Ledger


def open_ledger(path: Path, promise: tuple[float, float] | None) -> Ledger:
    """The ledger in a file, which is made where it does not exist.

    A last line without its end was never durable, so nothing was drawn for it: it is cut off.

    Raises:
        VeilstatError: the file is damaged, or somebody else wrote to it since (when something is spent).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        raw = path.read_bytes()
        lines = raw.split(b"\n")[:-1]
        size = sum(len(line) + 1 for line in lines)
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    _sync_directory(path.parent)
    return Ledger(promise, lines, _File(path, size).append)


@dataclass(slots=True)
class _File:
    path: Path
    size: int

    def append(self, line: bytes) -> None:
        with self.path.open("ab", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != self.size:
                raise VeilstatError(
                    "another process wrote to the privacy ledger; nothing was drawn. Run one agent for each ledger", code="ledger_shared"
                )
            if file.write(line + b"\n") != len(line) + 1:
                raise VeilstatError(
                    "the privacy ledger could not be written; nothing was drawn. Check its disk and its directory", code="ledger_unwritten"
                )
            os.fsync(file.fileno())
        self.size += len(line) + 1


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
