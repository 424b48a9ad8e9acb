"""Encryption alone: ring arithmetic, draws, scaling and noise against Python integers, and the rules that parameters keep."""

import os
from dataclasses import replace
from functools import reduce

import numpy as np
import pytest

import veilstat as vs
from tests.homomorphic import SIZE, noise, scaled
from veilstat.architectures.homomorphic import ring as rings
from veilstat.architectures.homomorphic import sampling
from veilstat.architectures.homomorphic.totals import parameters as table
from veilstat.architectures.homomorphic.totals.bfv import scheme
from veilstat.architectures.homomorphic.totals.parameters import Parameters, choose_parameters
from veilstat.testing.tables import small_schema, small_tables


def test_more_numbers_than_slots():
    its = scheme(choose_parameters(18, 9000, 2, 40))
    assert its.parameters.degree == 8192
    assert its.parameters.blocks == 2
    secret = its.ring.from_integers(its.secret(os.urandom))
    common = its.ring.uniform(b"")
    key = np.stack([its.public_share(common, secret, os.urandom), common])
    vector = np.random.default_rng(1).integers(-(2**17), 2**17, 9000).astype(object)
    found = its.decrypt_vector(its.encrypt_vector(key, vector, os.urandom), secret, [-(2**17)] * 9000)
    assert found.tolist() == vector.tolist()


@pytest.mark.parametrize("bits", [47, 94, 141])
def test_totals_whose_plaintexts_would_be_as_wide_as_the_primes_of_the_modulus(bits):
    its = scheme(choose_parameters(bits, 4, 3, 40))
    secret = its.ring.from_integers(its.secret(os.urandom))
    common = its.ring.uniform(b"")
    key = np.stack([its.public_share(common, secret, os.urandom), common])
    vector = np.array([-(1 << bits - 1), -1, 0, (1 << bits - 1) - 1], dtype=object)
    found = its.decrypt_vector(its.encrypt_vector(key, vector, os.urandom), secret, [-(1 << bits - 1)] * 4)
    assert found.tolist() == vector.tolist()


def test_ring_arithmetic_is_that_of_polynomials():
    """Against schoolbook multiplication of Python integers modulo X^n + 1 and Q."""
    ring = rings.cyclotomic_ring(4096, 2)
    sparse = {0: 5, 7: -3, 4095: 1 << 90}
    dense = [int.from_bytes(os.urandom(12), "little") % ring.modulus for _ in range(4096)]
    first = np.zeros(4096, dtype=object)
    for power, coefficient in sparse.items():
        first[power] = coefficient
    expected = [0] * 4096
    for power, coefficient in sparse.items():
        for place, other in enumerate(dense):
            sign = 1 if power + place < 4096 else -1
            expected[(power + place) % 4096] += sign * coefficient * other
    a, b = ring.from_integers(first), ring.from_integers(np.array(dense, dtype=object))
    assert ring.to_integers(ring.multiply(a, b)).tolist() == [value % ring.modulus for value in expected]
    assert ring.to_integers(ring.add(b, ring.negate(b))).tolist() == [0] * 4096
    assert (ring.from_bytes(ring.to_bytes(a))[0] == a).all()


def test_products_of_the_largest_residues():
    ring = rings.cyclotomic_ring(8192, 4)
    top = np.array(ring.moduli, dtype=np.uint64)[:, None] - np.arange(1, 8193, dtype=np.uint64)
    expected = [[int(x) * int(y) % prime for x, y in zip(row, row[::-1], strict=True)] for row, prime in zip(top, ring.moduli, strict=True)]
    assert ring.multiply(top, top[:, ::-1]).tolist() == expected


def test_the_table_of_secure_moduli_is_seals():
    seal = rings.seal()
    for degree, bits in table.SECURE_BITS.items():
        assert seal.CoeffModulus.MaxBitCount(degree, seal.SEC_LEVEL_TYPE.TC128) == bits
        primes = rings.cyclotomic_ring(degree, bits // rings.PRIME_BITS).moduli
        assert max(primes) < 1 << rings.PRIME_BITS
        assert sum(prime.bit_length() for prime in primes) <= bits
        for count in (1, 2, 3, 4, 7, 8, 15):
            assert len(rings.batching_primes(degree, table.narrowest_plaintext(degree, count), count)) == count


def test_draws_have_their_distributions():
    degree = 1 << 15
    small, secret = sampling.error(degree, os.urandom), sampling.ternary(degree, os.urandom)
    assert abs(small).max() <= sampling.ERROR_BOUND
    assert abs(small.std() - 10.5**0.5) < 0.06
    assert abs(small.mean()) < 6 * 3.24 / degree**0.5
    counts = np.bincount(secret + 1, minlength=3)
    assert ((counts - degree / 3) ** 2 / (degree / 3)).sum() < 30
    ring = rings.cyclotomic_ring(32768, 3)

    def flooded(bits):
        values = ring.to_integers(ring.transform(sampling.flooding(ring, bits, os.urandom)))
        return [value - ring.modulus if 2 * value > ring.modulus else value for value in values]

    wide = flooded(101)
    assert min(wide) < -0.999 * 2**101 < 0.999 * 2**101 < max(wide)
    assert -(2**101) <= min(wide) <= max(wide) < 2**101
    assert sorted(set(flooded(1))) == [-2, -1, 0, 1]
    assert -(2**48) <= min(flooded(48)) < -0.999 * 2**48 < 0.999 * 2**48 < max(flooded(48)) < 2**48


def test_messages_are_scaled_exactly():
    its = scheme(choose_parameters(100, SIZE, 3, 64))
    vector = np.array([0, 1, -1, 2**99, 3**60], dtype=object)
    for ours, expected in zip(its.scaled(vector), scaled(its, vector), strict=True):
        assert its.ring.to_integers(its.ring.transform(ours)).tolist() == expected.tolist()


@pytest.mark.parametrize(("bits", "owners", "smudging"), [(18, 2, 40), (40, 3, 64), (60, 10, 64), (60, 100, 64), (150, 5, 90)])
def test_noise_stays_within_its_prediction_and_not_far_below(bits, owners, smudging):
    its = scheme(choose_parameters(bits, SIZE, owners, smudging))
    ring, parameters = its.ring, its.parameters
    common = ring.uniform(b"common")
    holders = min(owners, 10)
    secrets = [ring.from_integers(its.secret(os.urandom)) for _ in range(holders)]
    key = np.stack([reduce(ring.add, (its.public_share(common, secret, os.urandom) for secret in secrets)), common])
    zero = np.zeros(parameters.degree, dtype=object)
    total = reduce(ring.add, (its.encrypt(key, ring.reduce(zero), os.urandom) for _ in range(holders)))
    together = reduce(ring.add, secrets)
    measured = noise(its, total, together, zero)
    bound = replace(parameters, owners=holders).sum_noise
    assert 2**-12 * bound < measured <= bound <= parameters.sum_noise
    flooded = ring.transform(sampling.flooding(ring, parameters.flooding_bits, os.urandom))
    final = noise(its, np.stack([ring.add(total[0], flooded), total[1]]), together, zero)
    assert final <= parameters.final_noise
    assert final > parameters.final_noise / (4 * owners)
    assert final >= measured << (smudging - 1)
    assert 2 * parameters.final_noise * max(transform.prime for transform in its.plaintexts) < ring.modulus


def test_what_the_bound_permits_is_decrypted_and_what_exceeds_the_modulus_is_not():
    its = scheme(choose_parameters(40, SIZE, 3, 64))
    secret = its.ring.from_integers(its.secret(os.urandom))
    vector = np.array([1, 2, 3, 2**39, 0], dtype=object)
    [message] = scaled(its, vector)

    def decrypted(height):
        ciphertext = np.stack([its.ring.from_integers(message + height), its.ring.from_integers(np.zeros(8192, dtype=object))])
        return its.decrypt_vector(ciphertext[None], secret, [0] * SIZE).tolist()

    assert decrypted(its.parameters.final_noise) == decrypted(-its.parameters.final_noise) == vector.tolist()
    assert decrypted(its.ring.modulus // its.plaintexts[0].prime) != vector.tolist()


@pytest.mark.parametrize(
    ("bits", "size", "owners", "smudging"), [(8, 3, 2, 40), (60, 18, 3, 64), (60, 18, 1000, 64), (200, 30, 10, 64), (64, 20_000, 10, 128)]
)
def test_chosen_parameters_keep_the_rules(bits, size, owners, smudging):
    chosen = choose_parameters(bits, size, owners, smudging)
    assert 48 * chosen.primes <= table.SECURE_BITS[chosen.degree]
    assert chosen.blocks * chosen.degree >= size
    assert chosen.plaintexts * (chosen.plaintext_bits - 1) >= bits
    hidden = chosen.degree * chosen.ciphertexts * chosen.sum_noise
    assert hidden << smudging <= 1 << chosen.flooding_bits < hidden << (smudging + 1)


@pytest.mark.parametrize("unsafe", [{"primes": 5}, {"degree": 4096}, {"degree": 1000}, {"smudging_bits": 39}])
def test_parameters_below_128_bits_or_40_bits_cannot_be_built(unsafe):
    with pytest.raises(ValueError, match="is not secure"):
        replace(Parameters(8192, 4, 1, 30, 5, 3, 64), **unsafe)


def test_what_does_not_fit_is_refused_with_the_numbers():
    with pytest.raises(vs.CapabilityError, match=r"60 bits over 10 owners with smudging_bits=400 need a modulus of \d+ bits") as error:
        choose_parameters(60, SIZE, 10, 400)
    assert error.value.code == "noise_too_large"
    with pytest.raises(vs.CapabilityError, match="smudging_bits=400"):
        vs.simulate(small_tables(), small_schema(), vs.Homomorphic(smudging_bits=400)).plan(vs.Mean("age"))


def test_parameters_grow_with_what_is_asked():
    small = Parameters(8192, 3, 1, 30, 5, 3, 64)
    assert replace(small, owners=30).final_noise > 90 * small.final_noise
    assert replace(small, smudging_bits=65).final_noise > 1.9 * small.final_noise
    assert replace(small, size=8193).flooding_bits == small.flooding_bits + 1
