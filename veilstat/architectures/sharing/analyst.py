"""The analyst's side: open every server's sealed part of the answer and put them together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from veilstat.architectures.interface import Released, StepBinding
from veilstat.architectures.waiting import Releasing
from veilstat.arithmetic.agreement import KeyPair, unseal_with
from veilstat.protocol.codec import decode
from veilstat.protocol.faults import violation

from .messages import RESULT, Part, part_size, result_label
from .schemes import Scheme


@dataclass(frozen=True, slots=True)
class AwaitParts(Releasing):
    """Wait for every server's part."""

    binding: StepBinding
    pair: KeyPair
    threshold: int
    scheme: Scheme
    parts: dict[str, Part] = field(default_factory=dict, repr=False)
    name: ClassVar[str] = RESULT

    @property
    def senders(self) -> frozenset[str]:
        return frozenset(self.binding.servers)

    @property
    def quorum(self) -> int:
        return len(self.binding.servers)

    @property
    def largest(self) -> int:
        return part_size(self.binding.participants, self.scheme.result_bytes)

    def take(self, sender: str, payload: memoryview) -> None:
        self.parts[sender] = decode(payload, Part, sender, "a result")

    def released(self) -> Released:
        first, *others = (self.parts[server] for server in self.binding.servers)
        survivors = tuple(first.owners)
        for server, part in zip(self.binding.servers[1:], others, strict=True):
            if tuple(part.owners) != survivors:
                raise violation("survivors_differ", f"{server!r} and {self.binding.servers[0]!r} name different contributors", server)
        known = set(survivors) <= set(self.binding.participants) and list(survivors) == sorted(set(survivors))
        if not known or len(survivors) < self.threshold:
            raise violation("malformed", "the servers named contributors that do not take part, or too few", *self.binding.servers)
        return self.scheme.combine(survivors, [self._unsealed(server) for server in self.binding.servers])

    def _unsealed(self, server: str) -> bytes:
        raw = unseal_with(self.pair, self.binding.step, result_label(server), self.parts[server].sealed)
        if raw is None or len(raw) != self.scheme.result_bytes:
            raise violation("malformed", f"{server!r} sent a result that was not sealed to the analyst for this step", server)
        return raw
