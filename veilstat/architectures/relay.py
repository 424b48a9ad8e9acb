"""The last hop of architectures whose server hands an opened total to the analyst as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from veilstat.protocol.codec import LENGTH_BYTES, decode, split_head, with_head
from veilstat.protocol.envelope import names_bytes
from veilstat.protocol.faults import violation

from .interface import Released
from .waiting import AnalystFromServer

RESULT = "result"


def encode_total(survivors: Sequence[str], raw: bytes | memoryview) -> bytes:
    """Who contributed, and the opened values."""
    return with_head(list(survivors), (raw,))


def total_size(survivors: Sequence[str], raw: int) -> int:
    """Bytes of ``encode_total``."""
    return LENGTH_BYTES + names_bytes(survivors) + raw


@dataclass(frozen=True, slots=True)
class AwaitTotal(AnalystFromServer):
    """The analyst waits for the server's total of ``size`` bytes."""

    participants: tuple[str, ...]
    size: int
    release: Callable[[tuple[str, ...], memoryview], Released]
    name: ClassVar[str] = RESULT

    @property
    def largest(self) -> int:
        return total_size(self.participants, self.size)

    def released(self) -> Released:
        head, raw = split_head(self.inbox[0])
        survivors = tuple(decode(head, list[str], self.server, "a result"))
        if len(raw) != self.size:
            raise violation("malformed", f"{self.server!r} sent a total of the wrong length", self.server)
        if not survivors or not set(survivors) <= set(self.participants) or len(set(survivors)) < len(survivors):
            raise violation("malformed", f"{self.server!r} named owners that do not take part, or none, or one twice", self.server)
        return self.release(survivors, raw)
