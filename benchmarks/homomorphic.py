"""Threshold homomorphic encryption of totals: CPU time and bytes for each party, beside SEAL under a single key.

    OMP_NUM_THREADS=1 python -m benchmarks.homomorphic      # the tables of docs/benchmarks.md
    OMP_NUM_THREADS=1 python -m benchmarks.homomorphic --size 9000 --bits 100
    OMP_NUM_THREADS=1 python -m benchmarks.homomorphic --first    # what a process's first session costs more than its second

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
from collections.abc import Sequence
from functools import partial, reduce
from typing import Any

import numpy as np

from benchmarks.measuring import Clock, heading, row
from veilstat.architectures.homomorphic.messages import read_ciphertexts
from veilstat.architectures.homomorphic.ring import Residues, batching_primes, seal
from veilstat.architectures.homomorphic.totals import mouchet21 as paper
from veilstat.architectures.homomorphic.totals import mouchet22
from veilstat.architectures.homomorphic.totals.bfv import Bfv, scheme
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
OWNERS = ("owners", "degree, modulus", "ciphertexts", "an owner: commit + reveal + encrypt + decrypt", "cloud", "sent", "received", "floor")
PATHS = ("critical path: encrypt + add + share + add + open", "one key: encrypt + add + decrypt", "ratio")
THRESHOLDS = ("decrypting", "an owner: commit + deal + encrypt + add + agree + decrypt", "cloud", "sent", "received")


def parties(its: Bfv, names: tuple[str, ...], vector: Any, analyst: Residues, threshold: int | None) -> tuple[Any, dict[str, Any]]:
    """The cloud, and the owners by name, each with this vector; all of them decrypt, or any ``threshold``."""
    kinds: tuple[Any, Any] = (Owner, Server) if threshold is None else (DealingOwner, DealingServer)
    least = threshold or 2
    identities = {name: Identity.from_seed(name, os.urandom(32)) for name in (*names, "server", "analyst")}
    roles = {name: name if name in ("server", "analyst") else "owner" for name in identities}
    roster = Roster({name: identity.public for name, identity in identities.items()}, roles)
    common = its.ring.uniform(b"analyst")
    recipient = np.stack([its.public_share(common, analyst, os.urandom), common])
    known = (roster, "server", names, least, CONTEXT, its, vector, recipient, os.urandom, lambda members: None)
    return kinds[1]("analyst", roster, names, least, CONTEXT, its), {name: kinds[0](identities[name], *known) for name in names}


def run_session(count: int, size: int, bits: int, smudging: int, threshold: int | None) -> tuple[Clock, Parameters]:
    """A whole session of ``count`` owners, all of whom decrypt, or any ``threshold``; sums are checked."""
    clock, its = Clock(), scheme(choose_parameters(bits, size, count, smudging))
    analyst = its.ring.from_integers(its.secret(os.urandom))
    vector = np.arange(size).astype(object) * ((1 << bits) // (count * size))
    cloud, owners = parties(its, tuple(f"owner{place:03}" for place in range(count)), vector, analyst, threshold)
    collecting, waiting, sent = cloud.start().following, {}, {}
    for name, owner in owners.items():
        turn = clock.time(paper.COMMIT_KEY, owner.start)
        waiting[name], sent[name] = turn.following, turn.send[0].payload
    result = b""

    def collect() -> Any:
        for name in collecting.senders:
            collecting.take(name, memoryview(sent[name]))
        return collecting.close()

    for round_name in paper.ROUNDS if threshold is None else mouchet22.ROUNDS:
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
        return its.decrypt_vector(read_ciphertexts(its.ring, raw, len(raw), "server"), analyst, [0] * size)

    assert (clock.time("analyst", opened) == count * vector).all()
    return clock, its.parameters


def critical_path(its: Bfv, count: int, size: int) -> Clock:
    """The lattice operations that wait for each other, of ``count`` owners; medians of several runs."""
    clock, ring = Clock(), its.ring
    secrets = [ring.from_integers(its.secret(os.urandom)) for _ in range(count)]
    common = ring.uniform(b"common")
    collective = np.stack([reduce(ring.add, (its.public_share(common, secret, os.urandom) for secret in secrets)), common])
    analyst = ring.from_integers(its.secret(os.urandom))
    recipient = np.stack([its.public_share(common, analyst, os.urandom), common])
    vector = np.arange(size).astype(object)

    def encrypt() -> Residues:
        return its.encrypt_vector(collective, vector, os.urandom)

    def share(secret: Residues, total: Residues) -> Residues:
        return np.stack([switch_share(its, ciphertext, secret, recipient, os.urandom) for ciphertext in total])

    for _ in range(REPETITIONS):
        fresh = [clock.time("encrypt", encrypt) for _ in range(count)]
        total = clock.time("evaluate", partial(reduce, ring.add, fresh))
        shares = [clock.time("share", partial(share, secret, total)) for secret in secrets]
        merged = clock.time("merge", partial(reduce, ring.add, shares))
        merged[:, 0] = ring.add(merged[:, 0], total[:, 0])
        opened = clock.time("open", partial(its.decrypt_vector, merged, analyst, [0] * size))
        assert (opened == count * vector).all()
    return clock


def floor(its: Bfv, count: int) -> float:
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


def single_key_tools(parameters: Parameters) -> list[tuple[Any, ...]]:
    """For each ciphertext of a vector SEAL's encoder, encryptor, evaluator and decryptor, with its default modulus of this degree."""
    binding, tools = seal(), []
    settings = binding.EncryptionParameters(binding.SCHEME_TYPE.BFV)
    settings.set_poly_modulus_degree(parameters.degree)
    settings.set_coeff_modulus(binding.CoeffModulus.BFVDefault(parameters.degree, binding.SEC_LEVEL_TYPE.TC128))
    for prime in batching_primes(parameters.degree, parameters.plaintext_bits, parameters.plaintexts):
        settings.set_plain_modulus(binding.Modulus(prime))
        context = binding.SEALContext(settings, True, binding.SEC_LEVEL_TYPE.TC128)
        generator, public = binding.KeyGenerator(context), binding.PublicKey()
        generator.create_public_key(public)
        made = binding.BatchEncoder(context), binding.Encryptor(context, public), binding.Evaluator(context)
        tools += [(*made, binding.Decryptor(context, generator.secret_key()))] * parameters.blocks
    return tools


def single_key(parameters: Parameters, count: int) -> Clock:
    """The same numbers under one key, with SEAL's own encryptor."""
    binding, clock, tools, values = seal(), Clock(), single_key_tools(parameters), list(range(parameters.degree))

    def encrypted() -> list[Any]:
        ciphertexts = []
        for encoder, encryptor, _, _ in tools:
            plain, ciphertext = binding.Plaintext(), binding.Ciphertext()
            encoder.encode(values, plain)
            encryptor.encrypt(plain, ciphertext)
            ciphertexts.append(ciphertext)
        return ciphertexts

    def added(uploads: list[list[Any]]) -> list[Any]:
        totals = uploads[0]
        for upload in uploads[1:]:
            for (_, _, evaluator, _), total, ciphertext in zip(tools, totals, upload, strict=True):
                evaluator.add_inplace(total, ciphertext)
        return totals

    def decrypted(totals: list[Any]) -> None:
        for (encoder, _, _, decryptor), total in zip(tools, totals, strict=True):
            plain = binding.Plaintext()
            decryptor.decrypt(total, plain)
            encoder.decode_int64(plain)

    for _ in range(REPETITIONS):
        uploads = [clock.time("encrypt", encrypted) for _ in range(count)]
        totals = clock.time("evaluate", partial(added, uploads))
        clock.time("decrypt", partial(decrypted, totals))
    return clock


def work(clock: Clock, costs: Sequence[RoundCost]) -> tuple[str, ...]:
    """Cells of a table: an owner's rounds, the cloud's, and what an owner sends and receives."""
    rounds = [clock.milliseconds(cost.name) for cost in costs]
    cloud = sum(clock.milliseconds("cloud " + cost.name) for cost in costs)
    sent, received = sum(cost.sent for cost in costs), sum(cost.received for cost in costs)
    return added_up(rounds), f"{cloud:.0f}", f"{sent / 1e6:.2f} MB", f"{received / 1e6:.2f} MB"


def added_up(times: Sequence[float]) -> str:
    """A cell with its parts and their sum."""
    return f"{' + '.join(f'{its:.1f}' for its in times)} = {sum(times):.1f}"


def whole_line(count: int, size: int, bits: int, smudging: int) -> str:
    """One line of the table in which all owners decrypt."""
    clock, parameters = run_session(count, size, bits, smudging, None)
    path, alone = critical_path(scheme(parameters), count, size), single_key(parameters, count)
    costs = paper.round_costs([f"owner{place:03}" for place in range(count)], parameters.share_bytes, parameters.vector_bytes)
    ours = [path.milliseconds(name) for name in ("encrypt", "evaluate", "share", "merge", "open")]
    theirs = [alone.milliseconds(name) for name in ("encrypt", "evaluate", "decrypt")]
    shape = f"{parameters.degree:,}, {48 * parameters.primes} bits", parameters.ciphertexts
    least, analyst = f"{floor(scheme(parameters), count):.1f}", f"{clock.milliseconds('analyst'):.1f}"
    return row(count, *shape, *work(clock, costs), least, analyst, added_up(ours), added_up(theirs), f"{sum(ours) / sum(theirs):.2f}")


def threshold_line(count: int, threshold: int, size: int, bits: int, smudging: int) -> str:
    """One line of the table in which any ``threshold`` owners decrypt."""
    clock, parameters = run_session(count, size, bits, smudging, threshold)
    names = [f"owner{place:03}" for place in range(count)]
    costs = mouchet22.round_costs(names[0], names, names[:threshold], parameters.share_bytes, parameters.vector_bytes)
    return row(f"{threshold} of {count}", *work(clock, costs))


def first_session(size: int, bits: int, smudging: int) -> str:
    """What is compiled or loaded when encryption is first used in a process."""
    clock = Clock()
    for name in ("first", "second"):
        clock.time(name, partial(run_session, 3, size, bits, smudging, None))
    return f"the first session took {clock.median('first') - clock.median('second'):.1f} s of CPU time more than the second"


def main() -> None:
    """Both tables, or what a first session costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=18)
    parser.add_argument("--bits", type=int, default=50)
    parser.add_argument("--smudging", type=int, default=64)
    parser.add_argument("--first", action="store_true")
    options = parser.parse_args()
    if options.first:
        print(first_session(options.size, options.bits, options.smudging))
        return
    print(heading(*OWNERS, "analyst", *PATHS))
    for count in (3, 10):
        print(whole_line(count, options.size, options.bits, options.smudging), flush=True)
    print("\n" + heading(*THRESHOLDS))
    for count, threshold in ((5, 3), (10, 7)):
        print(threshold_line(count, threshold, options.size, options.bits, options.smudging), flush=True)


if __name__ == "__main__":
    main()
