"""Totals over the rows of uploaded tables: from planes to shares in the field where the rest of a circuit is computed.

Every owner's rows are computed by themselves, in pieces that fit the memory, and all owners' messages travel together.
Servers add their summands over pieces and owners before they exchange one ring element per total.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import gcd
from typing import Any

import numpy as np
import numpy.typing as npt

from veilstat.architectures.polynomials import Polynomials
from veilstat.errors import CapabilityError
from veilstat.language.bounds import objects
from veilstat.language.circuit import Circuit
from veilstat.language.evaluate import NoRows, evaluate

from ..protocols.araki16 import Domain, Elements, Shares, constant, reshare, split
from ..protocols.conversion import divided, less_than_zero
from ..protocols.floor import open_under_mask
from ..protocols.piecewise import piecewise
from ..protocols.prss import Party
from ..protocols.ring import NARROW, WIDE, RingDomain
from ..protocols.rounds import Protocol, gather
from ..uploads import COUNTED, PRESENT, UploadedRows
from .columns import Columns, summand, summand_of_sums
from .polynomials import REAL, Polynomial, Term
from .symbolic import Function, Sign, Symbols, Weighted, row_values

MOST_ROWS = 1 << 18
_PIECE = 1 << 11
_COUNTED = Polynomial({Term((), REAL): 1})


@dataclass(frozen=True, slots=True)
class Total:
    """How one INNER node is computed: every owner's factors divided by public integers, so that a narrow ring may do.

    Args:
        left, right: per owner the factors' polynomials, real rows only. contents: what their products were divided by.
        symmetric: whether both factors are the same.
    """

    place: int
    left: tuple[tuple[Polynomial, ...], ...]
    right: tuple[tuple[Polynomial, ...], ...]
    contents: npt.NDArray[np.object_]
    ring: RingDomain
    symmetric: bool

    @property
    def counts(self) -> bool:
        """Whether the left factor is 1 in every real row, so that this is a sum of the right one."""
        return all(len(owner) == 1 and owner[0].terms == _COUNTED.terms for owner in self.left)

    def terms(self, owner: int) -> set[Term]:
        """What must be prepared of one owner's rows."""
        right = {term for polynomial in self.right[owner] for term in polynomial.terms}
        if self.counts:
            return {half for term in right for half in (term.split() or (term,))}
        return right | {term for polynomial in self.left[owner] for term in polynomial.terms}


def row_totals(
    party: Party,
    circuit: Circuit,
    places: tuple[int, ...],
    uploads: Sequence[UploadedRows],
    target: Domain,
    public: Mapping[str, npt.NDArray[Any]],
    shared: Mapping[int, Shares],
) -> Protocol[dict[int, Shares]]:
    """Totals over the rows of all uploads, as shares of integers on the nodes' scales.

    Args:
        places: INNER nodes. target: the field of the totals' domain.
        public: broadcast integers by name. shared: shares in ``target`` of nodes without rows that rows depend on (state).

    Raises:
        CapabilityError: an operation or a width that servers do not compute on rows, or uploads in too narrow a ring.
    """
    wide = yield from _into_ring(party, circuit, shared)
    symbols = [Symbols(upload.planes) for upload in uploads]
    known = _public_nodes(circuit, places, public, frozenset(shared))
    factors = tuple(dict.fromkeys(arg for place in places for arg in circuit.nodes[place].args))
    values = [row_values(circuit, factors, own, known, wide) for own in symbols]
    totals = [_total(circuit, place, values) for place in places]
    _require_ring(uploads, totals, symbols)
    summands = yield from gather(
        _owner(party, upload, own, owner, totals) for owner, (upload, own) in enumerate(zip(uploads, symbols, strict=True))
    )
    in_narrow, in_wide = yield from gather(_converted(party, circuit, ring, totals, summands, target) for ring in (NARROW, WIDE))
    return {**in_narrow, **in_wide}


def _into_ring(party: Party, circuit: Circuit, shared: Mapping[int, Shares]) -> Protocol[dict[int, Shares]]:
    """Protected numbers from the field into the wide ring, by opening them under masks; one round."""
    masked = yield from gather(open_under_mask(party, shares, circuit.nodes[place].bits or 0) for place, shares in shared.items())
    return {
        place: constant(party, WIDE, under.opened) - Shares(WIDE, WIDE.encode(under.own), WIDE.encode(under.previous))
        for place, under in zip(shared, masked, strict=True)
    }


def _public_nodes(
    circuit: Circuit, places: tuple[int, ...], public: Mapping[str, npt.NDArray[Any]], shared: frozenset[int]
) -> dict[int, npt.NDArray[Any]]:
    """Nodes without rows that row nodes read and that are public."""
    needed = circuit.needed(places, stop=shared)
    read = {arg for place in needed if circuit.nodes[place].rows for arg in circuit.nodes[place].args if not circuit.nodes[arg].rows}
    values = evaluate(circuit, tuple(sorted(read - shared)), rows=NoRows(), inputs=public, known={})
    return {place: objects(value) for place, value in values.items()}


def _total(circuit: Circuit, place: int, values: Sequence[Mapping[int, Polynomials]]) -> Total:
    """An INNER node over the polynomials of every owner's rows; padding counts as 0 from here on."""
    node = circuit.nodes[place]
    sides, contents = [], []
    for arg in node.args:
        polynomials = [[Polynomial.lifted(value) * _COUNTED for value in own[arg].reshape(-1)] for own in values]
        content = [gcd(*(value.content for value in column if value.terms)) or 1 for column in zip(*polynomials, strict=True)]
        sides.append(tuple(tuple(value.divided(divisor) for value, divisor in zip(own, content, strict=True)) for own in polynomials))
        contents.append(np.array(content, dtype=object))
    outer = np.multiply.outer(*contents)
    assert node.bounds is not None
    dense = node.bounds.dense(node.shape)
    ends = zip(dense.lower.reshape(-1), dense.upper.reshape(-1), outer.reshape(-1), strict=True)
    bits = max((max(abs(low), abs(high)) // divisor for low, high, divisor in ends), default=0).bit_length() + 1
    if bits >= WIDE.bits:
        raise CapabilityError(
            f"a total of rows needs {bits} bits, at most {WIDE.bits - 1} are possible; coarsen the columns' steps", code="too_wide"
        )
    return Total(place, sides[0], sides[1], outer, NARROW if bits < NARROW.bits else WIDE, node.args[0] == node.args[1])


def _require_ring(uploads: Sequence[UploadedRows], totals: Sequence[Total], symbols: Sequence[Symbols]) -> None:
    functions = any(not isinstance(definition, Sign) for own in symbols for definition in own.definitions[len(own.planes) :])
    if (functions or any(total.ring == WIDE for total in totals)) and any(upload.header.ring_bits < WIDE.bits for upload in uploads):
        raise CapabilityError(
            "this query needs rows shared modulo 2^128, and an owner's are shared modulo 2^64; upload them again", code="narrow_ring"
        )


def _owner(party: Party, upload: UploadedRows, symbols: Symbols, owner: int, totals: Sequence[Total]) -> Protocol[list[Elements]]:
    """The summands that a server has of one owner's totals, piece by piece."""
    flags = {plane.column: place for place, plane in enumerate(upload.planes) if plane.kind in (COUNTED, PRESENT)}
    sums: list[Elements] = []
    for start in range(0, upload.header.rows, MOST_ROWS):
        columns = Columns(party, upload.words[..., start : start + MOST_ROWS], flags, partial(_compute, party, symbols))
        for ring in (WIDE, NARROW):
            terms = dict.fromkeys(term for total in totals if total.ring == ring for term in sorted(total.terms(owner), key=_order))
            yield from columns.prepare(terms, ring)
        piece = [_summand(columns, total, owner) for total in totals]
        sums = [total.ring.add(one, other) for total, one, other in zip(totals, sums, piece, strict=True)] if sums else piece
    return sums


def _summand(columns: Columns, total: Total, owner: int) -> Elements:
    """The summand of one total over the rows of ``columns``: shape (p, q)."""
    ring = total.ring
    if total.counts:
        return _counted(columns, total.right[owner], ring)[None, :]
    left = [columns.combined(polynomial, ring) for polynomial in total.left[owner]]
    right = left if total.symmetric else [columns.combined(polynomial, ring) for polynomial in total.right[owner]]
    return summand(ring, left, right)


def _counted(columns: Columns, polynomials: Sequence[Polynomial], ring: RingDomain) -> Elements:
    """Summands of the sums of polynomials over rows; the last product of each term is summed, never sent."""
    sums: dict[Term, Elements] = {}
    weights: dict[Term, list[Term]] = {}
    for term in dict.fromkeys(term for polynomial in polynomials for term in polynomial.terms):
        halves = term.split()
        if halves is None:
            sums[term] = summand_of_sums(ring, [columns.column(term, ring)])[0]
        else:
            weights.setdefault(halves[1], []).append(term)
    for weight, terms in weights.items():
        left = [columns.column((term.split() or (term,))[0], ring) for term in terms]
        products = summand(ring, left, [columns.column(weight, ring)])
        sums.update(zip(terms, products[:, 0], strict=True))
    result = ring.encode(np.zeros(len(polynomials), dtype=np.int64))
    for place, polynomial in enumerate(polynomials):
        for term, factor in polynomial.terms.items():
            part = ring.multiply(np.asarray(sums[term]), ring.encode(np.array([factor], dtype=object)))
            result[place : place + 1] = ring.add(result[place : place + 1], part)
    return result


def _converted(
    party: Party, circuit: Circuit, ring: RingDomain, totals: Sequence[Total], summands: Sequence[list[Elements]], target: Domain
) -> Protocol[dict[int, Shares]]:
    """All totals of one ring, from the summands of every owner's rows into the target."""
    chosen = [place for place, total in enumerate(totals) if total.ring == ring]
    if not chosen:
        return {}
    parts = [_flat(totals[place], ring, [own[place] for own in summands]) for place in chosen]
    shares = yield from reshare(party, ring, np.concatenate(parts))
    exact = split((yield from divided(party, shares, 0, target)), [part.shape for part in parts])
    return {totals[place].place: _shaped(circuit, totals[place], part) for place, part in zip(chosen, exact, strict=True)}


def _flat(total: Total, ring: RingDomain, summands: Sequence[Elements]) -> Elements:
    """All owners' summands together, of a symmetric total its upper triangle."""
    added = ring.sum(np.stack(summands), 0)
    return added[np.triu_indices(len(added))] if total.symmetric else added.reshape(-1)


def _shaped(circuit: Circuit, total: Total, shares: Shares) -> Shares:
    """The totals in the node's shape, on its scale."""
    size = total.contents.shape
    if total.symmetric:
        upper = np.zeros(size, dtype=np.int64)
        upper[np.triu_indices(size[0])] = np.arange(len(shares.own))
        shares = shares[np.maximum(upper, upper.T)]
    return shares.reshape(size).scaled(total.contents).reshape(circuit.nodes[total.place].shape)


def _compute(party: Party, symbols: Symbols, place: int, columns: Columns, ring: RingDomain) -> Protocol[Shares]:
    """A factor that is not uploaded."""
    definition = symbols.definitions[place]
    match definition:
        case Sign(operand, bits):
            yield from columns.prepare(operand.terms, NARROW)
            return (yield from less_than_zero(party, columns.combined(operand, NARROW), bits, ring))
        case Weighted(operands, weights):
            yield from columns.prepare([term for operand in operands for term in operand.terms], WIDE)
            pieces = (columns.between(start, start + _PIECE) for start in range(0, columns.rows, _PIECE))
            cross = np.concatenate([_weighted(piece, operands, weights) for piece in pieces])
            return (yield from reshare(party, WIDE, cross))
        case Function(name, operand, scale, bits):
            yield from columns.prepare(operand.terms, WIDE)
            return (yield from piecewise(party, name, columns.combined(operand, WIDE), scale, bits, ring))
    raise AssertionError(definition)


def _weighted(columns: Columns, operands: Sequence[Polynomial], weights: Shares) -> Elements:
    """The summand that this server has of each row's sum of operands times shared weights."""
    parts = [columns.combined(operand, WIDE) for operand in operands]
    previous = np.stack([part.previous for part in parts])
    both = WIDE.add(np.stack([part.own for part in parts]), previous)
    weighted = WIDE.weighted_sums(WIDE.add(weights.own, weights.previous)[None], both)
    return np.asarray(WIDE.subtract(weighted, WIDE.weighted_sums(weights.previous[None], previous))[0])


def _order(term: Term) -> tuple[tuple[int, ...], tuple[str, ...]]:
    return tuple(factor.place for factor in term.factors), tuple(sorted(term.flags))
