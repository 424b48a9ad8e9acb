"""BFV (Brakerski; Fan, Vercauteren, ePrint 2012/144) for sums: exact integers in slots, wide ones over several primes.

A vector of integers is reduced modulo each plaintext prime t; residues go into the slots of ciphertexts, and come back by
the Chinese remainder theorem. A ciphertext is (c0, c1) with c0 + c1 s = round(Q m / t) + noise. The message is scaled by
Q / t exactly and not by its floor, so that sums wrap modulo t without adding to the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt

from veilstat.architectures.interface import Random

from ..ring import CyclotomicRing, Residues, Transform, batching_primes, cyclotomic_ring
from ..sampling import error, ternary
from .parameters import Parameters


@dataclass(frozen=True, slots=True)
class Bfv:
    """BFV with one step's parameters. Ciphertexts have the shape (ciphertexts, 2, primes, degree)."""

    parameters: Parameters
    ring: CyclotomicRing
    plaintexts: tuple[Transform, ...] = field(repr=False)

    def secret(self, random: Random) -> npt.NDArray[np.int64]:
        """A ternary key, as coefficients."""
        return ternary(self.parameters.degree, random)

    def public_share(self, common: Residues, secret: Residues, random: Random) -> Residues:
        """A share b = -(a s) + e of the public key (b, a), for the common polynomial a."""
        noise = self.ring.from_integers(error(self.parameters.degree, random))
        return self.ring.multiply_add(self.ring.negate(common), secret, noise)

    def encrypt(self, key: Residues, message: Residues, random: Random) -> Residues:
        """(b u + e0 + message, a u + e1) under the public key (b, a), for the reduced coefficients of a scaled message."""
        degree = self.parameters.degree
        mixing = self.ring.from_integers(ternary(degree, random))
        first = self.ring.add(message, self.ring.reduce(error(degree, random)))
        noise = self.ring.transform(np.stack([first, self.ring.reduce(error(degree, random))]))
        return self.ring.multiply_add(key, mixing, noise)

    def encrypt_vector(self, key: Residues, vector: npt.NDArray[np.object_], random: Random) -> Residues:
        """All ciphertexts of a vector of ``size`` integers."""
        return np.stack([self.encrypt(key, message, random) for message in self.scaled(vector)])

    def scaled(self, vector: npt.NDArray[np.object_]) -> list[Residues]:
        """Reduced coefficients of round(Q m / t) for the plaintext polynomials m of a vector, prime by prime, block by block."""
        modulus, degree, messages = self.ring.modulus, self.parameters.degree, []
        for transform in self.plaintexts:
            prime, half = transform.prime, transform.prime // 2
            inverse = pow(prime, -1, modulus)
            slots = np.zeros(self.parameters.blocks * degree, dtype=np.uint64)
            slots[: len(vector)] = (vector % prime).astype(np.uint64)
            for block in slots.reshape(-1, degree):
                # the rest of (Q m + t / 2) / t; without it the division is exact, and Q vanishes modulo its primes
                rest = (transform.scale(transform.inverse(block), modulus) + np.uint64(half)) % np.uint64(prime)
                messages.append(self.ring.scale(self.ring.reduce(half - rest.astype(np.int64)), inverse))
        return messages

    def decrypt_vector(self, ciphertexts: Residues, secret: Residues, lower: Sequence[int]) -> npt.NDArray[np.object_]:
        """The integers from ``lower`` on that are encrypted, each in a range as wide as the plaintext primes' product."""
        return self._combined(self._slots(ciphertexts, secret), lower)

    def decrypt_total(self, ciphertexts: Residues, secret: Residues, lower: Sequence[int]) -> npt.NDArray[np.object_]:
        """As ``decrypt_vector``; ValueError where slots that carry nothing are not zero: a wrong key, or a wrong share of it."""
        slots = self._slots(ciphertexts, secret)
        if any(residues[self.parameters.size :].any() for residues in slots):
            raise ValueError("ciphertexts that do not decrypt under this key")
        return self._combined(slots, lower)

    def _combined(self, slots: list[Residues], lower: Sequence[int]) -> npt.NDArray[np.object_]:
        product, total = 1, np.zeros(self.parameters.size, dtype=object)
        for transform, residues in zip(self.plaintexts, slots, strict=True):
            step = (residues[: self.parameters.size].astype(object) - total) * pow(product, -1, transform.prime) % transform.prime
            total = total + step * product
            product *= transform.prime
        low = np.array(lower, dtype=object)
        integers: npt.NDArray[np.object_] = low + (total - low) % product
        return integers

    def phase(self, ciphertext: Residues, secret: Residues) -> npt.NDArray[np.object_]:
        """c0 + c1 s, as coefficients in [0, Q)."""
        return self.ring.to_integers(self._phase(ciphertext, secret))

    def _phase(self, ciphertext: Residues, secret: Residues) -> Residues:
        return self.ring.multiply_add(ciphertext[1], secret, ciphertext[0])

    def _slots(self, ciphertexts: Residues, secret: Residues) -> list[Residues]:
        blocks, slots = self.parameters.blocks, []
        for place, transform in enumerate(self.plaintexts):
            values = []
            for ciphertext in ciphertexts[place * blocks : (place + 1) * blocks]:
                values.append(transform.forward(self.ring.quotients(self._phase(ciphertext, secret), transform.prime)))
            slots.append(np.concatenate(values))
        return slots


@cache
def scheme(parameters: Parameters) -> Bfv:
    """The scheme with these parameters, with its tables."""
    primes = batching_primes(parameters.degree, parameters.plaintext_bits, parameters.plaintexts)
    transforms = tuple(Transform.of(parameters.degree, prime) for prime in primes)
    return Bfv(parameters, cyclotomic_ring(parameters.degree, parameters.primes), transforms)
