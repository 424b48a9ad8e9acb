"""Shamir's secret sharing of 32-byte secrets, for many recipients at once (Shamir 1979).

A secret is cut into 13 limbs of 20 bits over the field of p = 2^21 - 9 elements, so small that sharing and
reconstruction are matrix products which float64 computes exactly: t p^2 < 2^53 for t up to 2,048.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

PRIME = 2**21 - 9
_LIMB_BITS = 20
LIMBS = 13
SECRET_BYTES = 32
SHARE_BYTES = 4 * LIMBS
_LARGEST_THRESHOLD = 2048

Random: TypeAlias = "Callable[[int], bytes]"
Shares: TypeAlias = "npt.NDArray[np.uint32]"


def share(secrets: Sequence[bytes], threshold: int, count: int, random: Random) -> Shares:
    """Shares of each secret for holders 1 to ``count``; any ``threshold`` of them reconstruct, fewer know nothing.

    Args:
        secrets: 32 bytes each.
        random: a cryptographic source of bytes.

    Returns:
        Shape (count, len(secrets), 13): row i belongs to the holder at point i + 1.
    """
    if not 1 <= threshold <= min(count, _LARGEST_THRESHOLD) or count >= PRIME:
        raise ValueError(f"a threshold of {threshold} among {count} holders is not possible")
    coefficients = _uniform(threshold * len(secrets) * LIMBS, random).reshape(threshold, -1)
    coefficients[0] = np.concatenate([_limbs(secret) for secret in secrets])
    values = _reduce(_powers(count, threshold) @ coefficients)
    return values.astype(np.uint32).reshape(count, len(secrets), LIMBS)


def reconstruct(points: Sequence[int], shares: Shares) -> list[bytes]:
    """The secrets from the shares of ``threshold`` holders.

    Args:
        points: the holders' points, each once.
        shares: shape (len(points), secrets, 13).

    Returns:
        One 32-byte secret per column; wrong shares give wrong bytes, which the caller must check against a commitment.
    """
    weights = _weights_at_zero(tuple(points))
    values = _reduce(weights[None, :] @ shares.astype(np.float64).reshape(len(points), -1))
    return _bytes(values.reshape(-1, LIMBS))


def _uniform(count: int, random: Random) -> npt.NDArray[np.float64]:
    """Uniform field elements by rejection of the 9 values of 21 bits that are too large."""
    values = np.frombuffer(random(4 * count), dtype="<u4") & np.uint32(2**21 - 1)
    while (rejected := np.flatnonzero(values >= PRIME)).size:
        values[rejected] = np.frombuffer(random(4 * rejected.size), dtype="<u4") & np.uint32(2**21 - 1)
    return values.astype(np.float64)


def _limbs(secret: bytes) -> npt.NDArray[np.float64]:
    if len(secret) != SECRET_BYTES:
        raise ValueError("a secret has 32 bytes")
    number = int.from_bytes(secret, "little")
    return np.array([(number >> (_LIMB_BITS * place)) & (2**_LIMB_BITS - 1) for place in range(LIMBS)], dtype=np.float64)


def _bytes(limbs: npt.NDArray[np.float64]) -> list[bytes]:
    """Rows of 13 limbs as 32 bytes each: two limbs of 20 bits fill five bytes."""
    words = limbs.astype("<u8") & np.uint64(2**_LIMB_BITS - 1)
    pairs = np.concatenate([words, np.zeros((len(words), 1), dtype="<u8")], axis=1)
    fives = (pairs[:, 0::2] | (pairs[:, 1::2] << np.uint64(_LIMB_BITS))).astype("<u8")
    whole = fives.view(np.uint8).reshape(len(words), -1, 8)[:, :, :5].reshape(len(words), -1)
    return [row.tobytes() for row in whole[:, :SECRET_BYTES]]


def _reduce(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    values -= np.floor(values * (1.0 / PRIME)) * PRIME
    values[values < 0] += PRIME
    values[values >= PRIME] -= PRIME
    return values


@lru_cache(maxsize=8)
def _powers(count: int, threshold: int) -> npt.NDArray[np.float64]:
    points = np.arange(1, count + 1, dtype=np.int64)
    powers = np.ones((count, threshold), dtype=np.int64)
    for column in range(1, threshold):
        powers[:, column] = powers[:, column - 1] * points % PRIME
    return powers.astype(np.float64)


@lru_cache(maxsize=8)
def _weights_at_zero(points: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Lagrange coefficients at 0: the product over k != j of x_k / (x_k - x_j)."""
    x = np.array(points, dtype=np.int64)
    if len(set(points)) != len(points) or (x <= 0).any() or (x >= PRIME).any():
        raise ValueError("holders' points must be distinct, from 1 to p - 1")
    numerator, denominator = np.ones_like(x), np.ones_like(x)
    for place, point in enumerate(points):
        difference = (point - x) % PRIME
        factor = np.full_like(x, point)
        difference[place], factor[place] = 1, 1
        numerator = numerator * factor % PRIME
        denominator = denominator * difference % PRIME
    inverses = np.array([pow(int(value), -1, PRIME) for value in denominator], dtype=np.int64)
    return (numerator * inverses % PRIME).astype(np.float64)
