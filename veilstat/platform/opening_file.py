"""What was opened, on disk: a file that only grows, and that holds every opening before it happens.

One line for each: a checksum, then JSON. A line without its end is that of a crash before anything was opened, and is
removed; any other line that does not fit its checksum is damage, and nothing may be opened until somebody looks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from veilstat.errors import SchemaError, VeilstatError
from veilstat.protocol.context import digest
from veilstat.protocol.faults import Fault, ProtocolError

from .durable import append_line, whole_lines


class Entry(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Digests of the expressions that were opened, and over whom."""

    expressions: list[bytes]
    over: list[str]


@dataclass(frozen=True, slots=True)
class OpeningFile:
    """The openings that one party has let happen.

    Raises:
        SchemaError: the file cannot be made.
    """

    path: Path

    def __post_init__(self) -> None:
        try:
            whole_lines(self.path)
        except OSError as error:
            raise SchemaError(f"the record of openings {str(self.path)!r} cannot be kept: {error.strerror}", code="no_file") from None

    def read(self) -> Iterator[Entry]:
        """All entries.

        Raises:
            VeilstatError: the file was damaged.
        """
        for line in whole_lines(self.path):
            body = line[64:]
            if line[:64] != _checksum(body):
                raise VeilstatError(
                    f"the record of openings {str(self.path)!r} is damaged; restore it from a copy; without it differences of answers cannot be refused",
                    code="record_damaged",
                )
            yield msgspec.json.decode(body, type=Entry)

    def append(self, entry: Entry) -> None:
        """Make an entry durable.

        Raises:
            ProtocolError: it could not be written, so that nothing may be opened.
        """
        body = msgspec.json.encode(entry)
        line = _checksum(body) + body + b"\n"
        try:
            append_line(self.path, line)
        except OSError as error:
            raise ProtocolError(
                Fault(
                    "VeilstatError", "record_failed", f"the record of openings could not be written ({error.strerror}); nothing was opened"
                )
            ) from None


def _checksum(body: bytes) -> bytes:
    return digest("veilstat/opening-file/1", body).hex().encode()
