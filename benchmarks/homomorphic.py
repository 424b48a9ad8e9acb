"""Threshold homomorphic encryption of totals: CPU time and bytes for each party, beside SEAL under a single key.

    python benchmarks/homomorphic.py              # the table of docs/benchmarks.md
    python benchmarks/homomorphic.py --size 9000 --bits 100

One thread. The protocol's rounds are fed directly, as a session feeds them; envelopes are not included. The baseline is
SEAL under one known key: encode and encrypt once, add the ciphertexts of all owners, decrypt and decode once. Beside it
stands the critical path of the same operations under the collective key: one owner's encryption, the sum, one owner's
share of the decryption, their sum, the analyst's decryption; without commitments, signatures, hashes and layouts, which
the table's other columns include.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from veilstat.architectures.homomorphic.messages import read_ciphertexts
from veilstat.architectures.homomorphic.ring import Residues, batching_primes, seal
from veilstat.architectures.homomorphic.totals import mouchet21 as paper
from veilstat.architectures.homomorphic.totals import mouchet22
from veilstat.architectures.homomorphic.totals.bfv import Scheme, scheme
from veilstat.architectures.homomorphic.totals.mouchet21_owner import Owner, switch_share
from veilstat.architectures.homomorphic.totals.mouchet21_server import Server
from veilstat.architectures.homomorphic.totals.mouchet22_owner import DealingOwner
from veilstat.architectures.homomorphic.totals.mouchet22_server import DealingServer
from veilstat.architectures.homomorphic.totals.parameters import Parameters, choose_parameters
from veilstat.architectures.interface import RoundCost
from veilstat.architectures.relay import RESULT
from veilstat.protocol.identity import Identity, Roster

CONTEXT = bytes(32)
REPETITIONS = 15
HEADER = """| owners | degree, modulus | ciphertexts | an owner: commit + reveal + encrypt + decrypt | cloud | sent | received | floor | analyst \
| critical path: encrypt + add + share + add + open | one key: encrypt + add + decrypt | ratio |
|---|---|---|---|---|---|---|---|---|---|---|---|"""
HEADER_OF_THRESHOLDS = """
| decrypting | an owner: commit + deal + encrypt + add + agree + decrypt | cloud | sent | received |
|---|---|---|---|---|"""


class Clock:
    """CPU seconds by name."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {}

    def time(self, name: str, call: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = call()
        self.spent.setdefault(name, []).append(time.process_time() - start)
        return result

    def milliseconds(self, name: str) -> float:
        return 1000 * statistics.median(self.spent[name])


def run_session(count: int, size: int, bits: int, smudging: int, threshold: int | None) -> tuple[Clock, Parameters]:
    """A whole session of ``count`` owners, all of whom decrypt, or any ``threshold``; sums are checked."""
    kinds: tuple[Any, Any] = (Owner, Server) if threshold is None else (DealingOwner, DealingServer)
    rounds, least = (paper.ROUNDS, 2) if threshold is None else (mouchet22.ROUNDS, threshold)
    clock, its = Clock(), scheme(choose_parameters(bits, size, count, smudging))
    ring, names = its.ring, tuple(f"owner{place:03}" for place in range(count))
    identities = {name: Identity.from_seed(name, os.urandom(32)) for name in (*names, "server", "analyst")}
    roles = {name: name if name in ("server", "analyst") else "owner" for name in identities}
    roster = Roster({name: identity.public for name, identity in identities.items()}, roles)
    vector = np.arange(size).astype(object) * ((1 << bits) // (count * size))
    analyst = ring.from_integers(its.secret(os.urandom))
    common = ring.uniform(b"analyst")
    recipient = np.stack([its.public_share(common, analyst, os.urandom), common])
    collecting: Any = kinds[1]("analyst", roster, names, least, CONTEXT, its).start().following
    waiting, sent = {}, {}
    for name in names:
        owner = kinds[0](
            identities[name], roster, "server", names, least, CONTEXT, its, vector, recipient, os.urandom, lambda members: None
        )
        turn = clock.time(paper.COMMIT_KEY, owner.start)
        waiting[name], sent[name] = turn.following, turn.send[0].payload
    result = b""
    for round_name in rounds:

        def collect(collecting: Any = collecting) -> Any:
            for name in collecting.senders:
                collecting.take(name, memoryview(sent[name]))
            return collecting.close()

        turn = clock.time("cloud " + round_name, collect)
        collecting = turn.following
        for message in turn.send:
            if message.round == RESULT:
                result = bytes(message.payload)
                continue
            its_round = waiting[message.recipient]
            its_round.take("server", memoryview(message.payload))
            answer = clock.time(message.round, its_round.close)
            waiting[message.recipient] = answer.following
            for reply in answer.send:
                sent[message.recipient] = reply.payload

    def opened() -> Any:
        raw = memoryview(result)[-its.parameters.vector_bytes :]
        return its.decrypt_vector(read_ciphertexts(ring, raw, len(raw), "server"), analyst, [0] * size)

    assert (clock.time("analyst", opened) == count * vector).all()
    return clock, its.parameters


def critical_path(its: Scheme, count: int, size: int) -> Clock:
    """The lattice operations that wait for each other, of ``count`` owners; medians of several runs."""
    clock, ring = Clock(), its.ring
    secrets = [ring.from_integers(its.secret(os.urandom)) for _ in range(count)]
    common = ring.uniform(b"common")
    collective = np.stack([reduce(ring.add, (its.public_share(common, secret, os.urandom) for secret in secrets)), common])
    analyst = ring.from_integers(its.secret(os.urandom))
    recipient = np.stack([its.public_share(common, analyst, os.urandom), common])
    vector = np.arange(size).astype(object)
    for _ in range(REPETITIONS):
        fresh = [clock.time("encrypt", lambda: its.encrypt_vector(collective, vector, os.urandom)) for _ in range(count)]
        total = clock.time("evaluate", lambda fresh=fresh: reduce(ring.add, fresh))

        def share(secret: Residues, total: Residues = total) -> Residues:
            return np.stack([switch_share(its, ciphertext, secret, recipient, os.urandom) for ciphertext in total])

        shares = [clock.time("share", lambda secret=secret: share(secret)) for secret in secrets]
        merged = clock.time("merge", lambda shares=shares: reduce(ring.add, shares))
        merged[:, 0] = ring.add(merged[:, 0], total[:, 0])
        opened = clock.time("open", lambda merged=merged: its.decrypt_vector(merged, analyst, [0] * size))
        assert (opened == count * vector).all()
    return clock


def floor(its: Scheme, count: int) -> float:
    """Milliseconds for what no owner can leave out: transforms, hashes, signatures, the common polynomial, randomness."""
    clock, parameters, identity = Clock(), its.parameters, Identity.from_seed("owner", bytes(32))
    row = np.arange(parameters.degree, dtype=np.uint64)
    received = os.urandom((count + 1) * (parameters.share_bytes + parameters.vector_bytes))
    draws = 17 * parameters.degree + parameters.ciphertexts * (34 + 6 * (parameters.flooding_bits // 48 + 1)) * parameters.degree
    roster = Roster({"owner": identity.public}, {"owner": "owner"})
    signature = identity.sign(bytes(32))
    for _ in range(REPETITIONS):
        clock.time("transform", lambda: its.ring.transforms[0].forward(row))
        clock.time("hash", lambda: hashlib.sha256(received).digest())
        clock.time("sign", lambda: identity.sign(bytes(32)))
        clock.time("verify", lambda: roster.verifies("owner", bytes(32), signature))
        clock.time("common", lambda: hashlib.shake_256(b"").digest(parameters.share_bytes))
        clock.time("draw", lambda: os.urandom(draws))
    transforms = parameters.primes * (2 + 6 * parameters.ciphertexts) + parameters.ciphertexts
    times = {"transform": transforms, "hash": 1, "sign": 2, "verify": 2 * count, "common": 1, "draw": 1}
    return sum(repeated * clock.milliseconds(name) for name, repeated in times.items())


def single_key(parameters: Parameters, count: int) -> Clock:
    """The same numbers under one key, with SEAL's own encryptor and its default modulus of this degree."""
    binding, clock = seal(), Clock()
    settings = binding.EncryptionParameters(binding.SCHEME_TYPE.BFV)
    settings.set_poly_modulus_degree(parameters.degree)
    settings.set_coeff_modulus(binding.CoeffModulus.BFVDefault(parameters.degree, binding.SEC_LEVEL_TYPE.TC128))
    values, worked = list(range(parameters.degree)), []
    for prime in batching_primes(parameters.degree, parameters.plaintext_bits, parameters.plaintexts):
        settings.set_plain_modulus(binding.Modulus(prime))
        context = binding.SEALContext(settings, True, binding.SEC_LEVEL_TYPE.TC128)
        generator, public = binding.KeyGenerator(context), binding.PublicKey()
        generator.create_public_key(public)
        tools = binding.BatchEncoder(context), binding.Encryptor(context, public), binding.Evaluator(context)
        worked += [(*tools, binding.Decryptor(context, generator.secret_key()))] * parameters.blocks

    def encrypted() -> list[Any]:
        ciphertexts = []
        for encoder, encryptor, _, _ in worked:
            plain, ciphertext = binding.Plaintext(), binding.Ciphertext()
            encoder.encode(values, plain)
            encryptor.encrypt(plain, ciphertext)
            ciphertexts.append(ciphertext)
        return ciphertexts

    def added(uploads: list[list[Any]]) -> list[Any]:
        totals = uploads[0]
        for upload in uploads[1:]:
            for (_, _, evaluator, _), total, ciphertext in zip(worked, totals, upload, strict=True):
                evaluator.add_inplace(total, ciphertext)
        return totals

    def decrypted(totals: list[Any]) -> None:
        for (encoder, _, _, decryptor), total in zip(worked, totals, strict=True):
            plain = binding.Plaintext()
            decryptor.decrypt(total, plain)
            encoder.decode_int64(plain)

    for _ in range(REPETITIONS):
        uploads = [clock.time("encrypt", encrypted) for _ in range(count)]
        totals = clock.time("evaluate", lambda uploads=uploads: added(uploads))
        clock.time("decrypt", lambda totals=totals: decrypted(totals))
    return clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=18)
    parser.add_argument("--bits", type=int, default=50)
    parser.add_argument("--smudging", type=int, default=64)
    options = parser.parse_args()
    print(HEADER)
    for count in (3, 10):
        clock, parameters = run_session(count, options.size, options.bits, options.smudging, None)
        path, alone = critical_path(scheme(parameters), count, options.size), single_key(parameters, count)
        names = [f"owner{place:03}" for place in range(count)]
        costs = paper.round_costs(names, parameters.share_bytes, parameters.vector_bytes)
        ours = [path.milliseconds(name) for name in ("encrypt", "evaluate", "share", "merge", "open")]
        theirs = [alone.milliseconds(name) for name in ("encrypt", "evaluate", "decrypt")]
        print(
            f"| {count} | {parameters.degree:,}, {48 * parameters.primes} bits | {parameters.ciphertexts} | {work(clock, costs)} "
            f"| {floor(scheme(parameters), count):.1f} | {clock.milliseconds('analyst'):.1f} | {' + '.join(f'{its:.1f}' for its in ours)} = {sum(ours):.1f} "
            f"| {' + '.join(f'{its:.1f}' for its in theirs)} = {sum(theirs):.1f} | {sum(ours) / sum(theirs):.2f} |"
        )
    print(HEADER_OF_THRESHOLDS)
    for count, threshold in ((5, 3), (10, 7)):
        clock, parameters = run_session(count, options.size, options.bits, options.smudging, threshold)
        names = [f"owner{place:03}" for place in range(count)]
        costs = mouchet22.round_costs(names[0], names, names[:threshold], parameters.share_bytes, parameters.vector_bytes)
        print(f"| {threshold} of {count} | {work(clock, costs)} |")


def work(clock: Clock, costs: Sequence[RoundCost]) -> str:
    """Cells of a table: an owner's rounds, the cloud's, and what an owner sends and receives."""
    rounds = [clock.milliseconds(cost.name) for cost in costs]
    cloud = sum(clock.milliseconds("cloud " + cost.name) for cost in costs)
    sent, received = sum(cost.sent for cost in costs), sum(cost.received for cost in costs)
    return f"{' + '.join(f'{its:.1f}' for its in rounds)} = {sum(rounds):.1f} | {cloud:.0f} | {sent / 1e6:.2f} MB | {received / 1e6:.2f} MB"


if __name__ == "__main__":
    main()
