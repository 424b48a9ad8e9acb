"""Rings, keystreams, secret sharing, key agreement: against Python integers and published vectors."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilstat.arithmetic import agreement, shamir
from veilstat.arithmetic.keystream import CHUNK_BYTES, Keystream, counter_mode, fastest_mode, galois_mode
from veilstat.arithmetic.rings import Ring
from veilstat.language.bounds import Interval
from veilstat.language.inner_products import inner

WIDTHS = [32, 64, 128, 192]
big = st.integers(-(2**200), 2**200)


@pytest.mark.parametrize("bits", WIDTHS)
@given(st.lists(st.tuples(big, big), min_size=1, max_size=8))
def test_rings_add_and_subtract_as_integers_modulo_two_to_the_bits(bits, pairs):
    ring, modulus = Ring(bits), 1 << bits
    a, b = ring.encode(np.array([p for p, _ in pairs], dtype=object)), ring.encode(np.array([q for _, q in pairs], dtype=object))
    total, difference = a.copy(), a.copy()
    ring.add(total, b)
    ring.subtract(difference, b)
    assert ring.decode(total, 0).tolist() == [(p + q) % modulus for p, q in pairs]
    assert ring.decode(difference, 0).tolist() == [(p - q) % modulus for p, q in pairs]


@pytest.mark.parametrize("bits", [128, 192, 256])
def test_carries_and_borrows_run_through_any_words(bits):
    ring, modulus = Ring(bits), 1 << bits
    edges = np.array([0, 1, 2**64 - 2, 2**64 - 1], dtype=np.uint64)
    words = np.random.default_rng(bits).choice(edges, size=(2, 2000, ring.limbs))
    p, q = (ring.decode(its, 0) for its in words)
    for operation, expected in ((ring.add, (p + q) % modulus), (ring.subtract, (p - q) % modulus)):
        result = words[0].copy()
        operation(result, words[1])
        assert ring.decode(result, 0).tolist() == expected.tolist()


@pytest.mark.parametrize("count", [32767, 32768, 32769, 70000])
def test_long_vectors_carry_as_short_ones_do(count):
    ring = Ring(128)
    a, b = (ring.from_bytes(os.urandom(16 * count)).copy() for _ in range(2))
    expected = [(p + q) % (1 << 128) for p, q in zip(ring.decode(a, 0), ring.decode(b, 0), strict=True)]
    total = a.copy()
    ring.add(total, b)
    assert ring.decode(total, 0).tolist() == expected
    ring.subtract(total, b)
    assert np.array_equal(total, a)


@pytest.mark.parametrize("bits", WIDTHS)
def test_decoding_is_centred_on_the_declared_bounds(bits):
    ring = Ring(bits)
    values = np.array([-5, 0, 7, -(2**31)], dtype=object)
    assert ring.decode(ring.encode(values), -(2 ** (bits - 1))).tolist() == values.tolist()
    assert ring.decode(ring.encode(values.astype(np.int64)), [-5, 0, 7, -(2**31)]).tolist() == values.tolist()
    assert ring.from_bytes(ring.to_bytes(ring.encode(values))).tolist() == ring.encode(values).tolist()


def test_rings_are_as_narrow_as_the_bits_allow():
    assert [Ring.for_bits(bits).bits for bits in (1, 32, 33, 64, 65, 128, 129)] == [32, 32, 64, 64, 128, 128, 192]
    with pytest.raises(ValueError, match="multiple of 64"):
        Ring(48)


def test_both_modes_give_the_same_keystream_and_it_is_aes_in_counter_mode():
    seed = bytes(range(28))
    streams = []
    for mode in (galois_mode, counter_mode, fastest_mode()):
        vector = np.zeros(CHUNK_BYTES // 4 + 1001, dtype="<u4")
        Keystream(Ring(32), mode).add(vector, seed)
        streams.append(vector.tobytes())
    assert streams[0] == streams[1] == streams[2]
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    block = Cipher(algorithms.AES(seed[:16]), modes.ECB()).encryptor()
    counters = b"".join(seed[16:] + (2 + place).to_bytes(4, "big") for place in range(40))
    assert streams[0][:640] == block.update(counters)


def test_the_keystream_equals_a_published_vector():
    """NIST SP 800-38A, F.5.1 (CTR-AES128), with the counter block split into nonce and counter."""
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    initial = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    plain = bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")
    assert Cipher(algorithms.AES(key), modes.CTR(initial)).encryptor().update(plain).hex() == "874d6191b620e3261bef6864990db6ce"


@pytest.mark.parametrize("bits", WIDTHS)
def test_masks_cancel_and_no_chunk_boundary_shows(bits):
    ring = Ring(bits)
    count = 3 * CHUNK_BYTES // ring.element_bytes + 17
    plain = ring.encode(np.arange(count))
    masked = plain.copy()
    stream = Keystream(ring, fastest_mode())
    stream.add(masked, b"s" * 28)
    assert not (masked.reshape(count, -1) == plain.reshape(count, -1)).all(axis=1).any()
    stream.subtract(masked, b"s" * 28)
    assert np.array_equal(masked, plain)


def test_a_seed_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="28 bytes"):
        Keystream(Ring(32), counter_mode).add(np.zeros(3, dtype="<u4"), b"short")


@settings(max_examples=25)
@given(st.integers(1, 30), st.integers(0, 20), st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=3), st.randoms())
def test_any_threshold_of_shares_reconstructs(threshold, extra, secrets, random):
    count = threshold + extra
    shares = shamir.share(secrets, threshold, count, os.urandom)
    chosen = random.sample(range(count), threshold)
    assert shamir.reconstruct([place + 1 for place in chosen], shares[chosen]) == secrets
    if threshold > 1:
        assert shamir.reconstruct([place + 1 for place in chosen[1:]], shares[chosen[1:]]) != secrets


def test_shares_equal_the_polynomial_in_python_integers():
    stream = iter(os.urandom(1 << 20))
    drawn = []

    def random(count):
        part = bytes(next(stream) for _ in range(count))
        drawn.append(part)
        return part

    shares = shamir.share([bytes(range(32))], 5, 9, random)
    coefficients = np.frombuffer(drawn[0], dtype="<u4") & (2**21 - 1)
    assert (coefficients < shamir.PRIME).all()
    rows = coefficients.reshape(5, 13).astype(object)
    number = int.from_bytes(bytes(range(32)), "little")
    rows[0] = [(number >> (20 * limb)) & (2**20 - 1) for limb in range(13)]
    for holder in range(1, 10):
        expected = [sum(int(rows[j][limb]) * holder**j for j in range(5)) % shamir.PRIME for limb in range(13)]
        assert shares[holder - 1, 0].tolist() == expected


def test_uniform_draws_reject_what_would_bias_them():
    top = (2**21 - 1).to_bytes(4, "little")
    parts = [top * 2, b"\1\0\0\0" * 2]
    assert shamir._uniform(2, lambda count: parts.pop(0)).tolist() == [1, 1]


def test_the_largest_threshold_is_exact():
    secret = os.urandom(32)
    shares = shamir.share([secret], 2048, 2050, os.urandom)
    assert shamir.reconstruct(list(range(3, 2051)), shares[2:]) == [secret]


@pytest.mark.parametrize("points", [(1, 1), (0, 1), (shamir.PRIME, 1)])
def test_bad_points_are_refused(points):
    with pytest.raises(ValueError, match="distinct"):
        shamir.reconstruct(points, np.zeros((2, 1, 13), dtype=np.uint32))


def test_x25519_equals_rfc_7748_section_6_1():
    bob = agreement.KeyPair.from_secret(bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
    alice = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    assert bob.public.hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    assert bob.exchange(alice).hex() == "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"


def test_sealed_boxes_open_for_the_other_holder_alone():
    box = agreement.seal(b"k" * 16, b"n" * 12, b"share", b"context")
    assert agreement.unseal(b"k" * 16, b"n" * 12, box, b"context") == b"share"
    assert agreement.unseal(b"k" * 16, b"n" * 12, box, b"other") is None
    assert agreement.unseal(b"K" * 16, b"n" * 12, box, b"context") is None
    assert agreement.unseal(b"k" * 16, b"n" * 12, box[:-1] + bytes((box[-1] ^ 1,)), b"context") is None


def test_derived_keys_equal_rfc_5869_case_1():
    okm = agreement.derive(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)), 42)
    assert okm.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"


def test_secrets_are_not_in_a_repr():
    pair = agreement.KeyPair.generate(os.urandom)
    assert pair.secret.hex() not in repr(pair)
    assert "private" not in repr(pair)


@settings(max_examples=40)
@given(st.integers(0, 61), st.integers(0, 90), st.integers(1, 40), st.randoms())
def test_exact_products_equal_python_integers(first, second, rows, random):
    def draw(bits):
        values = [[random.randint(-(2**bits), 2**bits) for _ in range(3)] for _ in range(rows)]
        return np.array(values, dtype=object if bits > 61 else np.int64)

    a, b = draw(first), draw(second)
    expected = [[sum(int(a[r][i]) * int(b[r][j]) for r in range(rows)) for j in range(3)] for i in range(3)]
    assert inner(a, b).tolist() == expected


def test_exact_products_over_many_rows():
    generator = np.random.default_rng(0)
    a, b = generator.integers(0, 2**31, (10_000, 2)), generator.integers(-(2**40), 2**40, (10_000, 1))
    assert inner(a, b).tolist() == (a.astype(object).T @ b.astype(object)).tolist()


@given(st.tuples(big, big), st.tuples(big, big), st.integers(0, 1000))
def test_intervals_hold_every_product_and_total(first, second, count):
    (a, b), (c, d) = sorted(first), sorted(second)
    product = Interval.of(a, b).combine(Interval.of(c, d), lambda x, y: x * y)
    assert all(product.low <= x * y <= product.high for x in (a, b) for y in (c, d))
    total = Interval.of(a, b).totalled(count)
    assert total.low <= min(0, a * count)
    assert total.high >= max(0, b * count)
