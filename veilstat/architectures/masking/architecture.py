"""The masking architecture: what it protects (sums), whom it trusts, what it costs, and its sessions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from veilstat.architectures.interface import (
    Architecture,
    Contribution,
    NoiseSite,
    NoiseSource,
    Random,
    StepBinding,
    StepCost,
    Trust,
)
from veilstat.architectures.threshold import Threshold, require_curious
from veilstat.architectures.totals import owner_totals
from veilstat.arithmetic.agreement import PUBLIC_KEY_BYTES, KeyPair
from veilstat.arithmetic.rings import Ring
from veilstat.errors import CapabilityError
from veilstat.language.cut import Cut, Facts
from veilstat.protocol.faults import violation
from veilstat.protocol.session import Session, Turn

from . import bonawitz17 as paper
from .bonawitz17_analyst import AwaitResult
from .bonawitz17_owner import Owner
from .bonawitz17_server import Server

_ROUNDS = (*paper.ROUNDS, paper.RESULT)


@dataclass(frozen=True, slots=True)
class Masking(Architecture):
    """Data owners mask their totals pairwise; an untrusted server adds them up.

    Args:
        threat: "curious": the server and the colluding owners follow the protocol and try to learn from what they see.
        colluding: how many owners may pool what they know with the server and with whoever learns the result;
            min(1, owners - 2) by default. The threshold follows: max(colluding + 2, min_owners).
        min_owners: the fewest owners whose total may be opened.
        recipient: "analyst": only the analyst learns the total, the server sees it padded; "server": the server
            learns it and passes it on.
    """

    threat: str = "curious"
    colluding: int | None = None
    min_owners: int | None = None
    recipient: str = "analyst"

    name: ClassVar[str] = "masking"
    rounds: ClassVar[tuple[str, ...]] = paper.ROUNDS
    input_round: ClassVar[str] = paper.MASKED_INPUT

    def __post_init__(self) -> None:
        if not isinstance(self.threat, str) or not isinstance(self.recipient, str):
            raise CapabilityError("threat and recipient must be text", code="bad_configuration")
        require_curious(self.threat, "masking against an active server")
        if self.recipient not in ("analyst", "server"):
            raise CapabilityError(f"recipient must be 'analyst' or 'server', not {self.recipient!r}", code="bad_configuration")

    def supports(self, facts: Facts) -> bool:
        """Pairwise masks cancel under addition and nothing else."""
        return facts.is_linear

    def trust(self, owners: tuple[str, ...]) -> Trust:
        """The computed threshold; CapabilityError where it cannot be reached."""
        threshold = Threshold.of(len(owners), self.colluding, self.min_owners)
        words = (
            threshold.may_pool("the server"),
            f"threshold {threshold.count} = {threshold.formula}: {threshold.may_drop_out}"
            + (" at any time" if threshold.count < len(owners) else ""),
            "not defended: a server or owner that deviates from the protocol, and owners that lie about their own data",
        )
        recipients = ("analyst",) if self.recipient == "analyst" else ("analyst", "server")
        noise = NoiseSource(NoiseSite.OWNERS, len(owners), threshold.honest)
        return Trust(threshold.count, threshold.colluding, words, recipients, noise=noise)

    def cost(self, cut: Cut, owners: tuple[str, ...]) -> StepCost:
        vector = cut.size * Ring.for_bits(cut.bits).element_bytes
        by_owner = {owner: paper.round_costs(owner, owners, vector) for owner in owners}
        return StepCost(by_owner, PUBLIC_KEY_BYTES if self.recipient == "analyst" else 0)

    def describe(self) -> Mapping[str, str | int]:
        return {
            "name": self.name,
            "threat": self.threat,
            "colluding": -1 if self.colluding is None else self.colluding,
            "min_owners": self.min_owners or 0,
            "recipient": self.recipient,
        }

    def announce(self, cut: Cut, owners: tuple[str, ...], random: Random) -> tuple[bytes, bytes]:
        if self.recipient == "server":
            return b"", b""
        pair = KeyPair.generate(random)
        return pair.secret, pair.public

    def owner(self, binding: StepBinding, contribution: Contribution, random: Random) -> Session:
        ring = Ring.for_bits(binding.cut.bits)
        if len(binding.key) != (PUBLIC_KEY_BYTES if self.recipient == "analyst" else 0):
            raise violation("bad_key", f"{binding.analyst!r} announced no key for the pad that only it may remove", binding.analyst)
        party = Owner(
            name=binding.identity.name,
            server=binding.server,
            analyst=binding.analyst,
            participants=binding.participants,
            threshold=self.trust(binding.owners).threshold,
            context=binding.step,
            ring=ring,
            vector=ring.encode(owner_totals(binding, contribution, binding.cut)),
            pad_key=binding.key or None,
            random=random,
            authorise=contribution.authorise,
        )
        return binding.session(_ROUNDS, party.start())

    def server(self, binding: StepBinding) -> Session:
        party = Server(
            name=binding.server,
            analyst=binding.analyst,
            participants=binding.participants,
            threshold=self.trust(binding.owners).threshold,
            context=binding.step,
            ring=Ring.for_bits(binding.cut.bits),
            length=binding.cut.size,
            addition=binding.addition,
            executor=binding.executor,
        )
        return binding.session(_ROUNDS, party.start())

    def analyst(self, binding: StepBinding, secret: bytes) -> Session:
        waiting = AwaitResult(
            server=binding.server,
            participants=binding.participants,
            threshold=self.trust(binding.owners).threshold,
            ring=Ring.for_bits(binding.cut.bits),
            lower=binding.cut.lower,
            pair=KeyPair.from_secret(secret) if secret else None,
        )
        return binding.session(_ROUNDS, Turn((), waiting))
