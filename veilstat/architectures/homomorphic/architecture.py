"""The homomorphic architecture: what one untrusted cloud adds unread, whom it trusts, what it costs, and its sessions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from veilstat.architectures.interface import (
    Architecture,
    Contribution,
    Custody,
    Random,
    Released,
    StepBinding,
    StepCost,
    Trust,
    no_compute_servers,
)
from veilstat.architectures.relay import RESULT, AwaitTotal, total_size
from veilstat.architectures.threshold import curious_threshold, default_colluding
from veilstat.architectures.totals import owner_totals
from veilstat.errors import CapabilityError
from veilstat.language.cut import Cut, Entry, Facts
from veilstat.language.disclosure import NoiseSite, NoiseSource
from veilstat.protocol.faults import ProtocolError, violation
from veilstat.protocol.session import Binding, Session, Turn
from veilstat.schema.schema import Schema

from . import mouchet21 as paper
from . import mouchet22, row_query
from .bfv import Scheme, scheme
from .mouchet21_owner import Owner
from .mouchet21_server import Server
from .mouchet22_owner import DealingOwner
from .mouchet22_server import DealingServer
from .parameters import LEAST_SMUDGING, Parameters, choose_parameters
from .quadratic import supports_rows
from .ring import Residues
from .row_parameters import choose_row_parameters
from .rows import EncryptedRows

_KEY_WORDS = (
    "one untrusted cloud adds ciphertexts; the secret key is made afresh for every opening, each owner holds a share, nobody holds it whole"
)
_UNDEFENDED_WORDS = (
    "not defended: an owner that encrypts or decrypts otherwise than the protocol says, and owners that lie about their own data"
)


@dataclass(frozen=True, slots=True)
class Homomorphic:
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

    def __post_init__(self) -> None:
        if self.threat == "active":
            raise CapabilityError(
                "homomorphic encryption against parties that deviate (threat='active') is not available yet; use threat='curious'",
                code="not_available",
            )
        if self.threat != "curious":
            raise CapabilityError(f"threat must be 'curious' or 'active', not {self.threat!r}", code="bad_configuration")
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
    def name(self) -> str:
        return "homomorphic"

    @property
    def rounds(self) -> tuple[str, ...]:
        if self.entry is Entry.ROWS:
            return row_query.ROUNDS
        return paper.ROUNDS if self.threshold is None else mouchet22.ROUNDS

    @property
    def input_round(self) -> str:
        return row_query.DECRYPT if self.entry is Entry.ROWS else paper.INPUT

    def supports(self, facts: Facts) -> bool:
        """Ciphertexts of totals are added, and nothing else; those of rows are multiplied once."""
        return supports_rows(facts) if self.entry is Entry.ROWS else facts.is_linear and facts.scale is not None

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

    def trust(self, owners: tuple[str, ...]) -> Trust:
        """The computed threshold; CapabilityError where it cannot be reached."""
        count = len(owners)
        colluding = default_colluding(count) if self.colluding is None else self.colluding
        threshold = curious_threshold(count, colluding, self.min_owners)
        if self.entry is Entry.ROWS:
            return _trust_with_rows(count, colluding)
        formula = f"max(colluding + 2, min_owners) = max({colluding} + 2, {self.min_owners or 0})"
        if self.threshold is not None:
            return _trust_in_some(self.threshold, threshold, count, colluding, formula)
        lost = count - threshold
        words = (
            _KEY_WORDS,
            _pooling_words(count, colluding),
            f"threshold {threshold} = {formula}: "
            + (f"up to {lost} owner{'s' * (lost != 1)} may drop out" if lost else "no owner may drop out")
            + " until the shares of the key are revealed; from then on the loss of any owner ends the query",
            _UNDEFENDED_WORDS,
        )
        noise = NoiseSource(NoiseSite.OWNERS, count, threshold - colluding)
        return Trust(threshold, colluding, words, ("analyst",), all_needed_from=paper.INPUT, noise=noise)

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

    def cost(self, cut: Cut, owners: tuple[str, ...], analyst: str) -> StepCost:
        parameters = self._parameters(cut, owners)
        share, vector = parameters.share_bytes, parameters.vector_bytes
        if self.threshold is None:
            by_owner = dict.fromkeys(owners, paper.round_costs(owners, share, vector))
        else:
            decrypting = sorted(owners)[: self.threshold]
            by_owner = {owner: mouchet22.round_costs(owner, owners, decrypting, share, vector) for owner in owners}
        return StepCost(by_owner, paper.SEED_BYTES + share, total_size(owners, vector), passage=lambda: parameters.words)

    def compute_servers(self, owners: tuple[str, ...]) -> tuple[str, ...]:
        return ()

    def announce(self, cut: Cut, owners: tuple[str, ...], random: Random) -> tuple[bytes, bytes]:
        its = self._scheme(cut, owners)
        coefficients, seed = its.secret(random), random(paper.SEED_BYTES)
        secret = its.ring.from_integers(coefficients)
        share = its.public_share(its.ring.uniform(paper.analyst_label(seed)), secret, random)
        return coefficients.astype(np.int8).tobytes(), seed + its.ring.to_bytes(share)

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
            recipient=_recipient(its, binding),
            random=random,
            authorise=contribution.authorise,
        )
        return self._session(binding, (binding.server,), party.start())

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
        return self._session(binding, (*binding.participants, binding.analyst), party.start())

    def compute(self, binding: StepBinding, custody: Custody, random: Random) -> Session:
        raise no_compute_servers(self.name)

    def analyst(self, binding: StepBinding, secret: bytes) -> Session:
        its, server = self._scheme(binding.cut, binding.owners), binding.server
        threshold, size = self.trust(binding.owners).threshold, its.parameters.vector_bytes

        def release(survivors: tuple[str, ...], raw: memoryview) -> Released:
            if len(survivors) < threshold:
                raise violation("malformed", f"{server!r} sent a total over fewer than {threshold} owners", server)
            key = its.ring.from_integers(np.frombuffer(secret, dtype=np.int8).astype(np.int64))
            ciphertexts = paper.read_ciphertexts(its.ring, raw, size, server)
            try:
                return Released(its.decrypt_total(ciphertexts, key, binding.cut.lower), survivors)
            except ValueError:
                raise undecryptable() from None

        return self._session(binding, (server,), Turn((), AwaitTotal(server, binding.participants, size, release)))

    def _session(self, binding: StepBinding, tell: tuple[str, ...], first: Turn) -> Session:
        return Session(Binding(binding.identity, binding.roster, binding.root, binding.step, (*self.rounds, RESULT), tell), first)

    def _parameters(self, cut: Cut, owners: tuple[str, ...]) -> Parameters:
        if self.entry is Entry.ROWS:
            raise CapabilityError(
                "parameters of encrypted rows follow from a study's schema; ask fitted(schema, owners) for them first", code="not_fitted"
            )
        return choose_parameters(cut.bits, cut.size, len(owners), self.smudging_bits)

    def _scheme(self, cut: Cut, owners: tuple[str, ...]) -> Scheme:
        return scheme(self._parameters(cut, owners))


def _trust_with_rows(count: int, colluding: int) -> Trust:
    words = (
        "one untrusted cloud keeps ciphertexts of all rows and multiplies them; the secret key is made once for many queries, each owner holds a "
        "share, nobody holds it whole",
        f"the cloud, the analyst and up to {colluding} of the {count} data owners may pool what they see, as long as they follow the protocol",
        f"all {count} data owners are needed for every answer: each computes it again from what everybody uploaded, and decrypts nothing else",
        "everybody learns how many rows each owner has, rounded up by at most an eighth, and in which of its columns values are missing",
        _UNDEFENDED_WORDS,
    )
    noise = NoiseSource(NoiseSite.OWNERS, count, count - colluding)
    return Trust(count, colluding, words, ("analyst",), all_needed_from=row_query.COMMIT_ZERO, noise=noise)


def _recipient(its: Scheme, binding: StepBinding) -> Residues:
    """The analyst's public key (b, a), as announced."""
    seed, raw = binding.key[: paper.SEED_BYTES], memoryview(binding.key)[paper.SEED_BYTES :]
    share = paper.read_share(its.ring, raw, binding.analyst)
    return np.stack([share, its.ring.uniform(paper.analyst_label(seed))])


def _trust_in_some(decrypting: int, least: int, count: int, colluding: int, formula: str) -> Trust:
    """Where any ``decrypting`` of ``count`` owners decrypt; CapabilityError for fewer than ``least``, or more than there are."""
    if type(decrypting) is not int or not least <= decrypting <= count:
        raise CapabilityError(
            f"threshold={decrypting!r} of {count} data owners is not possible: a whole number from {formula} = {least}, "
            f"which keeps two honest owners in every decryption, to {count}",
            code="threshold_unreachable",
        )
    words = (
        _KEY_WORDS,
        _pooling_words(count, colluding),
        f"any {decrypting} of the {count} data owners together can decrypt (at least {least} = {formula}): others may drop out "
        f"until the {decrypting} who decrypt are fixed, and what they had encrypted stays in the sum; from then on the loss of one of these ends the query",
        _UNDEFENDED_WORDS,
    )
    return Trust(decrypting, colluding, words, ("analyst",), all_needed_from=mouchet22.AGREE)


def _pooling_words(count: int, colluding: int) -> str:
    return f"the cloud and up to {colluding} of the {count} data owners may pool what they see, as long as they follow the protocol"


def undecryptable() -> ProtocolError:
    """Somebody's share of the key, or of the decryption, was not what the protocol says; a sum does not tell whose."""
    return violation(
        "not_decrypted",
        "what the cloud sent does not decrypt: a party's share of the key or of the decryption is wrong, and a sum does not tell whose; "
        "nothing was opened, and a new query starts with new keys",
    )
