"""Three servers that compute on the owners' totals and open the answer alone (replicated sharing)."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from veilstat.architectures.interface import Noise, Released
from veilstat.language.circuit import Op
from veilstat.language.cut import Cut, entering
from veilstat.language.step import Arrays
from veilstat.protocol.faults import Fault, ProtocolError, violation

from .circuit.analysis import ranges
from .circuit.execute import Executed, execute
from .circuit.ranges import Ranges
from .circuit.traffic import traffic
from .dealing import Dealing, replicated
from .protocols.araki16 import Shares, random_shares
from .protocols.division import HIGHEST, LOWEST, OUT_OF_RANGE, UNDEFINED
from .protocols.field import Field
from .protocols.piecewise import ERROR
from .protocols.prss import Party, Prss
from .protocols.rounds import Protocol
from .rows.execute import execute_rows
from .schemes import Place
from .uploads import UPLOAD_BITS


@dataclass(frozen=True, slots=True)
class Sealed:
    """Replicated sharing among three servers, which compute on the owners' totals and open the answer alone.

    A server's part of the answer is a byte that says whether every system had a unique solution, and its own component
    of every opened integer.
    """

    cut: Cut

    @property
    def field(self) -> Field:
        """The prime field in which nothing of the step can wrap."""
        return _ranges(self.cut).field

    @property
    def dealing(self) -> Dealing:
        return replicated(self.field)

    @property
    def inward(self) -> Cut:
        return _entering(self.cut)

    @property
    def result_bytes(self) -> int:
        return 1 + self.cut.size * self.field.element_bytes

    def passage(self) -> tuple[str, ...]:
        between, count = traffic(_ranges(self.cut)), self.inward.size
        totals = "1 total" if count == 1 else f"{count:,} totals"
        travel = (
            f"each owner sends {totals}, as shares modulo the prime 2^{self.field.exponent} - 1, in which no number on the way can wrap"
        )
        computed = f"each server sends at most {between.rounds:,} messages to the next, {between.payload:,} bytes"
        return (travel, computed) if between.rounds else (travel,)

    def program(self, place: Place, inputs: tuple[Any, ...], public: Arrays, noise: Noise) -> Generator[bytes, bytes, bytes]:
        party = Party(place.index, Prss(place.own_key, place.previous_key))
        executed = yield from self._executed(inputs, public, party)
        return self._part(executed, party, noise)

    def _executed(self, inputs: tuple[Any, ...], public: Arrays, party: Party) -> Protocol[Executed]:
        own, previous = (self.inward.unflatten(component) for component in inputs)
        leaves = {node: Shares(self.field, own[node], previous[node]) for node in own}
        return (yield from execute(_ranges(self.cut), leaves, public, party))

    def _part(self, executed: Executed, party: Party, noise: Noise) -> bytes:
        """The next server knows this one's component. Under a fresh mask from both keys, an analyst who pools with one server
        learns no more of the other two than their sum, and so neither one's noise.
        """
        its, size = self.field, self.cut.size
        mask = random_shares(party, its, (size,))
        noisy = its.add(executed.values.own, its.encode(noise(size)))
        return bytes((executed.solvable,)) + its.to_bytes(its.subtract(its.add(noisy, mask.own), mask.previous))

    def combine(self, survivors: tuple[str, ...], parts: list[bytes]) -> Released:
        field, shape = self.field, (self.cut.size,)
        total = field.encode(np.zeros(shape, dtype=object))
        for part in parts:
            total = field.add(total, field.from_bytes(part[1:], shape))
        rounded = [opening.resolution is not None for opening in self.cut.openings for _ in opening.elements]
        opened = field.decode(total)
        if OUT_OF_RANGE in opened:
            raise _left_bounds(self.cut.iterates)
        found = [_marked(int(value), kept) for value, kept in zip(opened, rounded, strict=True)]
        values = np.array([*found, None], dtype=object)[:-1]
        return Released(values, survivors, all(part[0] == 1 for part in parts))


@dataclass(frozen=True, slots=True)
class SealedRows(Sealed):
    """The same on rows that owners uploaded before: ``inputs`` are this server's parts of their uploads."""

    def passage(self) -> tuple[str, ...]:
        return (
            f"rows stay shared modulo 2^{UPLOAD_BITS}; their totals go on modulo the prime 2^{self.field.exponent} - 1, in which no number on the way can wrap",
            "servers know each owner's policy and how many rows it uploaded, to an eighth; the length of their messages follows from that",
            *self._approximation(),
        )

    def _approximation(self) -> tuple[str, ...]:
        circuits = [
            self.cut.circuit,
            *(node.loop.body for node in self.cut.circuit.nodes if node.loop is not None),
        ]
        names = sorted({node.name for circuit in circuits for node in circuit.nodes if node.op is Op.FUNCTION})
        if not names:
            return ()
        computed = f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} computed by polynomials"
        error = f"2^-{(1 / ERROR).numerator.bit_length() - 1}"
        return (f"on shares {computed}, with an error of at most {error} per row",)

    def _executed(self, inputs: tuple[Any, ...], public: Arrays, party: Party) -> Protocol[Executed]:
        return (yield from execute_rows(_ranges(self.cut), inputs, public, party))


def _left_bounds(iterates: bool) -> ProtocolError:
    """Why all answers are marks: only what an iteration carries has bounds of its own."""
    if iterates:
        return ProtocolError(Fault("RangeError", "diverged", "a value left its declared range: the iteration diverges; use a smaller rate"))
    return ProtocolError(Fault("RangeError", "out_of_range", "an answer exceeds 2^128 units of its resolution; use coarser columns"))


def _marked(value: int, rounded: bool) -> int | float:
    if value == UNDEFINED:
        return math.nan
    if rounded and not LOWEST <= value <= HIGHEST:
        raise violation(
            "impossible_answer",
            "what was opened is no answer that servers can compute, so one of them sent something else than the protocol says; "
            "an answer does not tell which one",
        )
    return value


@lru_cache(maxsize=64)
def _ranges(cut: Cut) -> Ranges:
    return ranges(cut)


@lru_cache(maxsize=64)
def _entering(cut: Cut) -> Cut:
    return entering(cut)
