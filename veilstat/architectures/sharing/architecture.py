"""The sharing architecture: what compute servers protect, whom they must trust, what it costs, and the sessions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from veilstat.architectures.interface import (
    Architecture,
    Contribution,
    Custody,
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
from veilstat.errors import CapabilityError
from veilstat.language.circuit import Op
from veilstat.language.cut import Cut, Entry, Facts
from veilstat.protocol.session import Session, Turn

from .analyst import AwaitParts
from .circuit.analysis import supports
from .compute import ComputeServer
from .messages import ROUNDS, SHARE, round_costs
from .owner import Owner
from .rows.execute import supports_rows
from .schemes import Added, Scheme
from .sealed import Sealed, SealedRows
from .uploads import UPLOAD_BITS

OWNERS = "owners"
MOMENTS, ESTIMATE = "moments", "estimate"
MOST_SERVERS = 16


@dataclass(frozen=True, slots=True)
class Sharing(Architecture):
    """Data owners split their totals, or their rows, into shares for compute servers of different operators.

    Args:
        servers: how many compute servers, 2 to 16, or "owners": every data owner runs one.
        threat: "curious": servers follow the protocol and try to learn from what they see.
        open: "moments": servers add, and the totals are opened; "estimate": three servers compute on, and answers are opened.
        entry: "totals": what leaves an owner are shares of totals over its rows; "rows": shares of its rows, once for many
            queries, on three servers.
        colluding: how many owners may pool what they know with servers and with the analyst; min(1, owners - 2) by
            default. The threshold follows: max(colluding + 2, min_owners).
        min_owners: the fewest owners whose total may be opened.
    """

    servers: int | str = 3
    threat: str = "curious"
    open: str = "moments"
    entry: Entry = Entry.TOTALS
    colluding: int | None = None
    min_owners: int | None = None

    name: ClassVar[str] = "sharing"
    input_round: ClassVar[str] = SHARE

    def __post_init__(self) -> None:
        require_curious(self.threat, "sharing against servers that deviate")
        whole = isinstance(self.servers, int) and not isinstance(self.servers, bool)
        if self.servers != OWNERS and not (whole and 2 <= int(self.servers) <= MOST_SERVERS):
            raise CapabilityError(f"servers must be 2 to {MOST_SERVERS}, or 'owners', not {self.servers!r}", code="bad_configuration")
        if self.entry not in tuple(Entry):
            raise CapabilityError(f"entry must be 'totals' or 'rows', not {self.entry!r}", code="bad_configuration")
        if self.open not in (MOMENTS, ESTIMATE):
            raise CapabilityError(f"open must be 'moments' or 'estimate', not {self.open!r}", code="bad_configuration")
        object.__setattr__(self, "entry", Entry(self.entry))
        if self._multiplies and self.servers not in (3, OWNERS):
            raise CapabilityError(
                f"entry='rows' and open='estimate' need three compute servers, not {self.servers!r}", code="bad_configuration"
            )

    @property
    def _multiplies(self) -> bool:
        """Whether servers must do more than add, so that there must be three."""
        return self.entry is Entry.ROWS or self.open == ESTIMATE

    @property
    def rounds(self) -> tuple[str, ...]:
        return () if self.entry is Entry.ROWS else (SHARE,)

    def compute_servers(self, owners: tuple[str, ...]) -> tuple[str, ...]:
        if self.servers == OWNERS:
            return tuple(f"{owner}.compute" for owner in sorted(owners))
        return tuple(f"compute{place + 1:02d}" if int(self.servers) > 9 else f"compute{place + 1}" for place in range(int(self.servers)))

    def supports(self, facts: Facts) -> bool:
        """Servers that add protect what is linear; three that multiply protect arithmetic on rows, and on totals."""
        if self.entry is Entry.ROWS and (facts.rows or facts.op is Op.INNER):
            return supports_rows(facts, UPLOAD_BITS)
        if self.open == ESTIMATE:
            return supports(facts)
        return facts.is_linear

    def trust(self, owners: tuple[str, ...]) -> Trust:
        """The threshold of owners; CapabilityError where it cannot be reached."""
        servers = len(self.compute_servers(owners))
        threshold = Threshold.of(len(owners), self.colluding, self.min_owners)
        if self._multiplies and servers != 3:
            raise CapabilityError(
                f"entry='rows' and open='estimate' need three compute servers, and {servers} data owners would run {servers}",
                code="bad_configuration",
            )
        who = "each data owner runs one" if self.servers == OWNERS else "run by different operators"
        corrupt = "one of the servers" if self._multiplies else "all but one of the servers"
        words = (
            f"{servers} compute servers, {who}: {', '.join(self.compute_servers(owners))}",
            threshold.may_pool(corrupt),
            f"threshold {threshold.count} = {threshold.formula}: {threshold.may_drop_out}, and no compute server",
            "not defended: a server or owner that deviates from the protocol, and owners that lie about their own data",
        )
        if self.entry is Entry.ROWS:
            noise = NoiseSource(NoiseSite.SERVERS, servers, servers - 1)
        else:
            noise = NoiseSource(NoiseSite.OWNERS, len(owners), threshold.honest)
        computing = ("servers",) if self._multiplies else ()
        return Trust(threshold.count, threshold.colluding, words, ("analyst",), computing, noise=noise)

    def cost(self, cut: Cut, owners: tuple[str, ...]) -> StepCost:
        servers = self.compute_servers(owners)
        scheme = self._scheme(cut, len(servers))
        if self.entry is Entry.ROWS:
            return StepCost(dict.fromkeys(owners, ()), PUBLIC_KEY_BYTES, scheme.passage)
        payloads = [scheme.dealing.payload_bytes(place, scheme.inward.size) for place in range(len(servers))]
        by_owner = dict.fromkeys(owners, round_costs(servers, payloads))
        return StepCost(by_owner, PUBLIC_KEY_BYTES, scheme.passage)

    def describe(self) -> Mapping[str, str | int]:
        return {
            "name": self.name,
            "servers": self.servers,
            "threat": self.threat,
            "open": self.open,
            "entry": self.entry.value,
            "colluding": -1 if self.colluding is None else self.colluding,
            "min_owners": self.min_owners or 0,
        }

    def announce(self, cut: Cut, owners: tuple[str, ...], random: Random) -> tuple[bytes, bytes]:
        pair = KeyPair.generate(random)
        return pair.secret, pair.public

    def owner(self, binding: StepBinding, contribution: Contribution, random: Random) -> Session:
        scheme = self._scheme(binding.cut, len(binding.servers))
        party = Owner(
            name=binding.identity.name,
            roster=binding.roster,
            servers=binding.servers,
            participants=binding.participants,
            context=binding.step,
            dealing=scheme.dealing,
            vector=owner_totals(binding, contribution, scheme.inward),
            fewest=contribution.fewest,
            random=random,
        )
        return binding.session(ROUNDS, party.start())

    def server(self, binding: StepBinding) -> Session:
        return binding.session(ROUNDS, Turn((), None, binding.participants))

    def compute(self, binding: StepBinding, custody: Custody, random: Random) -> Session:
        scheme = self._scheme(binding.cut, len(binding.servers))
        party = ComputeServer(binding, scheme, self.trust(binding.owners).threshold, custody, random)
        return binding.session(ROUNDS, party.start_from_uploads() if self.entry is Entry.ROWS else party.start())

    def analyst(self, binding: StepBinding, secret: bytes) -> Session:
        scheme = self._scheme(binding.cut, len(binding.servers))
        waiting = AwaitParts(binding, KeyPair.from_secret(secret), self.trust(binding.owners).threshold, scheme)
        return binding.session(ROUNDS, Turn((), waiting))

    def _scheme(self, cut: Cut, servers: int) -> Scheme:
        if self.entry is Entry.ROWS:
            return SealedRows(cut)
        return Sealed(cut) if self.open == ESTIMATE else Added(cut, servers)
