"""How many masked vectors are added: here, one after the other, unless the server was given another way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from veilstat.arithmetic.rings import Elements, Ring


class VectorSum(Protocol):
    """A sum of vectors that arrive one after the other. They are masked, so whoever adds them learns nothing."""

    def add(self, vector: memoryview) -> None:
        """Add a little-endian vector, whose length is right; it may be kept until the total is asked for."""
        ...

    def total(self) -> Elements:
        """The sum of all, asked for once."""
        ...


Addition: TypeAlias = "Callable[[Ring, int], VectorSum]"
"""Begins a sum of vectors of so many elements of a ring, at zero."""


class SumHere:
    """A sum in this process; nothing is kept but the sum."""

    def __init__(self, ring: Ring, length: int) -> None:
        self._ring, self._total = ring, ring.zeros(length)

    def add(self, vector: memoryview) -> None:
        self._ring.add(self._total, self._ring.from_bytes(vector))

    def total(self) -> Elements:
        return self._total
