"""Parameters from the cut: degree, modulus and plaintext primes at 128-bit security, and the noise that they carry.

All bounds are worst cases that hold for every draw, so that what fits decrypts always. With n the degree, N the owners
and B = 21 the largest error, ||x y|| <= n ||x|| ||y|| gives

* fresh(N), the noise of one encryption under the collective key: u e + e0 + e1 s, and 1/2 for rounding the message;
* the sum of N of them;
* smudging in [-2^b, 2^b): b is ``smudging_bits`` more than the sum's bound times the coefficients that are decrypted
  under the key, so that one honest owner's smudging hides the noise within 2^-smudging_bits (statistical distance);
* what the analyst meets: the sum, and every owner's smudging and fresh encryption under the analyst's key.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from veilstat.errors import CapabilityError

from ..ring import PRIME_BITS, element_bytes
from ..sampling import ERROR_BOUND
from ..security import SECURE_BITS, Secure

_WIDEST_PLAINTEXT = 60
_LARGEST_KEY = 15 << 16
"""Bytes: the analyst's key travels in one block of 1 MiB with its request."""


@dataclass(frozen=True, slots=True)
class Parameters(Secure):
    """Of one step. Plaintext primes have ``plaintext_bits`` bits, so together they tell apart 2^bits totals.

    Args:
        degree: n, slots of a ciphertext. primes: of 48 bits, in the ciphertext modulus Q.
        plaintexts: how many plaintext primes. size: integers that are added.
        owners: at most, N. smudging_bits: lambda.
    """

    degree: int
    primes: int
    plaintexts: int
    plaintext_bits: int
    size: int
    owners: int
    smudging_bits: int

    @property
    def blocks(self) -> int:
        """Ciphertexts for each plaintext prime."""
        return max(1, -(-self.size // self.degree))

    @property
    def ciphertexts(self) -> int:
        """Ciphertexts that an owner sends."""
        return self.plaintexts * self.blocks

    @property
    def vector_bytes(self) -> int:
        """Bytes of an owner's ciphertexts, or of its share of their decryption."""
        return 2 * self.ciphertexts * self.share_bytes

    def fresh_noise(self, holders: int) -> int:
        """Bound on the noise of one encryption under the sum of ``holders`` keys."""
        return 2 * self.degree * ERROR_BOUND * holders + ERROR_BOUND + 1

    @property
    def sum_noise(self) -> int:
        """Bound on the noise of the sum over all owners."""
        return self.owners * self.fresh_noise(self.owners)

    @property
    def flooding_bits(self) -> int:
        """b: each share of a decryption is smudged by integers uniform in [-2^b, 2^b)."""
        hidden = self.degree * self.ciphertexts * self.sum_noise
        return self.smudging_bits + (hidden - 1).bit_length()

    @property
    def final_noise(self) -> int:
        """Bound on the noise that the analyst meets."""
        return self.sum_noise + self.owners * ((1 << self.flooding_bits) + self.fresh_noise(1))

    @property
    def needed_bits(self) -> int:
        """Bits of a modulus Q with final_noise < Q / (2 t), so that rounding finds the plaintext."""
        return self.final_noise.bit_length() + 1 + self.plaintext_bits

    @property
    def words(self) -> tuple[str, ...]:
        """For plans: what protects the numbers, and what room the noise has."""
        return (
            f"numbers travel in {self.ciphertexts} BFV ciphertext{'s' * (self.ciphertexts > 1)} of {2 * self.share_bytes:,} bytes: degree {self.degree:,}, "
            f"modulus of {PRIME_BITS * self.primes} bits (128-bit security: at most {SECURE_BITS[self.degree]}), "
            f"{self.plaintexts} plaintext prime{'s' * (self.plaintexts > 1)} of {self.plaintext_bits} bits",
            f"decryptions are smudged by 2^{self.flooding_bits}, {self.smudging_bits} bits more than hides noise of at most "
            f"2^{self.sum_noise.bit_length()}; what the analyst decrypts needs {self.needed_bits} bits of the modulus",
        )


def _candidates(bits: int, size: int, owners: int, smudging_bits: int) -> Iterator[Parameters]:
    for degree, secure in SECURE_BITS.items():
        widest = min(secure // PRIME_BITS, _LARGEST_KEY // element_bytes(degree, 1))
        for plaintexts in range(1, bits // degree.bit_length() + 2):
            needed = max(-(-bits // plaintexts) + 1, narrowest_plaintext(degree, plaintexts))
            # a plaintext prime that divides Q has no inverse modulo it, and at that width they would be the same primes
            plaintext_bits = needed + (needed == PRIME_BITS)
            if plaintext_bits <= _WIDEST_PLAINTEXT:
                for primes in range(1, widest + 1):
                    yield Parameters(degree, primes, plaintexts, plaintext_bits, size, owners, smudging_bits)


def narrowest_plaintext(degree: int, count: int) -> int:
    """Bits from which on there are ``count`` primes that are 1 modulo 2 ``degree``: about one candidate in seven is prime."""
    return degree.bit_length() + 6 + count.bit_length()


@cache
def choose_parameters(bits: int, size: int, owners: int, smudging_bits: int) -> Parameters:
    """The smallest ciphertexts and key that carry ``size`` totals below 2^bits over so many owners.

    Raises:
        CapabilityError: nothing of the table fits; the message has the numbers.
    """
    candidates = list(_candidates(bits, size, owners, smudging_bits))
    fitting = [candidate for candidate in candidates if candidate.fits]
    if not fitting:
        nearest = min(candidates, key=lambda candidate: candidate.needed_bits - PRIME_BITS * candidate.primes)
        raise CapabilityError(
            f"{size:,} totals of {bits} bits over {owners:,} owners with smudging_bits={smudging_bits} need a modulus of {nearest.needed_bits} bits "
            f"at degree {nearest.degree:,}, where 128-bit security and a key of at most {_LARGEST_KEY:,} bytes allow less than {PRIME_BITS * nearest.primes}; "
            "lower smudging_bits (40 or more), or use fewer owners",
            code="noise_too_large",
        )
    return min(fitting, key=lambda candidate: candidate.vector_bytes + candidate.share_bytes)
