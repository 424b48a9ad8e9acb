"""Steps: what is computed, written once, before anyone decides where.

A statistic names its steps as templates and runs as a generator: it yields requests, receives what became clear,
and returns its result. It never learns which architecture answered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from veilstat.errors import RangeError
from veilstat.schema.schema import Schema

from .bounds import Interval
from .circuit import Circuit, Op, Output
from .hoist import hoist
from .trace import Trace, Value

Arrays: TypeAlias = "Mapping[str, npt.NDArray[Any]]"


@dataclass(frozen=True, slots=True)
class WireType:
    """A broadcast or carried array: its shape, its lattice, and bounds on its values."""

    shape: tuple[int, ...]
    scale: Fraction
    lower: Fraction
    upper: Fraction

    @property
    def interval(self) -> Interval:
        """Bounds of the integers on the lattice."""
        return Interval.between(self.lower, self.upper, self.scale)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def integers(self, name: str, value: Any) -> npt.NDArray[np.object_]:
        """``value`` (exact rationals) as integers on the lattice.

        Raises:
            RangeError: it is off the lattice's bounds or shape.
        """
        array = np.asarray(value, dtype=object)
        if array.shape != self.shape:
            raise RangeError(f"public value {name!r} has shape {array.shape}, its step declares {self.shape}", code="bad_public")
        integers = np.array([round(Fraction(element) / self.scale) for element in array.reshape(-1)], dtype=object).reshape(self.shape)
        bounds = self.interval
        if integers.size and not (bounds.low <= integers.min() and integers.max() <= bounds.high):
            raise RangeError(
                f"public value {name!r} left its declared bounds: the iteration diverges; use a smaller rate",
                code="diverged",
            )
        return integers


@dataclass(frozen=True, slots=True)
class Answer:
    """An output of ``combine`` with terms: see ``Output``."""

    value: Value
    resolution: Fraction | None = None
    rooted: bool = False
    determined: bool = False
    guarded: bool = False


Contribution: TypeAlias = "Callable[[Trace, Mapping[str, Value]], Mapping[str, Value]]"
Combine: TypeAlias = "Callable[[Mapping[str, Value], Mapping[str, Value]], Mapping[str, Value | Answer]]"


@dataclass(frozen=True, slots=True)
class Step:
    """A template, known before anything runs.

    Args:
        label: its name within the statistic.
        contribution: from rows (and public values) to totals over them.
        combine: from totals (and public values) to answers: pure arithmetic.
        public: types of what is broadcast when it runs.
        state: types of what an iteration carries. Where there is any, ``combine`` is the body of the iteration: it
            returns the next state under the same names, and ``done`` (1 or 0).
        at_most: openings of a step without state; iterations of one with state.
        final: which parts of the state become clear when an iteration runs behind the wall.
        must_hold: whether an architecture that would open the state of every iteration must refuse the step.
    """

    label: str
    contribution: Contribution
    combine: Combine
    public: Mapping[str, WireType] = field(default_factory=dict)
    state: Mapping[str, WireType] = field(default_factory=dict)
    at_most: int = 1
    final: tuple[str, ...] = ()
    must_hold: bool = False

    @property
    def types(self) -> Mapping[str, WireType]:
        """Types of everything that may be broadcast: public values, and state where it is opened in every iteration."""
        return {**self.public, **self.state}

    def trace(self, schema: Schema, owners: int) -> Circuit:
        """The circuit of one opening: state, where there is any, is broadcast like a public value."""
        return self._trace(Trace(schema, owners), Op.PUBLIC)

    def trace_held(self, schema: Schema, owners: int) -> Circuit:
        """The circuit of the whole iteration as one ITERATE node: for architectures that can hold the state."""
        body = self._trace(Trace(schema, owners), Op.STATE)
        trace = Trace(schema, owners)
        initial = _arrays(trace, Op.PUBLIC, self.state)
        body, totals = hoist(body, trace)
        final = trace.iterate(body, {**initial, **totals}, self.at_most)
        outputs, start = {}, 0
        for name in sorted(self.state):
            wire = self.state[name]
            part = final.take(np.arange(start, start + wire.size).reshape(wire.shape))
            outputs[name] = Output(part.index, wire.scale, determined=name not in self.final)
            start += wire.size
        outputs["done"] = Output(final[start].index, Fraction(1))
        outputs["iterations"] = Output(final[start + 1].index, Fraction(1))
        return trace.finish(outputs)

    def digest(self, circuit: Circuit) -> bytes:
        """SHA-256 of the template: label, circuit, types of public values and state, openings."""
        types = sorted((name, t.shape, t.scale, t.lower, t.upper) for name, t in self.types.items())
        return hashlib.sha256(repr((self.label, circuit.digest, types, self.at_most)).encode()).digest()

    def _trace(self, trace: Trace, carried: Op) -> Circuit:
        given = _arrays(trace, Op.PUBLIC, self.public) | _arrays(trace, carried, self.state)
        answers = self.combine(self.contribution(trace, given), given)
        outputs = {}
        for name, answer in answers.items():
            plain = answer if isinstance(answer, Answer) else Answer(answer)
            outputs[name] = Output(plain.value.index, plain.resolution, plain.rooted, plain.determined, plain.guarded)
        return trace.finish(outputs)


def _arrays(trace: Trace, op: Op, types: Mapping[str, WireType]) -> dict[str, Value]:
    return {name: trace.array(op, name, t.shape, t.scale, t.interval) for name, t in types.items()}


@dataclass(frozen=True, slots=True)
class Request:
    """What a statistic asks for next: a step, its public values, and the first state of an iteration."""

    label: str
    public: Arrays = field(default_factory=dict)
    state: Arrays = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Opened:
    """What became clear: exact rationals by answer's name; determined answers may be absent.

    ``history`` holds the answers of every iteration, where each was opened; ``noise`` the variances of the noise in
    them, where any was added.
    """

    values: Arrays
    contributors: tuple[str, ...]
    iterations: int = 1
    history: tuple[Arrays, ...] = ()
    noise: Arrays = field(default_factory=dict)

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self.values[name]

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def number(self, name: str) -> Any:
        """A single exact number (or nan)."""
        return self.values[name].reshape(-1)[0]
