"""Encrypted rows: CPU time, bytes and memory of an epoch and of a query, beside SEAL under a single key.

    OMP_NUM_THREADS=1 python -m benchmarks.homomorphic_rows        # 10 owners x 1,000 rows x 10 columns: all 55 products
    OMP_NUM_THREADS=1 python -m benchmarks.homomorphic_rows --embedded     # the same as a whole study
    OMP_NUM_THREADS=1 python -m benchmarks.homomorphic_rows --owners 5 --rows 40 --columns 20  # as for a regression

One thread. Rounds are fed directly, as a session feeds them; envelopes are not included. Beside them SEAL's own BFV does
the same operations under one known key: as many encryptions, products, relinearisations and decryptions, of one owner,
the cloud and the analyst. What is opened is checked against numpy. Records lie in memory here, one for all parties.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

import veilstat as vs
from benchmarks.measuring import Clock, heading, peak_memory, row
from veilstat.architectures.homomorphic.ring import seal
from veilstat.architectures.homomorphic.rows.epoch import Terms
from veilstat.architectures.homomorphic.rows.epoch_owner import EncryptingOwner
from veilstat.architectures.homomorphic.rows.epoch_server import KeepingServer
from veilstat.architectures.homomorphic.rows.quadratic import opened, supports_rows
from veilstat.architectures.homomorphic.rows.query import RowQuery
from veilstat.architectures.homomorphic.rows.query_analyst import release
from veilstat.architectures.homomorphic.rows.query_owner import DecryptingOwner
from veilstat.architectures.homomorphic.rows.query_server import AnsweringServer
from veilstat.architectures.interface import no_noise
from veilstat.architectures.relay import RESULT
from veilstat.arithmetic.agreement import KeyPair
from veilstat.language.cut import Entry, cut
from veilstat.platform.table import Table
from veilstat.protocol.identity import Identity, Roster


class Exchange:
    """One session of owners and cloud: what each does is timed by round, what each sends is counted."""

    def __init__(self, clock: Clock, server: Any, owners: dict[str, Any]) -> None:
        self.clock, self.collecting = clock, server.following
        self.waiting: dict[str, Any] = {}
        self.sent: dict[str, bytes] = {}
        self.finished: dict[str, Any] = {}
        self.bytes_sent = self.bytes_received = 0
        for name, turn in owners.items():
            self._keep(name, turn)

    def _keep(self, name: str, turn: Any) -> None:
        self.sent[name] = turn.send[0].payload if turn.send else b""
        self.bytes_sent += len(self.sent[name])
        self.waiting[name], self.finished[name] = turn.following, turn.result

    def step(self) -> bytes:
        """One round; the last message of the cloud to the analyst, if it is that."""

        def collect() -> Any:
            for name in sorted(self.collecting.senders):
                self.collecting.take(name, memoryview(self.sent[name]))
            return self.collecting.close()

        turn = self.clock.time("cloud " + self.collecting.name, collect)
        self.collecting, self.result = turn.following, turn.result
        for message in turn.send:
            if message.round == RESULT:
                return bytes(message.payload)
            for name in self.waiting if message.recipient == "parties" else (message.recipient,):
                self.bytes_received += len(message.payload)
                its = self.waiting[name]
                its.take("server", memoryview(message.payload))
                self._keep(name, self.clock.time("owner " + message.round.partition("/")[0], its.close))
        return b""


@dataclass(frozen=True)
class Size:
    """How much is measured, of columns of numbers from 0 to 1,000."""

    owners: int
    rows: int
    columns: int
    smudging: int

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The owners'."""
        return tuple(f"owner{place:02}" for place in range(self.owners))

    @cached_property
    def schema(self) -> vs.Schema:
        """Of every owner's table."""
        return vs.Schema(*(vs.Integer(f"x{place:02}", lower=0, upper=1000) for place in range(self.columns)), max_rows=self.rows)

    @cached_property
    def column_names(self) -> list[str]:
        """All columns, in order."""
        return [column.name for column in self.schema]

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The same rows in every run."""
        draw = np.random.default_rng(1)
        return {name: pd.DataFrame(draw.integers(0, 1001, (self.rows, self.columns)), columns=self.column_names) for name in self.names}

    @cached_property
    def pooled(self) -> Any:
        """All rows, as numpy has them."""
        return np.concatenate([table.to_numpy() for table in self.tables.values()])


class Session:
    """Owners, cloud and analyst; all records lie in memory, one for all parties."""

    def __init__(self, size: Size) -> None:
        self.size, self.clock, self.records = size, Clock(), list[Any]()
        self.architecture = vs.Homomorphic(entry="rows", smudging_bits=size.smudging).fitted(size.schema, size.names)
        self.identities = {name: Identity.from_seed(name, os.urandom(32)) for name in (*size.names, "server", "analyst")}
        roles = {name: name if name in ("server", "analyst") else "owner" for name in self.identities}
        self.roster = Roster({name: its.public for name, its in self.identities.items()}, roles)

    def _keep(self, kept: Any) -> Any:
        self.records.append(self.records[0] if self.records else kept.record)
        return replace(kept, record=self.records[0])

    def epoch(self) -> Exchange:
        """Keys are made and tables encrypted; then what one encryption takes."""
        size, architecture = self.size, self.architecture
        terms = Terms(os.urandom(32), size.names, self.roster, size.schema, architecture.parameters, architecture.scheme)
        starts = {}
        for name in size.names:
            encoded = Table(name, size.tables[name], size.schema).rows(tuple(size.column_names))
            identity = self.identities[name]
            owner = EncryptingOwner(identity, "server", terms, encoded.columns, size.rows, size.rows, os.urandom, self._keep)
            starts[name] = self.clock.time("owner epoch_commit", owner.start)
        epoch = Exchange(self.clock, KeepingServer(terms, "parties", self._keep).start(), starts)
        while epoch.collecting is not None:
            epoch.step()
        key, message = architecture.scheme.ring.from_bytes(self.records[0].key), np.arange(architecture.parameters.degree)
        for _ in range(7):
            self.clock.time("encrypt", lambda: architecture.scheme.encrypt(key, message, os.urandom))
        return epoch

    def covariance(self, epoch: Exchange) -> tuple[Exchange, int]:
        """A covariance of all columns, checked; and how many products of ciphertexts an owner's rows take."""
        size, architecture = self.size, self.architecture
        [step] = vs.Covariance(size.column_names).steps(size.schema)
        numbers = opened(cut(step.trace(size.schema, size.owners), Entry.ROWS, supports_rows), size.schema, architecture.parameters)
        query = RowQuery(os.urandom(32), size.names, self.roster, "server", "analyst", architecture.parameters, numbers)
        pair, evaluation = KeyPair.generate(os.urandom), architecture.evaluation(epoch.result)
        answers, starts = tuple(query.answers(evaluation)), {}
        for name in size.names:
            secret = architecture.scheme.ring.from_integers(epoch.finished[name].secret.astype(np.int64))
            known = (query, evaluation, answers, secret, pair.public, os.urandom, lambda members: None, no_noise)
            starts[name] = self.clock.time("owner commit_zero", DecryptingOwner(self.identities[name], *known).start)
        exchange = Exchange(self.clock, AnsweringServer(query, evaluation, answers).start(), starts)
        result = [exchange.step() for _ in range(3)][-1]
        body = memoryview(result)[4 + int.from_bytes(result[:4], "little") :]
        found = self.clock.time("analyst", lambda: release(query, architecture.scheme, pair, size.names, body)).values
        expected = {len(size.pooled), *size.pooled.sum(axis=0).tolist(), *(size.pooled.T @ size.pooled).reshape(-1).tolist()}
        assert set(found.tolist()) == expected, "what was opened is not what numpy computes"
        return exchange, len({pair for answer in answers for pair, _, _ in answer.parts})


def single_key(architecture: Any, encryptions: int, products: int, pairs: int) -> dict[str, float]:
    """SEAL's BFV at the same degree and modulus, and its special prime: milliseconds of the same numbers of operations."""
    binding, clock, degree = seal(), Clock(), architecture.parameters.degree
    settings = binding.EncryptionParameters(binding.SCHEME_TYPE.BFV)
    settings.set_poly_modulus_degree(degree)
    settings.set_coeff_modulus(binding.CoeffModulus.Create(degree, [48] * (architecture.parameters.primes + 1)))
    settings.set_plain_modulus(binding.PlainModulus.Batching(degree, architecture.parameters.plaintext_bits))
    context = binding.SEALContext(settings, True, binding.SEC_LEVEL_TYPE.TC128)
    generator, public, relinearisation = binding.KeyGenerator(context), binding.PublicKey(), binding.RelinKeys()
    generator.create_public_key(public)
    generator.create_relin_keys(relinearisation)
    encoder, encryptor, evaluator = binding.BatchEncoder(context), binding.Encryptor(context, public), binding.Evaluator(context)
    decryptor, values = binding.Decryptor(context, generator.secret_key()), list(range(degree))
    plain, opened_plain = binding.Plaintext(), binding.Plaintext()
    first, second, product, total = (binding.Ciphertext() for _ in range(4))

    def encrypt() -> None:
        encoder.encode(values, plain)
        encryptor.encrypt(plain, first)

    def multiply() -> None:
        evaluator.multiply(first, second, product)
        evaluator.add_inplace(total, product)

    encryptor.encrypt_zero(second)
    encrypt()
    evaluator.multiply(first, second, total)
    for _ in range(7):
        clock.time("encrypt", encrypt)
        clock.time("multiply", multiply)
        evaluator.multiply(first, second, product)
        clock.time("relinearise", lambda: evaluator.relinearize_inplace(product, relinearisation))
        clock.time("decrypt", lambda: decryptor.decrypt(product, opened_plain))
    counts = {"encrypt": encryptions, "multiply": products, "relinearise": pairs, "decrypt": pairs}
    return {name: count * clock.milliseconds(name) for name, count in counts.items()}


def embedded(size: Size) -> None:
    """The same in an embedded study: sessions, signatures, and every party's own record on disk."""
    clock = Clock()
    study = clock.time("epoch", lambda: vs.simulate(size.tables, size.schema, vs.Homomorphic(entry="rows", smudging_bits=size.smudging)))
    result = clock.time("query", lambda: study.covariance(size.column_names))
    assert np.allclose(result.estimate, np.cov(size.pooled.T), rtol=1e-9)
    times = f"epoch {clock.milliseconds('epoch'):.0f} ms, query {clock.milliseconds('query'):.0f} ms of CPU"
    print(f"an embedded study, all {size.owners} owners, cloud and analyst: {times}")
    print(f"{result.cost.bytes_per_owner / 2**20:.1f} MiB per owner and query; peak memory {peak_memory() / 2**30:.2f} GiB")


def by_party(size: Size) -> None:
    """What every party spends, sends and receives, beside SEAL."""
    session = Session(size)
    epoch = session.epoch()
    exchange, pairs = session.covariance(epoch)
    clock, parameters = session.clock, session.architecture.parameters
    layout = session.architecture.evaluation(epoch.result).layout
    blocks = layout.blocks(size.rows)
    products, encryptions = size.owners * blocks * pairs, blocks * layout.groups
    alone = single_key(session.architecture, encryptions, products, pairs)
    keys, ciphertexts = session.architecture.epoch_bytes(size.rows)
    measured = epoch.bytes_sent / size.owners
    assert 0 <= measured - keys - ciphertexts < 1024, "the plan's bytes of an epoch are not those that were sent"

    def in_pieces(round_name: str) -> float:
        """Milliseconds of one owner, in a round that may bring its message in several pieces."""
        return 1e3 * sum(clock.spent[f"owner {round_name}"]) / size.owners

    lines = (
        ("owner: shares of keys", clock.milliseconds("owner epoch_commit", "owner epoch_reveal"), None),
        (f"owner: checks shares, encrypts {encryptions}", in_pieces("epoch_upload"), None),
        ("of that, encrypting", encryptions * clock.milliseconds("encrypt"), alone["encrypt"]),
        ("owner: checks and keeps all uploads", in_pieces("epoch_keep"), None),
        (
            f"cloud: {products} products, {pairs} relinearisations",
            clock.milliseconds("cloud reveal_zero"),
            alone["multiply"] + alone["relinearise"],
        ),
        ("owner: the same again, and its share", clock.milliseconds("owner commit_zero", "owner reveal_zero", "owner decrypt"), None),
        ("analyst", clock.milliseconds("analyst"), alone["decrypt"]),
    )
    print(
        f"{size.owners} owners x {size.rows:,} rows x {size.columns} columns; degree {parameters.degree:,}, {48 * parameters.primes} bits"
    )
    print(f"{encryptions} ciphertexts per owner, {products} products, {pairs} relinearisations; smudging {parameters.smudging_bits} bits\n")
    print(heading("CPU ms", "here", "SEAL, one key"))
    for name, here, there in lines:
        print(row(name, f"{here:.1f}", "" if there is None else f"{there:.0f}"))
    received = epoch.bytes_received / size.owners / 2**20, exchange.bytes_received / size.owners / 2**20
    print(f"\nan epoch: {measured / 2**20:.1f} MiB sent per owner, {received[0]:.1f} received")
    print(f"a query: {exchange.bytes_sent / size.owners / 2**20:.2f} MiB sent per owner, {received[1]:.1f} received")
    print(f"peak memory of this process, all parties: {peak_memory() / 2**30:.2f} GiB")


def main() -> None:
    """What the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--owners", type=int, default=10)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--smudging", type=int, default=64)
    parser.add_argument("--embedded", action="store_true", help="a whole embedded study instead")
    options = parser.parse_args()
    size = Size(options.owners, options.rows, options.columns, options.smudging)
    if options.embedded:
        embedded(size)
        return
    first = Session(Size(2, 3, 2, options.smudging))  # compiles what is compiled
    first.covariance(first.epoch())
    by_party(size)


if __name__ == "__main__":
    main()
