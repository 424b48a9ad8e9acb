"""BGV with one product: exact against integers, and noise that no draw takes above its bound, with draws that reach it."""

import os
from functools import reduce

import numpy as np
import pytest

import veilstat as vs
from veilstat.architectures.homomorphic.ring import cyclotomic_ring
from veilstat.architectures.homomorphic.rows.bgv import Bgv, Product
from veilstat.architectures.homomorphic.rows.parameters import MOST_ANSWERS, RowParameters, choose_row_parameters
from veilstat.architectures.homomorphic.sampling import ternary

PARAMETERS = RowParameters(degree=8192, primes=4, plaintext_bits=20, largest=900, rows=4, owners=3, smudging_bits=40)


def honest(count):
    return os.urandom(count)


def extreme(count):
    """Every secret is 1 and every error 21: their products meet in the last coefficient without cancelling."""
    if count == 8 * PARAMETERS.degree:
        return ((1 << 21) - 1).to_bytes(8, "little") * PARAMETERS.degree
    return b"\2" * count


class Keys:
    """The summed key of all owners, which only a test ever holds."""

    def __init__(self, random, parameters=PARAMETERS):
        self.parameters, self.random = parameters, random
        self.ring = cyclotomic_ring(parameters.degree, parameters.primes)
        self.scheme = Bgv(self.ring, parameters.plaintext_bits)
        self.common = np.stack([self.ring.uniform(bytes((place,))) for place in range(1 + parameters.primes)])
        secrets = [self.draw() for _ in range(parameters.owners)]
        ephemerals = [self.draw() for _ in secrets]
        shares = [self.scheme.public_share(self.common[0], secret, random) for secret in secrets]
        self.public = np.stack([reduce(self.ring.add, shares), self.common[0]])
        pairs = list(zip(secrets, ephemerals, strict=True))
        first = reduce(self.ring.add, (self.scheme.relinearisation_first(self.common[1:], s, u, random) for s, u in pairs))
        second = reduce(self.ring.add, (self.scheme.relinearisation_second(first, s, u, random) for s, u in pairs))
        self.relinearisation = np.stack([second, first[1]])
        self.secret = reduce(self.ring.add, secrets)

    def draw(self):
        return self.ring.from_integers(ternary(self.parameters.degree, self.random))

    def encrypt(self, message):
        return self.scheme.encrypt(self.public, message, self.random)

    def phase(self, ciphertext):
        """c0 + c1 s between -Q/2 and Q/2."""
        raw = self.ring.to_integers(self.ring.multiply_add(ciphertext[1], self.secret, ciphertext[0]))
        return np.where(raw > self.ring.modulus // 2, raw - self.ring.modulus, raw)


@pytest.fixture(scope="module", params=[honest, extreme])
def keys(request):
    return Keys(request.param)


def message(value=900):
    return np.full(PARAMETERS.degree, value, dtype=np.int64)


def largest(phase):
    return int(abs(phase).max())


def test_products_are_those_of_the_integers():
    """Against schoolbook multiplication modulo X^n + 1."""
    keys, draw = Keys(honest), np.random.default_rng(1)
    first, second = (draw.integers(0, 9, PARAMETERS.degree) for _ in range(2))
    full = np.convolve(first, second)
    expected = full[: PARAMETERS.degree].copy()
    expected[: len(full) - PARAMETERS.degree] -= full[PARAMETERS.degree :]
    product = keys.scheme.multiply(keys.encrypt(first), keys.encrypt(second))
    ciphertext = keys.scheme.relinearise(keys.scheme.total([product, product, product]), keys.relinearisation)
    phases = keys.ring.to_integers(keys.ring.multiply_add(ciphertext[1], keys.secret, ciphertext[0]), range(100))
    assert [keys.scheme.decode(phase, -(1 << 19)) for phase in phases] == (3 * expected[:100]).tolist()


def test_fresh_noise_reaches_its_bound_and_no_further(keys):
    found = largest(keys.phase(keys.encrypt(message())))
    assert found <= PARAMETERS.column_phase
    assert keys.random is honest or found == PARAMETERS.column_phase


def test_relinearisation_keys_reach_their_bound_and_no_further(keys):
    square = keys.ring.multiply(keys.secret, keys.secret)
    n, owners = PARAMETERS.degree, PARAMETERS.owners
    bound = 2 * n * owners**2 * 21 + 2 * owners * 21
    for digit in range(PARAMETERS.primes):
        weighted = np.zeros_like(square)
        weighted[digit] = square[digit]
        error = keys.ring.add(keys.ring.negate(weighted), keys.relinearisation[0, digit])
        found = largest(keys.phase(np.stack([error, keys.relinearisation[1, digit]])))
        assert found <= bound << PARAMETERS.plaintext_bits
        assert keys.random is honest or found == bound << PARAMETERS.plaintext_bits
    assert PARAMETERS.relinearisation_noise >= PARAMETERS.primes * n * (max(keys.ring.moduli) // 2) * bound


@pytest.mark.parametrize("products", [1, 4])
def test_totals_stay_within_their_bound(keys, products):
    """The products of extreme draws to within five bits: theirs is the square of a ramp."""
    product = keys.scheme.multiply(keys.encrypt(message()), keys.encrypt(message()))
    total = keys.scheme.total([product] * products)
    square = keys.ring.multiply(keys.secret, keys.secret)
    before = np.stack([keys.ring.multiply_add(total.parts[2], square, total.parts[0]), total.parts[1]])
    found, bound = largest(keys.phase(before)), products * PARAMETERS.degree * PARAMETERS.column_phase**2
    assert found <= bound
    assert keys.random is honest or found * 32 > bound
    after = largest(keys.phase(keys.scheme.relinearise(total, keys.relinearisation)))
    assert after <= PARAMETERS.total_phase(products)
    assert PARAMETERS.total_phase(products) == bound + (PARAMETERS.relinearisation_noise << PARAMETERS.plaintext_bits)


def test_relinearisation_alone_stays_within_its_bound(keys):
    """Of a ciphertext that has no part to relinearise but uniform digits, the phase is their product with s^2 and the noise."""
    uniform = keys.ring.uniform(b"digits")
    zero = np.zeros_like(uniform)
    ciphertext = keys.scheme.relinearise(Product(np.stack([zero, zero, uniform])), keys.relinearisation)
    square = keys.ring.multiply(uniform, keys.ring.multiply(keys.secret, keys.secret))
    noise = keys.phase(np.stack([keys.ring.add(ciphertext[0], keys.ring.negate(square)), ciphertext[1]]))
    assert largest(noise) <= PARAMETERS.relinearisation_noise << PARAMETERS.plaintext_bits
    assert not (noise % (1 << PARAMETERS.plaintext_bits)).any()


def test_answers_are_bounded_by_what_they_are_made_of():
    zeros, noise = PARAMETERS.owners * PARAMETERS.fresh_noise << PARAMETERS.plaintext_bits, 1 << PARAMETERS.plaintext_bits
    assert PARAMETERS.answer_phase == (PARAMETERS.total_phase(PARAMETERS.rows) << PARAMETERS.weight_bits) + zeros + noise
    assert 1 << PARAMETERS.weight_bits >= (PARAMETERS.largest + 2) ** 2
    noise = PARAMETERS.answer_phase >> PARAMETERS.plaintext_bits
    assert 1 << PARAMETERS.flooding_bits >= noise * MOST_ANSWERS << PARAMETERS.smudging_bits
    assert 1 << (PARAMETERS.needed_bits - 1) > PARAMETERS.final_phase


def test_the_largest_phase_that_fits_is_decoded_and_the_next_is_not():
    scheme = Bgv(cyclotomic_ring(8192, 4), 20)
    edge = scheme.ring.modulus // 2
    low = -(1 << 19)
    for phase in (edge, -edge, 0, 12345):
        assert (scheme.decode(phase % scheme.ring.modulus, low) - phase) % (1 << 20) == 0
    assert (scheme.decode((edge + 1) % scheme.ring.modulus, low) - (edge + 1)) % (1 << 20) != 0


@pytest.mark.parametrize(
    ("largest_code", "rows", "owners", "smudging"), [(1, 30, 3, 40), (600, 320, 5, 64), (1000, 10_000, 10, 64), (2**53, 100 << 20, 100, 64)]
)
def test_what_is_chosen_fits_at_128_bits(largest_code, rows, owners, smudging):
    chosen = choose_row_parameters(largest_code, rows, owners, smudging)
    assert 48 * chosen.primes <= {8192: 218, 16384: 438, 32768: 881}[chosen.degree]
    assert chosen.needed_bits < 48 * chosen.primes
    assert rows * largest_code**2 < 1 << chosen.plaintext_bits


def test_what_does_not_fit_is_refused_with_the_numbers():
    with pytest.raises(
        vs.CapabilityError, match=r"modulus of \d+ bits at degree 32,768, where 128-bit security allows less than 864"
    ) as error:
        choose_row_parameters(2**53, 100 << 20, 100, 700)
    assert error.value.code == "noise_too_large"


def test_insecure_parameters_do_not_exist():
    for changed in ({"primes": 5}, {"degree": 4096}, {"smudging_bits": 39}):
        with pytest.raises(ValueError, match="not secure"):
            RowParameters(**{**{name: getattr(PARAMETERS, name) for name in PARAMETERS.__slots__}, **changed})
