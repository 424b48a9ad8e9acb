"""Threshold homomorphic encryption of totals: CPU time and bytes for each party, beside SEAL under a single key.

    python benchmarks/homomorphic.py              # the table of docs/benchmarks.md
    python benchmarks/homomorphic.py --size 9000 --bits 100

One thread. The protocol's rounds are fed directly, as a session feeds them; envelopes are not included. The baseline is
what one data owner would do under one known key with the same library: encode, encrypt, add, decrypt, decode.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from veilstat.architectures.homomorphic import mouchet21 as paper
from veilstat.architectures.homomorphic.bfv import scheme
from veilstat.architectures.homomorphic.mouchet21_owner import Owner
from veilstat.architectures.homomorphic.mouchet21_server import Server
from veilstat.architectures.homomorphic.parameters import Parameters, choose_parameters
from veilstat.architectures.homomorphic.ring import batching_primes, seal
from veilstat.architectures.relay import RESULT
from veilstat.protocol.identity import Identity, Roster

CONTEXT = bytes(32)


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


def run_session(count: int, size: int, bits: int, smudging: int) -> tuple[Clock, Parameters]:
    """A whole session of ``count`` owners; sums are checked."""
    clock, its = Clock(), scheme(choose_parameters(bits, size, count, smudging))
    ring, names = its.ring, tuple(f"owner{place:03}" for place in range(count))
    identities = {name: Identity.from_seed(name, os.urandom(32)) for name in (*names, "server", "analyst")}
    roles = {name: name if name in ("server", "analyst") else "owner" for name in identities}
    roster = Roster({name: identity.public for name, identity in identities.items()}, roles)
    vector = np.arange(size).astype(object) * ((1 << bits) // (count * size))
    analyst = ring.from_integers(its.secret(os.urandom))
    common = ring.uniform(b"analyst")
    recipient = np.stack([its.public_share(common, analyst, os.urandom), common])
    collecting: Any = Server("analyst", roster, names, 2, CONTEXT, its).start().following
    waiting, sent = {}, {}
    for name in names:
        owner = Owner(identities[name], roster, "server", names, 2, CONTEXT, its, vector, recipient, os.urandom, lambda members: None)
        turn = clock.time(paper.COMMIT_KEY, owner.start)
        waiting[name], sent[name] = turn.following, turn.send[0].payload
    result = b""
    for round_name in paper.ROUNDS:

        def collect(collecting: Any = collecting) -> Any:
            for name in names:
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
            waiting[message.recipient], sent[message.recipient] = answer.following, answer.send[0].payload

    def opened() -> Any:
        raw = memoryview(result)[-its.parameters.vector_bytes :]
        return its.decrypt_vector(paper.read_ciphertexts(ring, raw, len(raw), "server"), analyst, [0] * size)

    assert (clock.time("analyst", opened) == count * vector).all()
    return clock, its.parameters


def single_key(parameters: Parameters) -> Clock:
    """The same ciphertexts under one key, with SEAL's own encryptor and its default modulus of this degree."""
    binding, clock = seal(), Clock()
    for prime in batching_primes(parameters.degree, parameters.plaintext_bits, parameters.plaintexts):
        settings = binding.EncryptionParameters(binding.SCHEME_TYPE.BFV)
        settings.set_poly_modulus_degree(parameters.degree)
        settings.set_coeff_modulus(binding.CoeffModulus.BFVDefault(parameters.degree, binding.SEC_LEVEL_TYPE.TC128))
        settings.set_plain_modulus(binding.Modulus(prime))
        context = binding.SEALContext(settings, True, binding.SEC_LEVEL_TYPE.TC128)
        generator, public = binding.KeyGenerator(context), binding.PublicKey()
        generator.create_public_key(public)
        encoder, encryptor = binding.BatchEncoder(context), binding.Encryptor(context, public)
        decryptor = binding.Decryptor(context, generator.secret_key())
        values = list(range(parameters.degree))
        for _ in range(parameters.blocks):
            plain, ciphertext, opened = binding.Plaintext(), binding.Ciphertext(), binding.Plaintext()
            clock.time("encrypt", lambda e=encoder, c=encryptor, p=plain, t=ciphertext, v=values: (e.encode(v, p), c.encrypt(p, t)))
            clock.time("decrypt", lambda e=encoder, d=decryptor, p=opened, t=ciphertext: (d.decrypt(t, p), e.decode_int64(p)))
    return clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=18)
    parser.add_argument("--bits", type=int, default=50)
    parser.add_argument("--smudging", type=int, default=64)
    options = parser.parse_args()
    print(
        "| owners | degree, modulus | ciphertexts | key | input | decrypt | cloud | analyst | one key: encrypt, decrypt | sent | received |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for count in (3, 10):
        clock, parameters = run_session(count, options.size, options.bits, options.smudging)
        alone = single_key(parameters)
        names = [f"owner{place:03}" for place in range(count)]
        share, vector = parameters.share_bytes, parameters.vector_bytes
        sent = paper.COMMITMENT_BYTES + share + vector + 64 + vector
        received = sum(paper.parts_size(names, part) for part in (paper.COMMITMENT_BYTES, share, vector + 64))
        key = clock.milliseconds(paper.COMMIT_KEY) + clock.milliseconds(paper.REVEAL_KEY)
        cloud = sum(clock.milliseconds("cloud " + name) for name in paper.ROUNDS)
        print(
            f"| {count} | {parameters.degree:,}, {48 * parameters.primes} bits | {parameters.ciphertexts} | {key:.1f} | {clock.milliseconds(paper.INPUT):.1f} "
            f"| {clock.milliseconds(paper.DECRYPT):.1f} | {cloud:.0f} | {clock.milliseconds('analyst'):.1f} "
            f"| {sum(alone.spent['encrypt']) * 1000:.1f}, {sum(alone.spent['decrypt']) * 1000:.1f} | {sent / 1e6:.2f} MB | {received / 1e6:.2f} MB |"
        )


if __name__ == "__main__":
    main()
