"""What makes ciphertexts secure, whatever they hold: the modulus for a degree, and the least smudging."""

from __future__ import annotations

from .ring import PRIME_BITS

SECURE_BITS = {4096: 109, 8192: 218, 16384: 438, 32768: 881}
"""Degree: the largest modulus in bits at 128-bit security (SEAL's table; Albrecht et al., Homomorphic Encryption
Standard, 2018, Table 1, ternary secrets)."""

LEAST_SMUDGING = 40


def require_secure(degree: int, primes: int, smudging_bits: int) -> None:
    """ValueError for more primes than the degree carries at 128-bit security, or for too little smudging."""
    if PRIME_BITS * primes > SECURE_BITS.get(degree, 0) or smudging_bits < LEAST_SMUDGING:
        raise ValueError(f"degree {degree} with {primes} primes of {PRIME_BITS} bits and {smudging_bits} bits of smudging is not secure")
