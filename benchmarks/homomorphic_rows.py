"""Encrypted rows: CPU time, bytes and memory of an epoch and of a query, beside SEAL under a single key.

    python benchmarks/homomorphic_rows.py                          # 10 owners x 1,000 rows x 10 columns: all 55 products
    python benchmarks/homomorphic_rows.py --embedded               # the same as a whole study
    python benchmarks/homomorphic_rows.py --owners 5 --rows 40 --columns 20      # 200 rows x 20 columns, as for a regression

One thread. Rounds are fed directly, as a session feeds them; envelopes are not included. Beside them SEAL's own BFV does
the same operations under one known key: as many encryptions, products, relinearisations and decryptions, of one owner,
the cloud and the analyst. What is opened is checked against numpy. Records lie in memory here, one for all parties.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

import veilstat as vs
from veilstat.architectures.homomorphic.epoch import Terms
from veilstat.architectures.homomorphic.epoch_owner import EncryptingOwner
from veilstat.architectures.homomorphic.epoch_server import KeepingCloud
from veilstat.architectures.homomorphic.quadratic import opened, supports_rows
from veilstat.architectures.homomorphic.ring import seal
from veilstat.architectures.homomorphic.row_owner import DecryptingOwner
from veilstat.architectures.homomorphic.row_query import RowQuery
from veilstat.architectures.homomorphic.row_server import AnsweringCloud, release
from veilstat.architectures.relay import RESULT
from veilstat.arithmetic.agreement import KeyPair
from veilstat.language.cut import Entry, cut
from veilstat.platform.table import Table
from veilstat.protocol.identity import Identity, Roster


class Clock:
    """CPU seconds by name."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {}

    def time(self, name: str, call: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = call()
        self.spent.setdefault(name, []).append(time.process_time() - start)
        return result

    def each(self, name: str, parties: int) -> float:
        """Milliseconds of one of so many parties, in all pieces of a round."""
        return 1000 * sum(self.spent[name]) / parties

    def median(self, *names: str) -> float:
        """Milliseconds of one party in these rounds."""
        return 1000 * sum(statistics.median(self.spent[name]) for name in names)


class Exchange:
    """One session of owners and cloud: what each does is timed by round, what each sends is counted."""

    def __init__(self, clock: Clock, server: Any, owners: dict[str, Any]) -> None:
        self.clock, self.collecting, self.waiting, self.sent, self.finished = clock, server.following, {}, {}, {}
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


def run(owners: int, rows: int, columns: int, smudging: int) -> tuple[Clock, Any, Any, Exchange, Exchange, int]:
    """An epoch and a covariance of all columns."""
    clock, names = Clock(), tuple(f"owner{place:02}" for place in range(owners))
    schema = vs.Schema(*(vs.Integer(f"x{place:02}", lower=0, upper=1000) for place in range(columns)), max_rows=rows)
    architecture = clock.time("tables", lambda: vs.Homomorphic(entry="rows", smudging_bits=smudging).fitted(schema, names))
    clock.time("tables", lambda: architecture.scheme)
    identities = {name: Identity.from_seed(name, os.urandom(32)) for name in (*names, "server", "analyst")}
    roles = {name: name if name in ("server", "analyst") else "owner" for name in identities}
    roster = Roster({name: its.public for name, its in identities.items()}, roles)
    draw = np.random.default_rng(1)
    data = {name: draw.integers(0, 1001, (rows, columns)) for name in names}
    terms = Terms(os.urandom(32), names, roster, schema, architecture.parameters, architecture.scheme)
    records: list[Any] = []

    def keep(kept: Any) -> Any:
        records.append(records[0] if records else kept.record)
        return replace(kept, record=records[0])

    starts = {}
    for name in names:
        table = Table(name, pd.DataFrame(data[name], columns=[column.name for column in schema]), schema)
        encoded = table.rows(tuple(column.name for column in schema))
        owner = EncryptingOwner(identities[name], "server", terms, encoded.columns, rows, rows, os.urandom, keep)
        starts[name] = clock.time("owner epoch_commit", owner.start)
    epoch = Exchange(clock, KeepingCloud(terms, "parties", keep).start(), starts)
    while epoch.collecting is not None:
        epoch.step()

    key, message = architecture.scheme.ring.from_bytes(records[0].key), np.arange(architecture.parameters.degree)
    for _ in range(7):
        clock.time("encrypt", lambda: architecture.scheme.encrypt(key, message, os.urandom))

    [step] = vs.Covariance([column.name for column in schema]).steps(schema)
    chosen = cut(step.trace(schema, owners), Entry.ROWS, supports_rows)
    query = RowQuery(
        os.urandom(32), names, roster, "server", "analyst", architecture.parameters, opened(chosen, schema, architecture.parameters)
    )
    pair, evaluation = KeyPair.generate(os.urandom), architecture.evaluation(epoch.result)
    answers = tuple(query.answers(evaluation))
    starts = {}
    for name in names:
        secret = architecture.scheme.ring.from_integers(epoch.finished[name].secret.astype(np.int64))
        party = DecryptingOwner(identities[name], query, evaluation, answers, secret, pair.public, os.urandom, lambda members: None)
        starts[name] = clock.time("owner commit_zero", party.start)
    exchange = Exchange(clock, AnsweringCloud(query, evaluation, answers).start(), starts)
    result = [exchange.step() for _ in range(3)][-1]
    body = memoryview(result)[4 + int.from_bytes(result[:4], "little") :]
    found = clock.time("analyst", lambda: release(query, architecture.scheme, pair, names, body)).values
    pooled = np.concatenate([data[name] for name in names])
    expected = {len(pooled), *pooled.sum(axis=0).tolist(), *(pooled.T @ pooled).reshape(-1).tolist()}
    assert set(found.tolist()) == expected, "what was opened is not what numpy computes"
    return clock, architecture, evaluation, epoch, exchange, len({pair for answer in answers for pair, _, _ in answer.parts})


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
    return {name: count * clock.median(name) for name, count in counts.items()}


def embedded(owners: int, rows: int, columns: int, smudging: int) -> None:
    """The same in an embedded study: sessions, signatures, and every party's own record on disk."""
    clock, draw, names = Clock(), np.random.default_rng(1), [f"x{place:02}" for place in range(columns)]
    tables = {f"owner{place:02}": pd.DataFrame(draw.integers(0, 1001, (rows, columns)), columns=names) for place in range(owners)}
    schema = vs.Schema(*(vs.Integer(name, lower=0, upper=1000) for name in names), max_rows=rows)
    study = clock.time("epoch", lambda: vs.simulate(tables, schema, vs.Homomorphic(entry="rows", smudging_bits=smudging)))
    result = clock.time("query", lambda: study.covariance(names))
    pooled = np.concatenate([table.to_numpy() for table in tables.values()])
    assert np.allclose(result.estimate, np.cov(pooled.T), rtol=1e-9)
    print(
        f"an embedded study, all {owners} owners, cloud and analyst: epoch {clock.median('epoch'):.0f} ms, query {clock.median('query'):.0f} ms of CPU"
    )
    print(
        f"{result.cost.bytes_per_owner / 2**20:.1f} MiB per owner and query; peak memory {_peak():.2f} GiB, with what is mapped from disk"
    )


def _peak() -> float:
    """GiB of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--owners", type=int, default=10)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--smudging", type=int, default=64)
    parser.add_argument("--embedded", action="store_true", help="a whole embedded study instead")
    options = parser.parse_args()
    if options.embedded:
        embedded(options.owners, options.rows, options.columns, options.smudging)
        return
    run(2, 3, 2, options.smudging)  # compiles what is compiled
    clock, architecture, evaluation, epoch, exchange, pairs = run(options.owners, options.rows, options.columns, options.smudging)
    parameters, layout = architecture.parameters, evaluation.layout
    blocks = layout.blocks(options.rows)
    products, encryptions = options.owners * blocks * pairs, blocks * layout.groups
    alone = single_key(architecture, encryptions, products, pairs)
    keys, ciphertexts = architecture.epoch_bytes(options.rows)
    measured = epoch.bytes_sent / options.owners
    assert 0 <= measured - keys - ciphertexts < 1024, "the plan's bytes of an epoch are not those that were sent"
    encrypting = clock.each("owner epoch_upload", options.owners)
    evaluating = clock.median("cloud reveal_zero")
    print(
        f"{options.owners} owners x {options.rows:,} rows x {options.columns} columns; degree {parameters.degree:,}, modulus of {48 * parameters.primes} bits"
    )
    print(f"{encryptions} ciphertexts per owner, {products} products, {pairs} relinearisations; smudging {parameters.smudging_bits} bits\n")
    print("| CPU ms | here | SEAL, one key |\n|---|---|---|")
    print(f"| owner: shares of keys | {clock.median('owner epoch_commit', 'owner epoch_reveal'):.0f} | |")
    print(f"| owner: checks shares, encrypts {encryptions} | {encrypting:.0f} | |")
    print(f"| of that, encrypting | {encryptions * clock.median('encrypt'):.0f} | {alone['encrypt']:.0f} |")
    print(f"| owner: checks and keeps all uploads | {clock.each('owner epoch_keep', options.owners):.0f} | |")
    print(f"| cloud: {products} products, {pairs} relinearisations | {evaluating:.0f} | {alone['multiply'] + alone['relinearise']:.0f} |")
    print(f"| owner: the same again, and its share | {clock.median('owner commit_zero', 'owner reveal_zero', 'owner decrypt'):.0f} | |")
    print(f"| analyst | {clock.median('analyst'):.1f} | {alone['decrypt']:.0f} |\n")
    print(
        f"an epoch: {measured / 2**20:.1f} MiB sent per owner (the plan: {(keys + ciphertexts) / 2**20:.1f}), {epoch.bytes_received / options.owners / 2**20:.1f} received"
    )
    print(
        f"a query: {exchange.bytes_sent / options.owners / 2**20:.2f} MiB sent per owner, {exchange.bytes_received / options.owners / 2**20:.1f} received"
    )
    print(f"peak memory of this process, all parties: {_peak():.2f} GiB")


if __name__ == "__main__":
    main()
