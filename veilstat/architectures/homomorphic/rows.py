"""Encrypted rows: owners encrypt their rows once under a key that nobody holds whole, the cloud answers queries on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from veilstat.architectures.interface import (
    Contribution,
    Custody,
    EpochBinding,
    Random,
    Released,
    RoundCost,
    StepBinding,
    StepCost,
    Trust,
    no_compute_servers,
)
from veilstat.architectures.relay import RESULT, AwaitTotal, total_size
from veilstat.arithmetic.agreement import PUBLIC_KEY_BYTES, KeyPair
from veilstat.errors import CapabilityError
from veilstat.language.cut import Cut, Entry, Facts
from veilstat.protocol.context import DIGEST_BYTES, digest
from veilstat.protocol.session import Binding, Session, Turn
from veilstat.schema.columns import Codes
from veilstat.schema.schema import Schema

from . import row_query
from .bgv import Bgv
from .epoch import ROUNDS, Terms
from .epoch_owner import EncryptingOwner
from .epoch_server import KeepingCloud
from .mouchet21 import parts_size
from .quadratic import opened, supports_rows
from .ring import cyclotomic_ring
from .row_answers import Evaluation, Kept
from .row_layout import choose_layout
from .row_owner import DecryptingOwner
from .row_parameters import RowParameters
from .row_query import RowQuery
from .row_server import AnsweringCloud, release, result_bytes


@dataclass(frozen=True, slots=True)
class EncryptedRows:
    """``Homomorphic(entry="rows")`` in one study.

    Args:
        described: the configuration, as ``Homomorphic.describe`` gives it. trusted: whom it trusts, besides parameters.
        schema, owners: of the study. parameters: what its totals need.
    """

    described: Mapping[str, str | int]
    trusted: Trust
    schema: Schema
    owners: tuple[str, ...]
    parameters: RowParameters

    @property
    def scheme(self) -> Bgv:
        """BGV with the study's parameters."""
        return Bgv(cyclotomic_ring(self.parameters.degree, self.parameters.primes), self.parameters.plaintext_bits)

    @property
    def name(self) -> str:
        return "homomorphic"

    @property
    def entry(self) -> Entry:
        return Entry.ROWS

    @property
    def rounds(self) -> tuple[str, ...]:
        return row_query.ROUNDS

    @property
    def input_round(self) -> str:
        return row_query.DECRYPT

    def supports(self, facts: Facts) -> bool:
        return supports_rows(facts)

    def trust(self, owners: tuple[str, ...]) -> Trust:
        return replace(self.trusted, words=(*self.trusted.words, *self.parameters.words, self._epoch_words))

    def describe(self) -> Mapping[str, str | int]:
        return self.described

    def cost(self, cut: Cut, owners: tuple[str, ...], analyst: str) -> StepCost:
        """Payload sizes; CapabilityError where one product of ciphertexts does not reach what is opened."""
        count, parameters = len(opened(cut, self.schema, self.parameters)), self.parameters
        if count > parameters.degree:
            raise CapabilityError(
                f"a step opens {count:,} numbers, at most {parameters.degree:,} are possible; ask for fewer", code="too_many_openings"
            )
        answers, share = row_query.answers_bytes(parameters, count), row_query.share_bytes(parameters, count)
        zeros = DIGEST_BYTES + parts_size(owners, parameters.ciphertext_bytes)
        rounds = (
            RoundCost(row_query.COMMIT_ZERO, row_query.COMMITMENT_BYTES, 0),
            RoundCost(row_query.REVEAL_ZERO, parameters.ciphertext_bytes, parts_size(owners, row_query.COMMITMENT_BYTES)),
            RoundCost(row_query.DECRYPT, share, zeros),
        )
        receives = total_size(owners, answers + parts_size(owners, share))
        return StepCost(dict.fromkeys(owners, rounds), PUBLIC_KEY_BYTES, receives, lambda: (parameters.passage,))

    def multiples(self, cut: Cut) -> tuple[int, ...]:
        """What the weights of each opened number have in common."""
        return tuple(number.content for number in opened(cut, self.schema, self.parameters))

    def compute_servers(self, owners: tuple[str, ...]) -> tuple[str, ...]:
        return ()

    def announce(self, cut: Cut, owners: tuple[str, ...], random: Random) -> tuple[bytes, bytes]:
        pair = KeyPair.generate(random)
        return pair.secret, pair.public

    def owner(self, binding: StepBinding, contribution: Contribution, random: Random) -> Session:
        query, kept = self._bound(binding), _require(binding.kept)
        if kept.secret is None:
            raise _no_epoch()
        evaluation = self.evaluation(kept)
        secret = self.scheme.ring.from_integers(kept.secret.astype(np.int64))
        answers = tuple(query.answers(evaluation))
        party = DecryptingOwner(
            binding.identity, query, evaluation, answers, secret, binding.key, random, contribution.authorise, contribution.noise
        )
        return _session(binding, (binding.server,), party.start())

    def server(self, binding: StepBinding) -> Session:
        query, evaluation = self._bound(binding), self.evaluation(_require(binding.kept))
        party = AnsweringCloud(query, evaluation, tuple(query.answers(evaluation)))
        return _session(binding, (*binding.participants, binding.analyst), party.start())

    def compute(self, binding: StepBinding, custody: Custody, random: Random) -> Session:
        raise no_compute_servers(self.name)

    def analyst(self, binding: StepBinding, secret: bytes) -> Session:
        query, pair = self._bound(binding), KeyPair.from_secret(secret)

        def released(survivors: tuple[str, ...], raw: memoryview) -> Released:
            return release(query, self.scheme, pair, survivors, raw)

        return _session(
            binding, (binding.server,), Turn((), AwaitTotal(binding.server, binding.participants, result_bytes(query), released))
        )

    def epoch_owner(self, binding: EpochBinding, columns: Mapping[str, Codes], count: int, rows: int, random: Random) -> Session:
        """An owner's side of an epoch: ``count`` rows, of which ``rows`` are declared. It ends with what the owner keeps."""
        party = EncryptingOwner(binding.identity, binding.server, self._terms(binding), columns, count, rows, random, binding.keep)
        return _epoch_session(binding, (binding.server,), party.start())

    def epoch_server(self, binding: EpochBinding) -> Session:
        """The cloud's side. It ends with what the cloud keeps."""
        party = KeepingCloud(self._terms(binding), binding.everyone, binding.keep)
        return _epoch_session(binding, self.owners, party.start())

    def epoch_bytes(self, rows: int, incomplete: frozenset[str] = frozenset()) -> tuple[int, int]:
        """What an owner of ``rows`` rows sends in an epoch: shares of keys, and ciphertexts, where nobody has more rows."""
        layout, parameters = choose_layout(self.schema, incomplete, rows, self.parameters.degree), self.parameters
        return (1 + 3 * parameters.primes) * parameters.share_bytes, layout.blocks(rows) * layout.groups * parameters.ciphertext_bytes

    @property
    def _epoch_words(self) -> str:
        keys, ciphertexts = (count / 2**20 for count in self.epoch_bytes(self.schema.max_rows))
        return (
            f"once, each owner sends {keys:.1f} MiB of key shares and, for {self.schema.max_rows:,} rows without missing values, {ciphertexts:.1f} MiB "
            "of ciphertexts, and receives and keeps those of all owners"
        )

    def evaluation(self, kept: Kept) -> Evaluation:
        """Products over what was uploaded."""
        layout = choose_layout(self.schema, frozenset(kept.record.incomplete), max(kept.record.rows.values()), self.parameters.degree)
        return Evaluation(self.scheme, layout, kept.record)

    def _terms(self, binding: EpochBinding) -> Terms:
        return Terms(binding.root, self.owners, binding.roster, self.schema, self.parameters, self.scheme)

    def _bound(self, binding: StepBinding) -> RowQuery:
        numbers = opened(binding.cut, self.schema, self.parameters)
        return RowQuery(binding.step, self.owners, binding.roster, binding.server, binding.analyst, self.parameters, numbers)


def _require(kept: Any) -> Kept:
    if not isinstance(kept, Kept):
        raise _no_epoch()
    return kept


def _no_epoch() -> CapabilityError:
    return CapabilityError(
        "rows are not encrypted under a key that everybody still holds; all data owners must share them again (`study.upload`, or "
        "`veilstat rows share` in a deployment)",
        code="no_epoch",
    )


def _session(binding: StepBinding, tell: tuple[str, ...], first: Turn) -> Session:
    return Session(Binding(binding.identity, binding.roster, binding.root, binding.step, (*row_query.ROUNDS, RESULT), tell), first)


def _epoch_session(binding: EpochBinding, tell: tuple[str, ...], first: Turn) -> Session:
    return Session(
        Binding(binding.identity, binding.roster, binding.root, digest("veilstat/epoch/step/1", binding.root), ROUNDS, tell), first
    )
