"""Whole circuits on uploaded tables: totals of rows, then arithmetic on totals; with rows in every round of an iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from veilstat.language.circuit import Circuit, Op
from veilstat.language.cut import Facts

from ..circuit.execute import Executed, execute
from ..circuit.ranges import Ranges
from ..protocols.araki16 import Shares
from ..protocols.prss import Party
from ..protocols.ring import WIDE
from ..protocols.rounds import Protocol
from ..uploads import UploadedRows
from .totals import row_totals

_ON_ROWS = frozenset(
    {Op.ADD, Op.SUBTRACT, Op.MULTIPLY, Op.MATMUL, Op.SUM, Op.INDEX, Op.CONCATENATE, Op.EQUAL, Op.LESS, Op.SELECT, Op.FUNCTION}
)


def supports_rows(facts: Facts, ring_bits: int) -> bool:
    """Whether servers compute an operation on rows that were shared modulo 2^ring_bits, or a total over them."""
    if facts.op is Op.INNER:
        return facts.bits is not None and facts.bits < ring_bits
    return facts.rows and facts.op in _ON_ROWS and facts.bits is not None and (facts.op is not Op.FUNCTION or ring_bits == WIDE.bits)


def execute_rows(
    known: Ranges, uploads: Sequence[UploadedRows], public: Mapping[str, npt.NDArray[Any]], party: Party
) -> Protocol[Executed]:
    """Run a cut whose entry is rows; see ``execute`` for results.

    Args:
        known: the cut's ranges. uploads: this server's part of every participating owner's table.

    Raises:
        CapabilityError: an operation or a width that servers do not compute on rows, or uploads in too narrow a ring.
    """

    def totals(circuit: Circuit, state: Mapping[int, Shares]) -> Protocol[Mapping[int, Shares]]:
        return (yield from row_totals(party, circuit, _totals_of(circuit), uploads, known.field, public, state))

    leaves = yield from totals(known.circuit, {})
    return (yield from execute(known, leaves, public, party, totals))


def _totals_of(circuit: Circuit) -> tuple[int, ...]:
    """All totals over rows that the outputs depend on."""
    needed = circuit.needed(tuple(output.node for output in circuit.outputs.values()))
    return tuple(place for place in sorted(needed) if circuit.nodes[place].op is Op.INNER)
