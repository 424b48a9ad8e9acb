"""The analyst's part of a masking session: remove the pad that it shares with each survivor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from veilstat.architectures.channels import agree
from veilstat.architectures.interface import Released
from veilstat.architectures.waiting import AnalystFromServer
from veilstat.arithmetic.agreement import KeyPair
from veilstat.arithmetic.keystream import add_keystreams
from veilstat.arithmetic.rings import Elements, Ring
from veilstat.protocol.faults import violation

from . import bonawitz17 as paper


@dataclass(frozen=True, slots=True)
class AwaitResult(AnalystFromServer):
    """Wait for the server's total; ``pair`` is None where the server is the recipient and the total is not padded."""

    participants: tuple[str, ...]
    threshold: int
    ring: Ring
    lower: tuple[int, ...] = field(repr=False)
    pair: KeyPair | None
    name: ClassVar[str] = paper.RESULT

    @property
    def largest(self) -> int:
        return paper.result_size(self.participants, len(self.lower) * self.ring.element_bytes)

    def released(self) -> Released:
        channels, label, raw = paper.decode_result(self.inbox[0], self.server)
        if (
            len(raw) != len(self.lower) * self.ring.element_bytes
            or not set(channels) <= set(self.participants)
            or len(channels) < self.threshold
        ):
            raise violation("malformed", f"{self.server!r} sent a total of the wrong length or over the wrong owners", self.server)
        total: Elements = self.ring.from_bytes(raw).copy()
        if self.pair is not None:
            pads = [paper.pad_seed(agree(self.pair, key, self.server), label) for key in channels.values()]
            add_keystreams(self.ring, total, (), pads)
        return Released(self.ring.decode(total, self.lower), tuple(sorted(channels)))
