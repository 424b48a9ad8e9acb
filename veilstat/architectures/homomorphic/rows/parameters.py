"""Parameters of encrypted rows, from the schema: what an epoch's key can carry at 128-bit security, before anything is uploaded.

All bounds are worst cases that hold for every draw, so that what fits decrypts always. With n the degree, N the owners,
t the plaintext modulus, B = 21 the largest error and L primes q < 2^48 in Q, ||x y|| <= n ||x|| ||y|| gives

* fresh = 2 n B N + B, the noise of one encryption: e u + e0 + e1 s for s and e sums over owners;
* ||phase of a column|| <= M + t fresh, where no number of a row exceeds M;
* ||phase of a total|| <= K n (M + t fresh)^2 + t L n (q / 2) (2 n N^2 B + 2 N B): K products, one relinearisation with
  a key whose errors are s E0 + u E1 + E2;
* an answer combines totals with weights whose magnitudes add up to 2^weight_bits at most, N encryptions of zero, and noise that the
  plaintext modulus leaves room for;
* smudging by t times integers uniform in [-2^b, 2^b): b is ``smudging_bits`` more than the noise times the answers of
  an epoch, so that one honest owner's smudging hides the noise of all of them within 2^-smudging_bits;
* an answer decrypts if |its phase + N t 2^b| < Q / 2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from veilstat.errors import CapabilityError

from ..ring import PRIME_BITS
from ..sampling import ERROR_BOUND
from ..security import SECURE_BITS, Secure

MOST_ANSWERS = 1 << 20
"""Numbers that are decrypted under one key; then owners make another and upload again."""

_SPARE_BITS = 2
_LEAST_WEIGHT_BITS = 16
_DEGREES = (8192, 16384, 32768)


@dataclass(frozen=True, slots=True)
class RowParameters(Secure):
    """Of one study.

    Args:
        degree: n. primes: of 48 bits, L. plaintext_bits: t = 2^plaintext_bits, wider than any total of the study, with what room
            for noise the ciphertexts leave.
        largest: M. rows: of all owners together, at most. owners: N. smudging_bits: lambda.
    """

    degree: int
    primes: int
    plaintext_bits: int
    largest: int
    rows: int
    owners: int
    smudging_bits: int

    @property
    def ciphertext_bytes(self) -> int:
        return 2 * self.share_bytes

    @property
    def answer_bytes(self) -> int:
        """Bytes of one integer modulo Q."""
        return PRIME_BITS * self.primes // 8

    @property
    def weight_bits(self) -> int:
        """Bits of the weights of an answer together: products of columns about the middles of their bounds weigh up to (M + 2)^2."""
        return max(_LEAST_WEIGHT_BITS, 2 * (self.largest + 2).bit_length())

    @property
    def fresh_noise(self) -> int:
        """Bound on the noise of one encryption, in multiples of t."""
        return 2 * self.degree * ERROR_BOUND * self.owners + ERROR_BOUND

    @property
    def column_phase(self) -> int:
        """Bound on the phase of one uploaded ciphertext."""
        return self.largest + (self.fresh_noise << self.plaintext_bits)

    @property
    def relinearisation_noise(self) -> int:
        """Bound on what a relinearisation adds, in multiples of t."""
        key_error = 2 * self.degree * self.owners**2 * ERROR_BOUND + 2 * self.owners * ERROR_BOUND
        return self.primes * self.degree * (1 << (PRIME_BITS - 1)) * key_error

    def total_phase(self, products: int) -> int:
        """Bound on the phase of a relinearised sum of products of uploaded ciphertexts."""
        return products * self.degree * self.column_phase**2 + (self.relinearisation_noise << self.plaintext_bits)

    @property
    def answer_phase(self) -> int:
        """Bound on the phase of an answer before smudging; a product holds at least one row."""
        zeros_and_noise = self.owners * self.fresh_noise + 1 << self.plaintext_bits
        return (self.total_phase(self.rows) << self.weight_bits) + zeros_and_noise

    @property
    def flooding_bits(self) -> int:
        """b: each share of an answer is smudged by t times an integer uniform in [-2^b, 2^b)."""
        noise = (self.answer_phase >> self.plaintext_bits) + 1
        return self.smudging_bits + (noise * MOST_ANSWERS - 1).bit_length()

    @property
    def final_phase(self) -> int:
        """Bound on the phase that the analyst meets."""
        return self.answer_phase + (self.owners << (self.plaintext_bits + self.flooding_bits))

    @property
    def needed_bits(self) -> int:
        """Bits of a modulus Q with final_phase < Q / 2."""
        return self.final_phase.bit_length() + 1

    @property
    def words(self) -> tuple[str, ...]:
        """For plans: what protects the numbers, and what room the noise has."""
        return (
            f"rows lie with the cloud in BGV ciphertexts of {self.ciphertext_bytes:,} bytes: degree {self.degree:,}, modulus of "
            f"{PRIME_BITS * self.primes} bits (128-bit security: at most {SECURE_BITS[self.degree]}), plaintext modulus 2^{self.plaintext_bits}",
            f"answers are smudged by multiples up to 2^{self.flooding_bits} of the plaintext modulus, {self.smudging_bits} bits more than hides "
            f"{MOST_ANSWERS:,} answers' noise; they need {self.needed_bits} bits of the modulus",
            f"after {MOST_ANSWERS:,} answers owners make a new key and upload again",
        )

    @property
    def passage(self) -> str:
        """For plans: how a step's numbers travel."""
        return f"each number travels as integers of {PRIME_BITS * self.primes} bits, sealed to the analyst, with one encryption of zero for all"


@cache
def choose_row_parameters(largest: int, rows: int, owners: int, smudging_bits: int) -> RowParameters:
    """The smallest ciphertexts that carry totals over so many rows of products of two numbers up to ``largest``.

    What they leave of the modulus widens the plaintext modulus, for noise.

    Raises:
        CapabilityError: nothing of the table fits; the message has the numbers.
    """
    plaintext_bits = (rows * largest**2).bit_length() + _SPARE_BITS
    candidates = [
        RowParameters(degree, primes, plaintext_bits, largest, rows, owners, smudging_bits)
        for degree in _DEGREES
        for primes in range(1, SECURE_BITS[degree] // PRIME_BITS + 1)
    ]
    fitting = [candidate for candidate in candidates if candidate.fits]
    if not fitting:
        nearest = candidates[-1]
        raise CapabilityError(
            f"encrypted rows: {owners:,} owners, {rows:,} rows, totals of {plaintext_bits} bits and smudging_bits={smudging_bits} need a modulus of "
            f"{nearest.needed_bits} bits at degree {nearest.degree:,}, where 128-bit security allows less than {PRIME_BITS * nearest.primes}; "
            "coarsen the columns' steps, lower max_rows, lower smudging_bits (40 or more), or use entry='totals'",
            code="noise_too_large",
        )
    chosen = min(fitting, key=lambda candidate: candidate.share_bytes)
    while (wider := replace(chosen, plaintext_bits=chosen.plaintext_bits + 1)).fits:
        chosen = wider
    return chosen
