"""The homomorphic architecture: what one untrusted cloud adds unread, whom it trusts, what it costs, and its sessions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from veilstat.architectures.interface import (
    Architecture,
    Contribution,
    Random,
    StepBinding,
    StepCost,
    Trust,
)
from veilstat.architectures.relay import RESULT, AwaitTotal
from veilstat.architectures.threshold import Threshold, require_curious
from veilstat.architectures.totals import owner_totals
from veilstat.errors import CapabilityError
from veilstat.language.cut import Cut, Entry, Facts
from veilstat.protocol.session import Session, Turn
from veilstat.schema.schema import Schema

from .rows import query
from .rows.architecture import EncryptedRows
from .rows.parameters import choose_row_parameters
from .rows.quadratic import supports_rows
from .security import LEAST_SMUDGING
from .totals import mouchet21, mouchet22
from .totals.bfv import Bfv, scheme
from .totals.mouchet21_analyst import announce, recipient, release
from .totals.mouchet21_owner import Owner
from .totals.mouchet21_server import Server
from .totals.mouchet22_owner import DealingOwner
from .totals.mouchet22_server import DealingServer
from .totals.parameters import Parameters, choose_parameters
from .trust import trust_in_all, trust_in_some, trust_with_rows


@dataclass(frozen=True, slots=True)
class Homomorphic(Architecture):
    """Data owners encrypt their totals under a key that nobody holds whole; an untrusted cloud adds the ciphertexts.

    Args:
        colluding: how many owners may pool what they know with the cloud and with the analyst; min(1, owners - 2) by
            default. The threshold follows: max(colluding + 2, min_owners); with entry="rows" all are needed.
        entry: "totals": what leaves an owner are encrypted totals over its rows. "rows": encrypted rows, once for many queries.
        smudging_bits: lambda, 40 or more: what a decryption tells about the keys is hidden within 2^-smudging_bits.
        min_owners: the fewest owners whose total may be opened.
        threshold: how many owners decrypt, and at least contribute: all who made the key by default; with t of n the shares
            of the key are dealt among all, so that owners may be lost until the t are fixed.
        threat: "curious": everybody follows the protocol and tries to learn from what it sees.
    """

    colluding: int | None = None
    entry: Entry = Entry.TOTALS
    smudging_bits: int = 64
    min_owners: int | None = None
    threshold: int | None = None
    threat: str = "curious"

    name: ClassVar[str] = "homomorphic"

    def __post_init__(self) -> None:
        require_curious(self.threat, "homomorphic encryption against parties that deviate")
        if self.entry not in tuple(Entry):
            raise CapabilityError(f"entry must be 'totals' or 'rows', not {self.entry!r}", code="bad_configuration")
        object.__setattr__(self, "entry", Entry(self.entry))
        if self.entry is Entry.ROWS and self.threshold is not None:
            raise CapabilityError(
                "encrypted rows (entry='rows') are decrypted by all owners; leave threshold out", code="bad_configuration"
            )
        if type(self.smudging_bits) is not int or self.smudging_bits < LEAST_SMUDGING:
            raise CapabilityError(
                f"smudging_bits is a whole number, {LEAST_SMUDGING} or more, not {self.smudging_bits!r}: with fewer, decryptions tell about the keys",
                code="bad_configuration",
            )

    @property
    def rounds(self) -> tuple[str, ...]:
        if self.entry is Entry.ROWS:
            return query.ROUNDS
        return mouchet21.ROUNDS if self.threshold is None else mouchet22.ROUNDS

    @property
    def input_round(self) -> str:
        return query.DECRYPT if self.entry is Entry.ROWS else mouchet21.INPUT

    def supports(self, facts: Facts) -> bool:
        """Ciphertexts of totals are added, and nothing else; those of rows are multiplied once."""
        return supports_rows(facts) if self.entry is Entry.ROWS else facts.is_linear

    def trust(self, owners: tuple[str, ...]) -> Trust:
        """The computed threshold; CapabilityError where it cannot be reached."""
        threshold = Threshold.of(len(owners), self.colluding, self.min_owners)
        if self.entry is Entry.ROWS:
            return trust_with_rows(threshold)
        return trust_in_all(threshold) if self.threshold is None else trust_in_some(self.threshold, threshold)

    def cost(self, cut: Cut, owners: tuple[str, ...]) -> StepCost:
        parameters = self._parameters(cut, owners)
        share, vector = parameters.share_bytes, parameters.vector_bytes
        if self.threshold is None:
            by_owner = dict.fromkeys(owners, mouchet21.round_costs(owners, share, vector))
        else:
            decrypting = sorted(owners)[: self.threshold]
            by_owner = {owner: mouchet22.round_costs(owner, owners, decrypting, share, vector) for owner in owners}
        return StepCost(by_owner, mouchet21.SEED_BYTES + share, lambda: parameters.words)

    def describe(self) -> Mapping[str, str | int]:
        return {
            "name": self.name,
            "colluding": -1 if self.colluding is None else self.colluding,
            "entry": self.entry.value,
            "smudging_bits": self.smudging_bits,
            "min_owners": self.min_owners or 0,
            "threshold": self.threshold or 0,
            "threat": self.threat,
        }

    def announce(self, cut: Cut, owners: tuple[str, ...], random: Random) -> tuple[bytes, bytes]:
        return announce(self._scheme(cut, owners), random)

    def owner(self, binding: StepBinding, contribution: Contribution, random: Random) -> Session:
        its = self._scheme(binding.cut, binding.owners)
        kind = Owner if self.threshold is None else DealingOwner
        party = kind(
            identity=binding.identity,
            roster=binding.roster,
            server=binding.server,
            participants=binding.participants,
            threshold=self.trust(binding.owners).threshold,
            context=binding.step,
            scheme=its,
            vector=owner_totals(binding, contribution, binding.cut),
            recipient=recipient(its, binding.key, binding.analyst),
            random=random,
            authorise=contribution.authorise,
        )
        return binding.session((*self.rounds, RESULT), party.start())

    def server(self, binding: StepBinding) -> Session:
        kind = Server if self.threshold is None else DealingServer
        party = kind(
            analyst=binding.analyst,
            roster=binding.roster,
            participants=binding.participants,
            threshold=self.trust(binding.owners).threshold,
            context=binding.step,
            scheme=self._scheme(binding.cut, binding.owners),
        )
        return binding.session((*self.rounds, RESULT), party.start())

    def analyst(self, binding: StepBinding, secret: bytes) -> Session:
        its, server = self._scheme(binding.cut, binding.owners), binding.server
        opening = partial(release, its, secret, binding.cut.lower, self.trust(binding.owners).threshold, server)
        waiting = AwaitTotal(server, binding.participants, its.parameters.vector_bytes, opening)
        return binding.session((*self.rounds, RESULT), Turn((), waiting))

    def fitted(self, schema: Schema, owners: tuple[str, ...]) -> Architecture:
        """The architecture in a study: encrypted rows have parameters that follow from its schema.

        Raises:
            CapabilityError: the study's totals are too wide for any parameters at 128-bit security.
        """
        if self.entry is Entry.TOTALS:
            return self
        largest = max(column.top for column in schema)
        parameters = choose_row_parameters(largest, len(owners) * schema.max_rows, len(owners), self.smudging_bits)
        return EncryptedRows(self.describe(), self.trust(owners), schema, owners, parameters)

    def _parameters(self, cut: Cut, owners: tuple[str, ...]) -> Parameters:
        if self.entry is Entry.ROWS:
            raise CapabilityError(
                "parameters of encrypted rows follow from a study's schema; ask fitted(schema, owners) for them first", code="not_fitted"
            )
        return choose_parameters(cut.bits, cut.size, len(owners), self.smudging_bits)

    def _scheme(self, cut: Cut, owners: tuple[str, ...]) -> Bfv:
        return scheme(self._parameters(cut, owners))
