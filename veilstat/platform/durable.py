"""What a crash must not undo: names in directories, lines in files that only grow, files that are replaced whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from veilstat.errors import VeilstatError


@contextmanager
def disk_failures(what: str) -> Iterator[None]:
    """What the disk refuses here is a VeilstatError: ``what`` could not be done, and why. It names no directory: others may be told."""
    try:
        yield
    except OSError as error:
        raise VeilstatError(f"{what}: {error.strerror}", code="disk_failed") from None


def sync_directory(directory: Path) -> None:
    """Make a new or removed name durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def whole_lines(path: Path) -> list[bytes]:
    """Make a file that only grows (0600) if there is none, and read its lines; OSError if it cannot be kept.

    A line without its end is that of a crash before anybody was told of it, and is removed.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    sync_directory(path.parent)
    written = path.read_bytes()
    complete = written.rfind(b"\n") + 1
    if complete < len(written):
        os.truncate(path, complete)
    return written[:complete].splitlines()


def append_line(path: Path, line: bytes) -> None:
    """Make one more line of an existing file durable; OSError if it could not be written, and the file is as before."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        before = os.lseek(descriptor, 0, os.SEEK_END)
        if os.write(descriptor, line) < len(line):
            os.ftruncate(descriptor, before)
            raise OSError(0, "the disk is full")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def part_of(path: Path) -> Path:
    """Where a file is written before it takes its place."""
    return path.with_name(path.name + ".part")


def replace_file(path: Path, *parts: bytes | memoryview) -> None:
    """Replace a file (0600) as a whole with all parts, durably: a crash leaves the former content or the new one. OSError if it could not be written."""
    part = part_of(path)
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
