"""Loops over residues, compiled by numba when this module is first imported; nothing here allocates or checks its input.

Multiplication by a constant w modulo q follows Shoup: with w' = floor(2^64 w / q), x w - floor(x w' / 2^64) q lies in
[0, 2q) for every word x. The transforms keep residues in [0, 4q) and [0, 2q) between butterflies (Harvey, "Faster
arithmetic for number-theoretic transforms", 2014), so primes have at most 62 bits. A difference modulo 2^64 that wraps
is larger than one that does not: the smaller of x and x - q is x reduced once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types, vectorize
from numba.extending import intrinsic

_word, _words = types.uint64, types.uint64[::1]


def _compiled(compiler: Callable[..., Any], function: Callable[..., Any], signature: Any, **options: Any) -> Any:
    """Machine code, kept beside Python's own where that folder, or the user's cache, can be written."""
    try:
        return compiler(signature, cache=True, **options)(function)
    except RuntimeError:
        return compiler(signature, **options)(function)


def _upper_half(_context: Any, _first: Any, _second: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        first, second = (builder.zext(argument, wide) for argument in arguments)
        return builder.trunc(builder.lshr(builder.mul(first, second), wide(64)), ir.IntType(64))

    return _word(_word, _word), generate


_upper: Any = intrinsic(_upper_half)


def _add(first: Any, second: Any, prime: Any) -> Any:
    total = first + second
    return min(total, total - prime)


def _multiply(first: Any, second: Any, prime: Any) -> Any:
    quotient = np.uint64(np.float64(first) * np.float64(second) / np.float64(prime))
    rest = first * second - quotient * prime
    rest = min(rest, rest + prime)
    return min(rest, rest - prime)


def _multiply_add(first: Any, second: Any, third: Any, prime: Any) -> Any:
    quotient = np.uint64(np.float64(first) * np.float64(second) / np.float64(prime))
    rest = first * second - quotient * prime
    rest = min(rest, rest + prime) + third
    rest = min(rest, rest - prime)
    return min(rest, rest - prime)


def _scale(word: Any, factor: Any, ratio: Any, prime: Any) -> Any:
    rest = word * factor - _upper(word, ratio) * prime
    return min(rest, rest - prime)


def _reduce(integer: Any, prime: Any) -> Any:
    if np.uint64(abs(integer)) < prime:
        return np.uint64(integer) + prime if integer < 0 else np.uint64(integer)
    return np.uint64(integer % np.int64(prime))


def _ratio(factor: Any, prime: Any) -> Any:
    quotient, rest = np.uint64(0), factor
    for _ in range(64):
        rest += rest
        quotient += quotient
        if rest >= prime:
            rest -= prime
            quotient += np.uint64(1)
    return quotient


add = _compiled(vectorize, _add, [_word(_word, _word, _word)])
"""The sum of residues; shapes broadcast, as for all that follow."""
multiply = _compiled(vectorize, _multiply, [_word(_word, _word, _word)])
"""The product of residues modulo a prime of at most 50 bits: a double estimates its quotient to within one."""
multiply_add = _compiled(vectorize, _multiply_add, [_word(_word, _word, _word, _word)])
"""The product of two residues plus a third."""
scale = _compiled(vectorize, _scale, [_word(_word, _word, _word, _word)])
"""Words times a constant that comes with its ratio."""
reduce = _compiled(vectorize, _reduce, [_word(types.int64, _word)])
"""Signed words modulo a prime."""
ratio = _compiled(vectorize, _ratio, [_word(_word, _word)])
"""floor(2^64 factor / prime)."""


def _forward(values: Any, roots: Any, ratios: Any, prime: Any) -> None:
    twice, gap, blocks = prime + prime, len(values) >> 1, 1
    while gap:
        for block in range(blocks):
            root, its_ratio = roots[blocks + block], ratios[blocks + block]
            upper_half = values[2 * block * gap : (2 * block + 1) * gap]
            lower_half = values[(2 * block + 1) * gap : 2 * (block + 1) * gap]
            for place in range(gap):
                first = min(upper_half[place], upper_half[place] - twice)
                second = lower_half[place] * root - _upper(lower_half[place], its_ratio) * prime
                upper_half[place] = first + second
                lower_half[place] = first + twice - second
        gap, blocks = gap >> 1, blocks << 1
    for place in range(len(values)):
        value = min(values[place], values[place] - twice)
        values[place] = min(value, value - prime)


def _inverse(values: Any, roots: Any, ratios: Any, prime: Any, scaling: Any, scaling_ratio: Any) -> None:
    twice, gap, blocks = prime + prime, 1, len(values) >> 1
    while blocks:
        for block in range(blocks):
            root, its_ratio = roots[blocks + block], ratios[blocks + block]
            upper_half = values[2 * block * gap : (2 * block + 1) * gap]
            lower_half = values[(2 * block + 1) * gap : 2 * (block + 1) * gap]
            for place in range(gap):
                total = upper_half[place] + lower_half[place]
                difference = upper_half[place] + twice - lower_half[place]
                upper_half[place] = min(total, total - twice)
                lower_half[place] = difference * root - _upper(difference, its_ratio) * prime
        gap, blocks = gap << 1, blocks >> 1
    for place in range(len(values)):
        value = values[place] * scaling - _upper(values[place], scaling_ratio) * prime
        values[place] = min(value, value - prime)


def _round(total: Any, fractions: Any, residues: Any, factor: Any, factor_ratio: Any, prime: Any, plaintext: Any) -> None:
    whole, part = plaintext // prime, plaintext % prime
    part_ratio = _ratio_word(part, prime)
    for place in range(len(total)):
        weight = residues[place] * factor - _upper(residues[place], factor_ratio) * prime
        weight = min(weight, weight - prime)
        quotient = _upper(weight, part_ratio)
        fractions[place] += np.float64(weight * part - quotient * prime) / np.float64(prime)
        value = total[place] + weight * whole + quotient
        total[place] = min(value, value - plaintext)


_ratio_word = njit(_ratio)

forward = _compiled(njit, _forward, types.void(_words, _words, _words, _word), nogil=True)
"""The negacyclic transform in place: roots in bit-reversed order of their exponents, with their ratios (Cooley, Tukey)."""
inverse = _compiled(njit, _inverse, types.void(_words, _words, _words, _word, _word, _word), nogil=True)
"""The inverse transform in place, scaled by 1 / n (Gentleman, Sande)."""
add_quotients = _compiled(njit, _round, types.void(_words, types.float64[::1], _words, _word, _word, _word, _word), nogil=True)
"""Add one prime q's part of t x / Q: its whole part modulo t to ``total``, the rest to ``fractions``."""
