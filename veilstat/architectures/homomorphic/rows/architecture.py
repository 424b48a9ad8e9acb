"""Encrypted rows: owners encrypt their rows once under a key that nobody holds whole, the cloud answers queries on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from veilstat.architectures.interface import (
    Architecture,
    Contribution,
    EpochBinding,
    Random,
    StepBinding,
    StepCost,
    Trust,
)
from veilstat.architectures.relay import RESULT, AwaitTotal
from veilstat.arithmetic.agreement import PUBLIC_KEY_BYTES, KeyPair
from veilstat.arithmetic.executor import SERIAL, Executor
from veilstat.errors import CapabilityError
from veilstat.language.cut import Cut, Entry, Facts
from veilstat.protocol.context import digest
from veilstat.protocol.session import Binding, Session, Turn
from veilstat.schema.columns import Codes
from veilstat.schema.schema import Schema

from ..ring import cyclotomic_ring
from .answers import Evaluation, Kept
from .bgv import Bgv
from .epoch import ROUNDS as EPOCH_ROUNDS
from .epoch import Terms
from .epoch_owner import EncryptingOwner
from .epoch_server import KeepingServer
from .layout import choose_layout
from .parameters import RowParameters
from .quadratic import opened, supports_rows
from .query import DECRYPT, RowQuery, round_costs
from .query import ROUNDS as QUERY_ROUNDS
from .query_analyst import release, result_bytes
from .query_owner import DecryptingOwner
from .query_server import AnsweringServer

_ROUNDS = (*QUERY_ROUNDS, RESULT)


@dataclass(frozen=True, slots=True)
class EncryptedRows(Architecture):
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

    name: ClassVar[str] = "homomorphic"
    entry: ClassVar[Entry] = Entry.ROWS
    rounds: ClassVar[tuple[str, ...]] = QUERY_ROUNDS
    input_round: ClassVar[str] = DECRYPT

    @property
    def scheme(self) -> Bgv:
        """BGV with the study's parameters."""
        return Bgv(cyclotomic_ring(self.parameters.degree, self.parameters.primes), self.parameters.plaintext_bits)

    def supports(self, facts: Facts) -> bool:
        return supports_rows(facts)

    def trust(self, owners: tuple[str, ...]) -> Trust:
        return replace(self.trusted, words=(*self.trusted.words, *self.parameters.words, self._epoch_words))

    def cost(self, cut: Cut, owners: tuple[str, ...]) -> StepCost:
        """Payload sizes; CapabilityError where one product of ciphertexts does not reach what is opened."""
        count, parameters = len(opened(cut, self.schema, self.parameters)), self.parameters
        if count > parameters.degree:
            raise CapabilityError(
                f"a step opens {count:,} numbers, at most {parameters.degree:,} are possible; ask for fewer", code="too_many_openings"
            )
        by_owner = dict.fromkeys(owners, round_costs(parameters, owners, count))
        return StepCost(by_owner, PUBLIC_KEY_BYTES, lambda: (parameters.passage,))

    def describe(self) -> Mapping[str, str | int]:
        return self.described

    def announce(self, cut: Cut, owners: tuple[str, ...], random: Random) -> tuple[bytes, bytes]:
        pair = KeyPair.generate(random)
        return pair.secret, pair.public

    def owner(self, binding: StepBinding, contribution: Contribution, random: Random) -> Session:
        query, kept = self._bound(binding), _require(binding.kept)
        if kept.secret is None:
            raise _no_epoch()
        evaluation = self.evaluation(kept, binding.executor)
        party = DecryptingOwner(
            identity=binding.identity,
            query=query,
            evaluation=evaluation,
            answers=query.answers(evaluation),
            secret=self.scheme.ring.from_integers(kept.secret.astype(np.int64)),
            recipient=binding.key,
            random=random,
            authorise=contribution.authorise,
            noise=contribution.noise,
        )
        return binding.session(_ROUNDS, party.start())

    def server(self, binding: StepBinding) -> Session:
        query, evaluation = self._bound(binding), self.evaluation(_require(binding.kept), binding.executor)
        party = AnsweringServer(query, evaluation, query.answers(evaluation))
        return binding.session(_ROUNDS, party.start())

    def analyst(self, binding: StepBinding, secret: bytes) -> Session:
        query = self._bound(binding)
        opening = partial(release, query, self.scheme, KeyPair.from_secret(secret))
        return binding.session(_ROUNDS, Turn((), AwaitTotal(binding.server, binding.participants, result_bytes(query), opening)))

    def multiples(self, cut: Cut) -> tuple[int, ...]:
        """What the weights of each opened number have in common."""
        return tuple(number.content for number in opened(cut, self.schema, self.parameters))

    def epoch_owner(self, binding: EpochBinding, columns: Mapping[str, Codes], count: int, rows: int, random: Random) -> Session:
        """An owner's side of an epoch: ``count`` rows, of which ``rows`` are declared. It ends with what the owner keeps."""
        party = EncryptingOwner(binding.identity, binding.server, self._terms(binding), columns, count, rows, random, binding.keep)
        return _epoch_session(binding, (binding.server,), party.start())

    def epoch_server(self, binding: EpochBinding) -> Session:
        """The cloud's side. It ends with what the cloud keeps."""
        party = KeepingServer(self._terms(binding), binding.everyone, binding.keep)
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

    def evaluation(self, kept: Kept, executor: Executor = SERIAL) -> Evaluation:
        """Products over what was uploaded, shared out by an executor."""
        layout = choose_layout(self.schema, frozenset(kept.record.incomplete), max(kept.record.rows.values()), self.parameters.degree)
        return Evaluation(self.scheme, layout, kept.record, executor)

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


def _epoch_session(binding: EpochBinding, tell: tuple[str, ...], first: Turn) -> Session:
    return Session(
        Binding(binding.identity, binding.roster, binding.root, digest("veilstat/epoch/step/1", binding.root), EPOCH_ROUNDS, tell), first
    )
