"""The masking architecture: what it protects (sums), whom it trusts, what it costs, and its sessions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from veilstat.architectures.interface import Contribution, Custody, Random, RoundCost, StepBinding, StepCost, Trust, no_compute_servers
from veilstat.architectures.threshold import curious_threshold, default_colluding
from veilstat.architectures.totals import owner_totals
from veilstat.arithmetic.agreement import PUBLIC_KEY_BYTES, KeyPair
from veilstat.arithmetic.rings import Ring, ring_bits
from veilstat.arithmetic.shamir import SHARE_BYTES
from veilstat.errors import CapabilityError
from veilstat.language.cut import Cut, Entry, Facts
from veilstat.language.disclosure import NoiseSite, NoiseSource
from veilstat.protocol.faults import violation
from veilstat.protocol.session import Binding, Session, Turn

from . import bonawitz17 as paper
from .bonawitz17_analyst import AwaitResult
from .bonawitz17_owner import Owner
from .bonawitz17_server import Server


@dataclass(frozen=True, slots=True)
class Masking:
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

    def __post_init__(self) -> None:
        if not isinstance(self.threat, str) or not isinstance(self.recipient, str):
            raise CapabilityError("threat and recipient must be text", code="bad_configuration")
        if self.threat == "active":
            raise CapabilityError(
                "masking against an active server (threat='active') is not available yet; use threat='curious'", code="not_available"
            )
        if self.threat != "curious":
            raise CapabilityError(f"threat must be 'curious' or 'active', not {self.threat!r}", code="bad_configuration")
        if self.recipient not in ("analyst", "server"):
            raise CapabilityError(f"recipient must be 'analyst' or 'server', not {self.recipient!r}", code="bad_configuration")

    @property
    def name(self) -> str:
        return "masking"

    @property
    def entry(self) -> Entry:
        return Entry.TOTALS

    @property
    def rounds(self) -> tuple[str, ...]:
        return paper.ROUNDS

    @property
    def input_round(self) -> str:
        return paper.MASKED_INPUT

    def supports(self, facts: Facts) -> bool:
        """Pairwise masks cancel under addition and nothing else."""
        return facts.is_linear and facts.scale is not None

    def trust(self, owners: tuple[str, ...]) -> Trust:
        """The computed threshold; CapabilityError where it cannot be reached."""
        count = len(owners)
        colluding = default_colluding(count) if self.colluding is None else self.colluding
        threshold = curious_threshold(count, colluding, self.min_owners)
        lost = count - threshold
        words = (
            f"the server and up to {colluding} of the {count} data owners may pool what they see, as long as they follow the protocol",
            f"threshold {threshold} = max(colluding + 2, min_owners) = max({colluding} + 2, {self.min_owners or 0}): "
            + (f"up to {lost} owner{'s' * (lost != 1)} may drop out at any time" if lost else "no owner may drop out"),
            "not defended: a server or owner that deviates from the protocol, and owners that lie about their own data",
        )
        recipients = ("analyst",) if self.recipient == "analyst" else ("analyst", "server")
        return Trust(threshold, colluding, words, recipients, noise=NoiseSource(NoiseSite.OWNERS, count, threshold - colluding))

    def describe(self) -> Mapping[str, str | int]:
        return {
            "name": self.name,
            "threat": self.threat,
            "colluding": -1 if self.colluding is None else self.colluding,
            "min_owners": self.min_owners or 0,
            "recipient": self.recipient,
        }

    def cost(self, cut: Cut, owners: tuple[str, ...], analyst: str) -> StepCost:
        vector = cut.size * _ring(cut).element_bytes
        count = len(owners)
        by_owner = {}
        for owner in owners:
            others = [peer for peer in owners if peer != owner]
            by_owner[owner] = (
                RoundCost(paper.ADVERTISE_KEYS, paper.KEYS_BYTES, 0),
                RoundCost(paper.SHARE_KEYS, paper.shares_size(count), paper.keys_size(owners)),
                RoundCost(paper.MASKED_INPUT, vector, paper.records_size(others)),
                RoundCost(paper.UNMASKING, count * SHARE_BYTES, paper.names_size(owners)),
            )
        return StepCost(by_owner, PUBLIC_KEY_BYTES if self.recipient == "analyst" else 0, paper.result_size(owners, vector))

    def compute_servers(self, owners: tuple[str, ...]) -> tuple[str, ...]:
        return ()

    def announce(self, cut: Cut, owners: tuple[str, ...], random: Callable[[int], bytes]) -> tuple[bytes, bytes]:
        if self.recipient == "server":
            return b"", b""
        pair = KeyPair.generate(random)
        return pair.secret, pair.public

    def owner(self, binding: StepBinding, contribution: Contribution, random: Callable[[int], bytes]) -> Session:
        ring = _ring(binding.cut)
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
        return _session(binding, (binding.server,), party.start())

    def server(self, binding: StepBinding) -> Session:
        party = Server(
            name=binding.server,
            analyst=binding.analyst,
            participants=binding.participants,
            threshold=self.trust(binding.owners).threshold,
            context=binding.step,
            ring=_ring(binding.cut),
            length=binding.cut.size,
            addition=binding.addition,
        )
        return _session(binding, (*binding.participants, binding.analyst), party.start())

    def compute(self, binding: StepBinding, custody: Custody, random: Random) -> Session:
        raise no_compute_servers(self.name)

    def analyst(self, binding: StepBinding, secret: bytes) -> Session:
        party = AwaitResult(
            server=binding.server,
            participants=binding.participants,
            threshold=self.trust(binding.owners).threshold,
            ring=_ring(binding.cut),
            lower=binding.cut.lower,
            pair=KeyPair.from_secret(secret) if secret else None,
        )
        return _session(binding, (binding.server,), party.start())


def _ring(cut: Cut) -> Ring:
    return Ring(ring_bits(cut.bits))


def _session(binding: StepBinding, tell: tuple[str, ...], first: Turn) -> Session:
    return Session(Binding(binding.identity, binding.roster, binding.root, binding.step, (*paper.ROUNDS, paper.RESULT), tell), first)
