"""The plain oracle: the same steps and the same cut as the protected architectures, with nothing protected.

Owners send their totals as they are. It exists to check answers and to debug statistics, and its plan says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from veilstat.architectures.interface import (
    Architecture,
    Contribution,
    Random,
    Released,
    RoundCost,
    StepBinding,
    StepCost,
    Trust,
)
from veilstat.architectures.relay import RESULT, AwaitTotal, encode_total
from veilstat.architectures.totals import owner_totals
from veilstat.arithmetic.rings import Elements, Ring
from veilstat.errors import CapabilityError
from veilstat.language.cut import Cut, Facts
from veilstat.protocol.faults import violation
from veilstat.protocol.session import Message, Session, Turn

CONTRIBUTION = "contribution"
_ROUNDS = (CONTRIBUTION, RESULT)


@dataclass(frozen=True, slots=True)
class Clear(Architecture):
    """Nothing is protected: the server sees every owner's totals. For tests and debugging."""

    name: ClassVar[str] = "clear"
    rounds: ClassVar[tuple[str, ...]] = (CONTRIBUTION,)
    input_round: ClassVar[str] = CONTRIBUTION

    def supports(self, facts: Facts) -> bool:
        """The same as masking, so that both open the same numbers."""
        return facts.is_linear

    def trust(self, owners: tuple[str, ...]) -> Trust:
        if not owners:
            raise CapabilityError("a study needs at least one data owner", code="too_few_owners")
        words = ("nothing is protected: the server sees the totals of every owner; use it with simulated data only",)
        return Trust(1, len(owners), words, ("analyst", "server"))

    def cost(self, cut: Cut, owners: tuple[str, ...]) -> StepCost:
        vector = cut.size * Ring.for_bits(cut.bits).element_bytes
        return StepCost({owner: (RoundCost(CONTRIBUTION, vector, 0),) for owner in owners}, 0)

    def describe(self) -> Mapping[str, str | int]:
        return {"name": self.name}

    def owner(self, binding: StepBinding, contribution: Contribution, random: Random) -> Session:
        ring = Ring.for_bits(binding.cut.bits)
        vector = ring.encode(owner_totals(binding, contribution, binding.cut))
        message = Message(CONTRIBUTION, binding.server, ring.to_bytes(vector))
        return binding.session(_ROUNDS, Turn((message,), None, binding.participants))

    def server(self, binding: StepBinding) -> Session:
        ring = Ring.for_bits(binding.cut.bits)
        size = binding.cut.size * ring.element_bytes
        first = _Collect(frozenset(binding.participants), size, binding.analyst, ring, ring.zeros(binding.cut.size))
        return binding.session(_ROUNDS, Turn((), first))

    def analyst(self, binding: StepBinding, secret: bytes) -> Session:
        ring = Ring.for_bits(binding.cut.bits)

        def release(survivors: tuple[str, ...], raw: memoryview) -> Released:
            return Released(ring.decode(ring.from_bytes(raw), binding.cut.lower), survivors)

        size = binding.cut.size * ring.element_bytes
        return binding.session(_ROUNDS, Turn((), AwaitTotal(binding.server, binding.participants, size, release)))


@dataclass(frozen=True, slots=True)
class _Collect:
    senders: frozenset[str]
    largest: int
    analyst: str
    ring: Ring
    total: Elements
    arrived: list[str] = field(default_factory=list)
    name: ClassVar[str] = CONTRIBUTION
    quorum: ClassVar[int] = 1

    def take(self, sender: str, payload: memoryview) -> None:
        if len(payload) != self.largest:
            raise violation("malformed", f"{sender!r} sent totals of the wrong length", sender)
        self.ring.add(self.total, self.ring.from_bytes(payload))
        self.arrived.append(sender)

    def close(self) -> Turn:
        survivors = tuple(sorted(self.arrived))
        payload = encode_total(survivors, self.ring.to_bytes(self.total))
        return Turn((Message(RESULT, self.analyst, payload),), None, survivors)
