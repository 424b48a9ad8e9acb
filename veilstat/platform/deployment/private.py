"""What a process has to itself: directories that no other account can look into, and files that none can read."""

from __future__ import annotations

from pathlib import Path

from veilstat.errors import CapabilityError, SchemaError


def make_private(directory: Path) -> None:
    """Make a directory that this account alone can look into, where there is none, in one that there is.

    Raises:
        SchemaError: it cannot be made. CapabilityError: there is one that others can look into.
    """
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise SchemaError(f"the directory {str(directory)!r} cannot be made: {error.strerror}", code="no_directory") from None
    check_directory(directory)


def check_directory(directory: Path) -> None:
    """Refuse a directory that is missing (SchemaError), or that others can look into (CapabilityError)."""
    if not directory.is_dir():
        raise SchemaError(f"there is no directory {str(directory)!r}; run: install -d -m 700 {directory}", code="no_directory")
    if is_open_to_others(directory):
        raise CapabilityError(
            f"others can look into a directory that is this account's alone; run: chmod 700 {directory}", code="readable_by_others"
        )


def check_file(path: Path, what: str) -> None:
    """Refuse a file that others can read or change: CapabilityError; ``what`` it holds is named."""
    if is_open_to_others(path):
        raise CapabilityError(f"{what} can be read or changed by others; run: chmod 600 {path}", code="readable_by_others")


def is_open_to_others(path: Path) -> bool:
    """Whether another account has any right to a file or directory."""
    return bool(path.stat().st_mode & 0o077)
