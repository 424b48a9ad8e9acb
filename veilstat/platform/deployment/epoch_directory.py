"""Where a process of a deployment keeps encrypted rows: a directory that its account alone can look into."""

from __future__ import annotations

from pathlib import Path

from veilstat.errors import SchemaError
from veilstat.protocol.identity import Roster

from ..definition import Definition
from ..epoch_store import EpochStore
from ..epochs import study_digest
from .owner_file import check_private


def open_store(directory: Path, definition: Definition, roster: Roster) -> EpochStore:
    """The epoch of a study in a directory, which is made where it is missing.

    Raises:
        SchemaError: it cannot be made. CapabilityError: others can look into it. VeilstatError: what it holds is damaged.
    """
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise SchemaError(f"the directory {str(directory)!r} cannot be made: {error.strerror}", code="no_directory") from None
    check_private(directory)
    return EpochStore(directory, study_digest(definition, roster))
