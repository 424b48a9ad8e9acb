"""What makes ciphertexts secure, whatever they hold: the modulus for a degree, and the least smudging."""

from __future__ import annotations

from .ring import PRIME_BITS, element_bytes

SECURE_BITS = {4096: 109, 8192: 218, 16384: 438, 32768: 881}
"""Degree: the largest modulus in bits at 128-bit security (SEAL's table; Albrecht et al., Homomorphic Encryption
Standard, 2018, Table 1, ternary secrets)."""

LEAST_SMUDGING = 40


class Secure:
    """Parameters of ciphertexts; ValueError for more primes than the degree carries at 128-bit security, or for too little smudging."""

    __slots__ = ()
    degree: int
    primes: int
    smudging_bits: int

    def __post_init__(self) -> None:
        if PRIME_BITS * self.primes > SECURE_BITS.get(self.degree, 0) or self.smudging_bits < LEAST_SMUDGING:
            raise ValueError(
                f"degree {self.degree} with {self.primes} primes of {PRIME_BITS} bits and {self.smudging_bits} bits of smudging is not secure"
            )

    @property
    def needed_bits(self) -> int:
        """Bits of a modulus under which everything decrypts, whatever was drawn."""
        raise NotImplementedError

    @property
    def fits(self) -> bool:
        """Whether the modulus, a product of primes that are the largest below 2^48, has more."""
        return self.needed_bits < PRIME_BITS * self.primes

    @property
    def share_bytes(self) -> int:
        """Bytes of one polynomial, such as an owner's share of the public key."""
        return element_bytes(self.degree, self.primes)
