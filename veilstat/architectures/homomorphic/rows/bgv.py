"""BGV (Brakerski, Gentry, Vaikuntanathan, ePrint 2011/277) for one product of ciphertexts: exact integers modulo 2^k.

A ciphertext is (c0, c1) with c0 + c1 s = m + t e modulo Q, the plaintext modulus t a power of two. A product of two is
pointwise after the number-theoretic transform, so that the noise of sums of products is an identity over integers, and
there is nothing to round. One modulus Q serves from encryption to decryption: of a product nothing more is multiplied.

Keys are shared as in Mouchet et al. (PETS'21), EncKeyGen and RelinKeyGen, with errors that are multiples of t. The
gadget of relinearisation is the decomposition by the primes of Q: digit j of x is x modulo q_j, between -q_j/2 and
q_j/2, and w_j is 1 modulo q_j and 0 modulo the other primes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

from veilstat.architectures.interface import Random

from ..ring import CyclotomicRing, Residues
from ..sampling import error, ternary

Coefficients = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Product:
    """A sum of products (e0, e1, e2), to be decrypted by (1, s, s^2) until it is relinearised; shape (3, primes, degree)."""

    parts: Residues


@dataclass(frozen=True, slots=True)
class Bgv:
    """The scheme with plaintext modulus t = 2^plaintext_bits. Ciphertexts have the shape (2, primes, degree)."""

    ring: CyclotomicRing
    plaintext_bits: int

    def secret(self, random: Random) -> Coefficients:
        """A ternary key, as coefficients."""
        return ternary(self.ring.degree, random)

    def noise(self, random: Random) -> Residues:
        """A fresh error times t."""
        return self.ring.transform(self._reduced_noise(random))

    def public_share(self, common: Residues, secret: Residues, random: Random) -> Residues:
        """A share b = -(a s) + t e of the public key (b, a), for the common polynomial a."""
        return self._subtract(self.noise(random), self.ring.multiply(common, secret))

    def encrypt(self, key: Residues, message: Coefficients, random: Random) -> Residues:
        """(b u + t e0 + m, a u + t e1) under the public key (b, a)."""
        mask = self.ring.from_integers(ternary(self.ring.degree, random))
        first = self.ring.add(self._reduced_noise(random), self.ring.reduce(message))
        return self.ring.multiply_add(key, mask, self.ring.transform(np.stack([first, self._reduced_noise(random)])))

    def relinearisation_first(self, common: Residues, secret: Residues, ephemeral: Residues, random: Random) -> Residues:
        """Round 1 of RelinKeyGen, for every digit j: (-u a_j + s w_j + t e0, s a_j + t e1); shape (2, digits, primes, degree)."""
        digits = range(len(common))
        first = self._subtract(np.stack([self.noise(random) for _ in digits]), self.ring.multiply(common, ephemeral))
        second = self.ring.multiply_add(common, secret, np.stack([self.noise(random) for _ in digits]))
        for digit in digits:
            weighted = np.zeros_like(secret)
            weighted[digit] = secret[digit]
            first[digit] = self.ring.add(first[digit], weighted)
        return np.stack([first, second])

    def relinearisation_second(self, sums: Residues, secret: Residues, ephemeral: Residues, random: Random) -> Residues:
        """Round 2: s h0 + (u - s) h1 + t e for the sums (h0, h1) of round 1; shape (digits, primes, degree)."""
        mixed = self.ring.multiply_add(sums[0], secret, self.ring.multiply(sums[1], self._subtract(ephemeral, secret)))
        # the paper's two errors, one for each summand
        noise = [self.ring.add(self._reduced_noise(random), self._reduced_noise(random)) for _ in range(len(mixed))]
        return self.ring.add(mixed, self.ring.transform(np.stack(noise)))

    def multiply(self, first: Residues, second: Residues) -> Product:
        """The product, by Karatsuba's three multiplications."""
        ring = self.ring
        low, high = ring.multiply(first[0], second[0]), ring.multiply(first[1], second[1])
        crossed = ring.multiply(ring.add(first[0], first[1]), ring.add(second[0], second[1]))
        return Product(np.stack([low, self._subtract(crossed, ring.add(low, high)), high]))

    def total(self, products: Iterable[Product]) -> Product:
        """The sum of products, of which one at a time is held."""
        return reduce(lambda one, other: Product(self.ring.add(one.parts, other.parts)), products)

    def relinearise(self, product: Product, key: Residues) -> Residues:
        """A ciphertext of the same; ``key`` has the shape (2, digits, primes, degree)."""
        result = product.parts[:2]
        for digit, (transform, values) in enumerate(zip(self.ring.transforms, product.parts[2], strict=True)):
            small = centred(transform.inverse(values), transform.prime)
            result = self.ring.multiply_add(key[:, digit], self.ring.from_integers(small), result)
        return result

    def decode(self, phase: int, low: int) -> int:
        """The integer from ``low`` on, below low + t, that a phase modulo Q is congruent to."""
        modulus = self.ring.modulus
        signed = phase % modulus
        signed -= modulus if signed > modulus // 2 else 0
        return low + (signed - low) % (1 << self.plaintext_bits)

    def _reduced_noise(self, random: Random) -> Residues:
        """Its coefficients, not transformed yet."""
        return self.ring.scale(self.ring.reduce(error(self.ring.degree, random)), 1 << self.plaintext_bits)

    def _subtract(self, first: Residues, second: Residues) -> Residues:
        return self.ring.add(first, self.ring.negate(second))


def centred(residues: Residues, prime: int) -> Coefficients:
    """Residues as the integers between -prime/2 and prime/2."""
    signed: Coefficients = residues.astype(np.int64)
    return np.where(signed > prime // 2, signed - prime, signed)
