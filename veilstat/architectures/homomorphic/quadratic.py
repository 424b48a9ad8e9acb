"""What a cut opens, as sums of inner products of planes: the polynomials of degree two that encrypted rows can answer.

A *term* is a product of at most two planes over the rows in which some columns are present; an opened number is a sum
of totals of terms with integer weights. Everything follows from the circuit and the schema, so that the plan refuses
what a single product of ciphertexts cannot reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import gcd
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from veilstat.errors import CapabilityError
from veilstat.language.circuit import LINEAR, Circuit, Node, Op
from veilstat.language.cut import Cut, Facts
from veilstat.schema.schema import Schema

from .row_layout import ONE, Mask, Plane, planes_of
from .row_parameters import RowParameters

_ON_ROWS = frozenset({Op.ADD, Op.SUBTRACT, Op.MULTIPLY, Op.SUM, Op.INDEX, Op.CONCATENATE, Op.EQUAL, Op.SELECT})

Polynomials: TypeAlias = "npt.NDArray[Any]"
"""An object array of polynomials and integers, of a node's shape."""


@dataclass(frozen=True, slots=True)
class Term:
    """A product of planes in the rows where all columns of ``mask`` are present."""

    planes: tuple[Plane, ...] = ()
    mask: Mask = frozenset()

    def times(self, other: Term) -> Term | None:
        """The product; None where it is 0 in every row, since a row has one level of a column only."""
        factors: list[Plane] = []
        for plane in sorted(self.planes + other.planes):
            if plane.level and any(former.column == plane.column for former in factors):
                if plane not in factors:
                    return None
                continue
            factors.append(plane)
        return Term(tuple(factors), self.mask | other.mask)


class Polynomial:
    """A sum of terms with integer weights; ``+``, ``-`` and ``*`` also with integers."""

    __slots__ = ("terms",)

    def __init__(self, terms: Mapping[Term, int]) -> None:
        self.terms = {term: int(weight) for term, weight in terms.items() if weight}

    def __add__(self, other: Polynomial | int) -> Polynomial:
        terms = dict(self.terms)
        for term, weight in as_polynomial(other).terms.items():
            terms[term] = terms.get(term, 0) + weight
        return Polynomial(terms)

    __radd__ = __add__

    def __neg__(self) -> Polynomial:
        return self * -1

    def __sub__(self, other: Polynomial | int) -> Polynomial:
        return self + -as_polynomial(other)

    def __rsub__(self, other: int) -> Polynomial:
        return -self + other

    def __mul__(self, other: Polynomial | int) -> Polynomial:
        terms: dict[Term, int] = {}
        for one, weight in self.terms.items():
            for two, another in as_polynomial(other).terms.items():
                product = one.times(two)
                if product is not None:
                    terms[product] = terms.get(product, 0) + weight * another
        return Polynomial(terms)

    __rmul__ = __mul__


def as_polynomial(value: Polynomial | int) -> Polynomial:
    """A public integer as a polynomial that is constant over all rows."""
    return value if isinstance(value, Polynomial) else Polynomial({Term(): int(value)})


@dataclass(frozen=True, slots=True)
class Opened:
    """One number of a cut: ``content`` times the weighted sum of inner products, which alone is decrypted.

    ``products`` lists two planes, a mask and a weight; ``low`` is the smallest that the sum can be.
    """

    products: tuple[tuple[Plane, Plane, Mask, int], ...]
    content: int
    low: int


def supports_rows(facts: Facts) -> bool:
    """Whether an operation may be one of encrypted rows: polynomials of rows, and sums of totals.

    Products of totals with public numbers follow from what is opened.
    """
    if facts.scale is None:
        return False
    return facts.op is Op.INNER or (facts.op in _ON_ROWS if facts.rows else facts.op in LINEAR and all(facts.private))


def opened(cut: Cut, schema: Schema, parameters: RowParameters) -> tuple[Opened, ...]:
    """What a cut opens, in its order.

    Raises:
        CapabilityError: it is no polynomial of degree two of rows, depends on numbers that are known only when the query
            runs, or is wider than the study's parameters carry.
    """
    if cut.broadcast():
        raise CapabilityError(
            f"encrypted rows are not combined with numbers that are known only when a query runs ({', '.join(cut.broadcast())}); use entry='totals'",
            code="not_on_encrypted_rows",
        )
    evaluation = _Evaluation(cut.circuit, schema)
    values = [evaluation.value(opening.node).reshape(-1)[element] for opening in cut.openings for element in opening.elements]
    return tuple(
        _opened(as_polynomial(value), low, high, parameters) for value, low, high in zip(values, cut.lower, cut.upper, strict=True)
    )


def _opened(polynomial: Polynomial, low: int, high: int, parameters: RowParameters) -> Opened:
    content = gcd(*polynomial.terms.values()) or 1
    products = []
    for term, weight in polynomial.terms.items():
        if len(term.planes) > 2:
            names = ", ".join(plane.column for plane in term.planes)
            raise CapabilityError(
                f"encrypted rows are multiplied once, and this query needs products of {len(term.planes)} columns ({names}); use entry='totals'",
                code="degree_too_high",
            )
        first, second = (ONE, ONE, *term.planes)[-2:]
        products.append((first, second, term.mask, weight // content))
    weights = sum(abs(weight) for *_, weight in products)
    smallest = -(-low // content)
    bits = (high // content - smallest).bit_length()
    if weights > 1 << parameters.weight_bits or bits > parameters.plaintext_bits:
        raise CapabilityError(
            f"encrypted rows carry totals of {parameters.plaintext_bits} bits with weights up to 2^{parameters.weight_bits}, and this query needs {bits} bits, "
            f"with noise where it has any, and weights of {weights.bit_length()} bits; use entry='totals'",
            code="too_wide",
        )
    return Opened(tuple(products), content, smallest)


class _Evaluation:
    """Polynomials of nodes. A node without rows holds totals: the same polynomials, each standing for its sum over rows."""

    def __init__(self, circuit: Circuit, schema: Schema) -> None:
        self.circuit, self.schema = circuit, schema
        self.known: dict[int, Polynomials] = {}

    def value(self, place: int) -> Polynomials:
        if place not in self.known:
            self.known[place] = self._value(self.circuit.nodes[place])
        return self.known[place]

    def _value(self, node: Node) -> Polynomials:
        name = str(node.attributes.get("name"))
        match node.op:
            case Op.COLUMN:
                return _single(self._codes(name))
            case Op.PRESENT:
                return _single(Polynomial({Term((), frozenset((name,))): 1}))
            case Op.ONES:
                return _single(as_polynomial(1))
            case Op.CONSTANT:
                return _polynomials(node.attributes["data"]).reshape(node.shape)  # type: ignore[arg-type]
            case Op.ADD | Op.SUBTRACT:
                a, b = (self._on_scale(arg, node.scale) for arg in node.args)
                return np.asarray(a + b if node.op is Op.ADD else a - b, dtype=object)
            case Op.MULTIPLY:
                return np.asarray(self.value(node.args[0]) * self.value(node.args[1]), dtype=object)
            case Op.MATMUL:
                return np.asarray(self.value(node.args[0]) @ self.value(node.args[1]), dtype=object)
            case Op.INNER:
                left, right = (self.value(arg).reshape(-1) for arg in node.args)
                return _polynomials(as_polynomial(a) * b for a in left for b in right).reshape(node.shape)
            case Op.SUM:
                return _single(sum(self._on_scale(node.args[0], node.scale).reshape(-1), start=Polynomial({})))
            case Op.INDEX:
                flat = np.frombuffer(node.attributes["flat"], dtype=np.int64)  # type: ignore[arg-type]
                return np.asarray(self.value(node.args[0]).reshape(-1)[flat].reshape(node.shape))
            case Op.CONCATENATE:
                return np.concatenate([self._on_scale(arg, node.scale).reshape(-1) for arg in node.args])
            case Op.SELECT:
                condition = self.value(node.args[0])
                if_one, if_zero = (self._on_scale(arg, node.scale) for arg in node.args[1:])
                return np.asarray(if_zero + condition * (if_one - if_zero), dtype=object)
            case Op.EQUAL:
                return self._equal(node)
        raise CapabilityError(
            f"this query needs {node.op.value!r} of rows, which is not computed on encrypted rows; use entry='totals'",
            code="not_on_encrypted_rows",
        )

    def _codes(self, name: str) -> Polynomial:
        return Polynomial({Term((plane,)): max(plane.level, 1) for plane in planes_of(self.schema[name])})

    def _on_scale(self, place: int, scale: Fraction | None) -> Polynomials:
        own = self.circuit.nodes[place].scale
        assert own is not None and scale is not None
        return np.asarray(self.value(place) * int(own / scale), dtype=object)

    def _equal(self, node: Node) -> Polynomials:
        """Indicators of levels; whatever else is compared takes more than one product."""
        column, constant = (self.circuit.nodes[arg] for arg in node.args)
        if column.op is not Op.COLUMN or constant.op is not Op.CONSTANT:
            raise _not_compared(column)
        name = str(column.attributes["name"])
        levels = planes_of(self.schema[name])
        if not levels[0].level:
            raise _not_compared(column)
        assert column.scale is not None and constant.scale is not None
        codes = [constant.scale * value / column.scale for value in self.value(node.args[1]).reshape(-1)]
        others = [Polynomial({Term((plane,)): 1}) for plane in levels]
        found = {0: 1 - sum(others, start=Polynomial({})), **dict(enumerate(others, start=1))}
        return _polynomials(found.get(code, Polynomial({})) if code.denominator == 1 else Polynomial({}) for code in codes).reshape(
            node.shape
        )


def _not_compared(column: Node) -> CapabilityError:
    name = str(column.attributes.get("name", "a computed number"))
    return CapabilityError(
        f"encrypted rows are compared with levels of categorical and binary columns only, not {name}; use entry='totals'",
        code="not_on_encrypted_rows",
    )


def _single(value: Polynomial) -> Polynomials:
    array = np.empty((), dtype=object)
    array[()] = value
    return array


def _polynomials(values: Iterable[Polynomial | int]) -> Polynomials:
    return np.array([*values, None], dtype=object)[:-1]
