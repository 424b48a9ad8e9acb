"""Arithmetic on what is shared and what is public alike: a message is sent only where two shared values are multiplied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..protocols.araki16 import Domain, Shares, concatenated, constant, matmul, multiply
from ..protocols.prss import Party
from ..protocols.rounds import Protocol

Integers: TypeAlias = "npt.NDArray[np.object_]"
Value: TypeAlias = "Shares | Integers"
"""An array of shared, or of public, integers."""


def as_shares(party: Party, domain: Domain, value: Value) -> Shares:
    """The value as a sharing."""
    return value if isinstance(value, Shares) else constant(party, domain, value)


def added(party: Party, a: Value, b: Value) -> Value:
    """The sum."""
    if isinstance(a, Shares):
        return a + as_shares(party, a.domain, b)
    if isinstance(b, Shares):
        return as_shares(party, b.domain, a) + b
    return np.asarray(a + b, dtype=object)


def scaled(value: Value, factors: Any) -> Value:
    """The value times public integers."""
    return value.scaled(factors) if isinstance(value, Shares) else np.asarray(value * factors, dtype=object)


def rearranged(value: Value, function: Callable[[Any], Any]) -> Value:
    """The same rearrangement of what is shared or public."""
    return value.rearranged(function) if isinstance(value, Shares) else np.asarray(function(value), dtype=object)


def times(party: Party, a: Value, b: Value) -> Protocol[Value]:
    """Elementwise products; one round where both are shared."""
    if not isinstance(b, Shares):
        return scaled(a, b)
    if not isinstance(a, Shares):
        return scaled(b, a)
    return (yield from multiply(party, a, b))


def matrix_times(party: Party, a: Value, b: Value) -> Protocol[Value]:
    """The product of two matrices; one round where both are shared."""
    if isinstance(a, Shares) and isinstance(b, Shares):
        return (yield from matmul(party, a, b))
    if isinstance(b, Shares):
        return b.left_times(a)
    if isinstance(a, Shares):
        return a.right_times(b)
    return np.asarray(a @ b, dtype=object)


def total(value: Value) -> Value:
    """The sum of all elements."""
    return value.total() if isinstance(value, Shares) else np.asarray(value.sum(), dtype=object)


def joined(party: Party, domain: Domain, values: Sequence[Value]) -> Value:
    """All elements as one vector, shared where any part is."""
    if any(isinstance(value, Shares) for value in values):
        return concatenated([as_shares(party, domain, value) for value in values])
    return np.concatenate([value.reshape(-1) for value in values if not isinstance(value, Shares)])
