"""The ring in machine code computes, bit for bit, what SEAL's transforms and numpy compute, so that parties may mix the two."""

import os
from functools import reduce
from pathlib import Path

import numpy as np
import pytest

from veilstat.architectures.homomorphic import ring as rings
from veilstat.architectures.homomorphic.ring import CyclotomicRing, SealTransform
from veilstat.architectures.homomorphic.totals.bfv import Bfv
from veilstat.architectures.homomorphic.totals.parameters import choose_parameters

pytest.importorskip("numba", exc_type=ImportError)
from veilstat.architectures.homomorphic import compiled, kernels


def seals(ring):
    return CyclotomicRing(ring.degree, tuple(SealTransform.of(ring.degree, prime) for prime in ring.moduli))


def residues(ring, seed, *leading):
    draw = np.random.default_rng(seed)
    rows = [draw.integers(0, prime, (*leading, ring.degree), dtype=np.uint64) for prime in ring.moduli]
    stacked = np.stack(rows, axis=-2)
    stacked[..., :3], stacked[..., -3:] = 0, np.array(ring.moduli, dtype=np.uint64)[:, None] - np.uint64(1)
    return stacked


def same(first, second):
    assert first.dtype == second.dtype == np.uint64
    assert first.tolist() == second.tolist()


@pytest.mark.parametrize("degree", [4096, 8192, 16384])
@pytest.mark.parametrize("bits", [20, 48, 60])
def test_transforms_are_seals(degree, bits):
    for prime in rings.batching_primes(degree, bits, 2):
        ours, theirs = rings.Transform.of(degree, prime), SealTransform.of(degree, prime)
        assert isinstance(ours, compiled.CompiledTransform)
        draw = np.random.default_rng(degree).integers(0, prime, degree, dtype=np.uint64)
        for values in (draw, np.full(degree, prime - 1, dtype=np.uint64), np.arange(degree, dtype=np.uint64) % 2 * np.uint64(prime - 1)):
            kept = values.copy()
            same(ours.forward(values), theirs.forward(values))
            same(ours.inverse(values), theirs.inverse(values))
            for factor in (1, prime - 1, 3**200, -5):
                same(ours.scale(values, factor), theirs.scale(values, factor))
            assert (values == kept).all()


@pytest.mark.parametrize(("degree", "primes"), [(4096, 2), (8192, 4), (16384, 9)])
def test_operations_are_numpys(degree, primes):
    ring = rings.cyclotomic_ring(degree, primes)
    plain = seals(ring)
    assert isinstance(ring, compiled.CompiledRing)
    first, second = residues(ring, 1, 2), residues(ring, 2)
    for x, y in ((first, second), (second, first), (first, first[::-1]), (second, second), (first[:, :, ::-1], first)):
        same(ring.add(x, y), plain.add(x, y))
        same(ring.multiply(x, y), plain.multiply(x, y))
    for factor in (0, 1, -1, 1 << 96, ring.modulus - 1):
        same(ring.scale(second, factor), plain.scale(second, factor))
        same(ring.scale(second[0], factor), plain.scale(second[0], factor))
    draw = np.random.default_rng(3)
    widest = [-(2**63), -(2**63) + 1, 2**63 - 1, -1, 0, 1, *ring.moduli, *(-prime for prime in ring.moduli)]
    for bound in (2, 1 << 47, 1 << 62):
        integers = draw.integers(-bound, bound, degree)
        integers[: len(widest)] = widest
        same(ring.reduce(integers), plain.reduce(integers))
    for others in (
        np.array([7] * degree, dtype=object) << 100,
        np.full(degree, 2**64 - 1, dtype=np.uint64),
    ):
        same(ring.reduce(others), plain.reduce(others))


@pytest.mark.parametrize(("bits", "degree", "primes"), [(20, 8192, 4), (40, 8192, 4), (60, 8192, 4), (60, 32768, 18)])
def test_quotients_are_those_of_exact_integers(bits, degree, primes):
    ring = rings.cyclotomic_ring(degree, primes)
    [plaintext] = rings.batching_primes(degree, bits, 1)
    cofactors = [-(ring.modulus // prime) % prime for prime in ring.moduli]
    largest_weights = np.repeat(np.array(cofactors, dtype=np.uint64)[:, None], degree, axis=1)
    for element in (residues(ring, bits), ring.transform(largest_weights)):
        same(ring.quotients(element, plaintext), seals(ring).quotients(element, plaintext))


@pytest.mark.parametrize("room", [4, 30])
def test_quotients_are_exact_up_to_the_largest_noise(room):
    """Messages round(Q m / t) with noise of up to 1/2 - 2^-room of their distance."""
    ring = rings.cyclotomic_ring(8192, 4)
    [plaintext] = rings.batching_primes(8192, 60, 1)
    draw = np.random.default_rng(room)
    messages = [int(value) for value in draw.integers(0, plaintext, 8192, dtype=np.uint64)]
    height = ring.modulus // (2 * plaintext) - (ring.modulus // plaintext >> room) - 1
    noisy = [(value * ring.modulus + plaintext // 2) // plaintext + (-1) ** place * height for place, value in enumerate(messages)]
    found = ring.quotients(ring.from_integers(np.array(noisy, dtype=object)), plaintext)
    assert found.tolist() == messages


def test_ciphertexts_of_parties_with_and_without_machine_code_add_up():
    parameters = choose_parameters(100, 5, 3, 64)
    primes = rings.batching_primes(parameters.degree, parameters.plaintext_bits, parameters.plaintexts)
    fast_ring = rings.cyclotomic_ring(parameters.degree, parameters.primes)
    fast = Bfv(parameters, fast_ring, tuple(rings.Transform.of(parameters.degree, prime) for prime in primes))
    slow = Bfv(parameters, seals(fast_ring), tuple(SealTransform.of(parameters.degree, prime) for prime in primes))
    vector = np.array([1, -(2**97), 2**98, 0, 12345], dtype=object)
    secret = slow.ring.from_integers(slow.secret(os.urandom))
    common = slow.ring.uniform(b"")
    key = np.stack([slow.public_share(common, secret, os.urandom), common])
    total = reduce(slow.ring.add, (its.encrypt_vector(key, vector, os.urandom) for its in (fast, slow, fast)))
    for its in (fast, slow):
        assert its.decrypt_vector(total, secret, [-(2**99)] * 5).tolist() == (3 * vector).tolist()


def test_machine_code_is_compiled_where_no_cache_can_be_kept():
    source = Path(kernels.__file__).read_text()
    unkept = {"__name__": "unkept"}
    exec(compile(source, "<nowhere>", "exec"), unkept)
    prime = 97
    assert unkept["multiply"](np.uint64(96), np.uint64(96), np.uint64(prime)) == 1
    assert not unkept["forward"].stats.cache_hits


def test_without_numba_seal_transforms(monkeypatch):
    monkeypatch.setattr(rings, "machine_code", lambda: None)
    assert isinstance(rings.Transform.of(4096, 40961), SealTransform)
    assert type(rings.cyclotomic_ring.__wrapped__(4096, 2)) is CyclotomicRing


def test_a_missing_numba_is_no_error(monkeypatch):
    import sys

    for name in [name for name in sys.modules if name.endswith(("homomorphic.compiled", "homomorphic.kernels")) or name == "numba"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr("veilstat.architectures.homomorphic.compiled")
    assert rings.machine_code() is None
