"""An openly insecure backend that multiplies, compares, solves and holds iteration state: for tests of the waist.

Owners upload their rows as they are and a server computes on them in the clear, up to the last exit wall that the
circuit allows. It protects nothing. It exists so that every statistic is exercised with an exit wall behind the
estimates from the first day, before architectures that can really do so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from veilstat.architectures.interface import (
    Architecture,
    Contribution,
    Random,
    Released,
    RoundCost,
    StepBinding,
    StepCost,
    Trust,
)
from veilstat.architectures.relay import RESULT, AwaitTotal, encode_total
from veilstat.language.circuit import Op
from veilstat.language.cut import Cut, Entry, Facts
from veilstat.language.evaluate import SingularMatrix, evaluate
from veilstat.protocol.faults import violation
from veilstat.protocol.session import Message, Session, Turn
from veilstat.schema.columns import Codes
from veilstat.schema.encoding import round_half_up, rounded_root
from veilstat.statistics.solve import solve

UPLOAD = "upload"
_ROUNDS = (UPLOAD, RESULT)
_WIDTH = 64
_UNDEFINED = -(1 << (8 * _WIDTH - 1))


@dataclass(frozen=True, slots=True)
class ToyArithmetic(Architecture):
    """Computes on pooled plain rows. Insecure on purpose.

    Args:
        max_rows: the schema's, since uploads are padded to it.
    """

    max_rows: int

    name: ClassVar[str] = "toy"
    entry: ClassVar[Entry] = Entry.ROWS
    rounds: ClassVar[tuple[str, ...]] = (UPLOAD,)
    input_round: ClassVar[str] = UPLOAD

    def supports(self, facts: Facts) -> bool:
        """Everything."""
        return True

    def trust(self, owners: tuple[str, ...]) -> Trust:
        return Trust(
            1, len(owners), ("nothing is protected: the server sees every row; for tests of veilstat itself only",), ("analyst", "server")
        )

    def cost(self, cut: Cut, owners: tuple[str, ...]) -> StepCost:
        upload = self.max_rows * (1 + 9 * len(cut.columns()))
        return StepCost({owner: (RoundCost(UPLOAD, upload, 0),) for owner in owners}, 0)

    def describe(self) -> Mapping[str, str | int]:
        return {"name": self.name, "max_rows": self.max_rows}

    def owner(self, binding: StepBinding, contribution: Contribution, random: Random) -> Session:
        message = Message(UPLOAD, binding.server, self._pack(binding.cut.columns(), contribution))
        return binding.session(_ROUNDS, Turn((message,), None, binding.participants))

    def server(self, binding: StepBinding) -> Session:
        first = _Pool(frozenset(binding.participants), self.max_rows, binding)
        return binding.session(_ROUNDS, Turn((), first))

    def analyst(self, binding: StepBinding, secret: bytes) -> Session:
        def release(survivors: tuple[str, ...], raw: memoryview) -> Released:
            values = [int.from_bytes(raw[1 + place * _WIDTH :][:_WIDTH], "little", signed=True) for place in range(binding.cut.size)]
            plain = np.array([math.nan if value == _UNDEFINED else value for value in values], dtype=object)
            return Released(plain, survivors, bool(raw[0]))

        waiting = AwaitTotal(binding.server, binding.participants, 1 + _WIDTH * binding.cut.size, release)
        return binding.session(_ROUNDS, Turn((), waiting))

    def _pack(self, columns: tuple[str, ...], contribution: Contribution) -> bytes:
        count = len(contribution.rows)
        counted = np.zeros(self.max_rows, dtype=np.uint8)
        counted[:count] = 1
        parts = [counted.tobytes()]
        blocks = [block for _, block in contribution.rows.blocks()]
        for name in columns:
            codes, present = np.zeros(self.max_rows, dtype="<i8"), np.zeros(self.max_rows, dtype=np.uint8)
            codes[:count] = np.concatenate([block[name][0] for block in blocks]) if blocks else 0
            present[:count] = np.concatenate([block[name][1] for block in blocks]) if blocks else 0
            parts += [codes.tobytes(), present.tobytes()]
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class _PooledRows:
    """Everybody's rows, in the clear."""

    columns: dict[str, Codes]
    count: int

    def __len__(self) -> int:
        return self.count

    def blocks(self) -> Iterator[tuple[int, Mapping[str, Codes]]]:
        yield self.count, self.columns


@dataclass(frozen=True, slots=True)
class _Pool:
    senders: frozenset[str]
    max_rows: int
    binding: StepBinding
    uploads: dict[str, bytes] = field(default_factory=dict, repr=False)
    name: ClassVar[str] = UPLOAD
    quorum: ClassVar[int] = 1

    @property
    def largest(self) -> int:
        return self.max_rows * (1 + 9 * len(self.binding.cut.columns()))

    def take(self, sender: str, payload: memoryview) -> None:
        if len(payload) != self.largest:
            raise violation("malformed", f"{sender!r} uploaded rows of the wrong length", sender)
        self.uploads[sender] = bytes(payload)

    def close(self) -> Turn:
        cut = self.binding.cut
        survivors = tuple(sorted(self.uploads))
        places = tuple(opening.node for opening in cut.openings)
        try:
            values = evaluate(cut.circuit, places, rows=self._rows(survivors), inputs=self.binding.public, known={}, solve=solve)
            solvable, integers = True, _rounded(cut, values)
        except SingularMatrix:
            nodes = cut.circuit.nodes
            plain = tuple(place for place in places if nodes[place].scale is not None and not cut.circuit.contains(Op.SOLVE, (place,)))
            values = {place: np.zeros(nodes[place].shape, dtype=object) for place in places}
            values |= evaluate(cut.circuit, plain, rows=self._rows(survivors), inputs=self.binding.public, known={})
            solvable, integers = False, _rounded(cut, values)
        raw = bytes((solvable,)) + b"".join(value.to_bytes(_WIDTH, "little", signed=True) for value in integers)
        return Turn((Message(RESULT, self.binding.analyst, encode_total(survivors, raw)),), None, survivors)

    def _rows(self, survivors: tuple[str, ...]) -> _PooledRows:
        names, size = self.binding.cut.columns(), self.max_rows
        kept = {owner: np.frombuffer(self.uploads[owner][:size], dtype=np.uint8).astype(bool) for owner in survivors}
        columns: dict[str, Codes] = {}
        for place, name in enumerate(names):
            start = size + place * 9 * size
            codes = [np.frombuffer(self.uploads[o][start : start + 8 * size], dtype="<i8")[kept[o]] for o in survivors]
            present = [np.frombuffer(self.uploads[o][start + 8 * size : start + 9 * size], dtype=np.uint8)[kept[o]] for o in survivors]
            columns[name] = (np.concatenate(codes).astype(np.int64), np.concatenate(present).astype(bool))
        return _PooledRows(columns, int(sum(flags.sum() for flags in kept.values())))


def _rounded(cut: Cut, values: dict[int, npt.NDArray[Any]]) -> list[int]:
    integers: list[int] = []
    for opening in cut.openings:
        flat = values[opening.node].reshape(-1)
        resolution = opening.resolution or Fraction(1)
        for element in opening.elements:
            value = flat[element]
            if value != value:
                integers.append(_UNDEFINED)
                continue
            exact = Fraction(int(value) if isinstance(value, np.integer) else value)
            integers.append(rounded_root(exact, resolution) if opening.rooted else round_half_up(exact / resolution))
    return integers
