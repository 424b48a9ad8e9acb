"""The queries that a party has answered, on disk: a file that only grows, and that names every query before its answer leaves.

What was begun before a crash is not in any memory afterwards, and by this file it cannot be begun again: a replayed
query meets "already answered", so no step is ever run twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from veilstat.errors import SchemaError, VeilstatError
from veilstat.protocol.context import DIGEST_BYTES
from veilstat.protocol.faults import Fault, ProtocolError

from .durable import append_line, whole_lines


@dataclass(frozen=True, slots=True)
class SessionFile:
    """The roots of the queries that were answered; one line of hexadecimal digits for each.

    Raises:
        SchemaError: the file cannot be made or read. VeilstatError: it was damaged.
    """

    path: Path
    _roots: set[bytes] = field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        try:
            lines = whole_lines(self.path)
        except OSError as error:
            raise SchemaError(f"the record of queries {str(self.path)!r} cannot be kept: {error.strerror}", code="no_file") from None
        try:
            self._roots.update(bytes.fromhex(line.decode()) for line in lines)
        except ValueError:
            raise _damaged(self.path) from None
        if any(len(root) != DIGEST_BYTES for root in self._roots):
            raise _damaged(self.path)

    def __contains__(self, root: object) -> bool:
        return root in self._roots

    def add(self, root: bytes) -> None:
        """Remember a query durably; ProtocolError if that failed, so that it must not be answered."""
        try:
            append_line(self.path, root.hex().encode() + b"\n")
        except OSError as error:
            text = f"the record of queries could not be written ({error.strerror}); nothing was answered"
            raise ProtocolError(Fault("VeilstatError", "record_failed", text)) from None
        self._roots.add(root)


def _damaged(path: Path) -> VeilstatError:
    return VeilstatError(
        f"the record of queries {str(path)!r} is damaged; restore it from a copy; without it a query could be answered twice",
        code="record_damaged",
    )
