"""What a cut opens, as sums of inner products of planes: the polynomials of degree two that encrypted rows can answer.

A *term* is a product of at most two planes over the rows in which some columns are present; an opened number is a sum
of totals of terms with integer weights. Everything follows from the circuit and the schema, so that the plan refuses
what a single product of ciphertexts cannot reach.
"""

from __future__ import annotations

from dataclasses import dataclass

from veilstat.architectures.polynomials import Polynomials, RowValues, SparsePolynomial, objects_of, single
from veilstat.errors import CapabilityError
from veilstat.language.circuit import LINEAR, Circuit, Node, Op
from veilstat.language.cut import Cut, Facts
from veilstat.schema.schema import Schema

from .layout import ONE, Mask, Plane, planes_of
from .parameters import RowParameters

_ON_ROWS = frozenset({Op.ADD, Op.SUBTRACT, Op.MULTIPLY, Op.SUM, Op.INDEX, Op.CONCATENATE, Op.EQUAL, Op.SELECT})


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


class Polynomial(SparsePolynomial[Term]):
    """A row's value over planes."""

    __slots__ = ()
    one = Term()


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
        _opened(Polynomial.lifted(value), low, high, parameters) for value, low, high in zip(values, cut.lower, cut.upper, strict=True)
    )


def _opened(polynomial: Polynomial, low: int, high: int, parameters: RowParameters) -> Opened:
    content = polynomial.content
    products = []
    for term, weight in polynomial.divided(content).terms.items():
        if len(term.planes) > 2:
            names = ", ".join(plane.column for plane in term.planes)
            raise CapabilityError(
                f"encrypted rows are multiplied once, and this query needs products of {len(term.planes)} columns ({names}); use entry='totals'",
                code="degree_too_high",
            )
        first, second = (ONE, ONE, *term.planes)[-2:]
        products.append((first, second, term.mask, weight))
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


class _Evaluation(RowValues[Polynomial]):
    """Polynomials of nodes. A node without rows holds totals: the same polynomials, each standing for its sum over rows."""

    def __init__(self, circuit: Circuit, schema: Schema) -> None:
        super().__init__(circuit, Polynomial({}), {})
        self.schema = schema

    def other(self, node: Node) -> Polynomials:
        match node.op:
            case Op.COLUMN:
                return single(self._codes(node.name))
            case Op.PRESENT:
                return single(Polynomial({Term((), frozenset((node.name,))): 1}))
            case Op.ONES:
                return single(Polynomial.lifted(1))
            case Op.CONSTANT:
                return objects_of(node.data, node.shape)
            case Op.INNER:
                left, right = (self.value(arg).reshape(-1) for arg in node.args)
                return objects_of((Polynomial.lifted(a) * b for a in left for b in right), node.shape)
            case Op.EQUAL:
                return self._equal(node)
        raise CapabilityError(
            f"this query needs {node.op.value!r} of rows, which is not computed on encrypted rows; use entry='totals'",
            code="not_on_encrypted_rows",
        )

    def _codes(self, name: str) -> Polynomial:
        return Polynomial({Term((plane,)): max(plane.level, 1) for plane in planes_of(self.schema[name])})

    def _equal(self, node: Node) -> Polynomials:
        """Indicators of levels; whatever else is compared takes more than one product."""
        column, constant = (self.circuit.nodes[arg] for arg in node.args)
        if column.op is not Op.COLUMN or constant.op is not Op.CONSTANT:
            raise _not_compared(column)
        levels = planes_of(self.schema[column.name])
        if not levels[0].level:
            raise _not_compared(column)
        assert column.scale is not None and constant.scale is not None
        codes = [constant.scale * value / column.scale for value in self.value(node.args[1]).reshape(-1)]
        others = [Polynomial({Term((plane,)): 1}) for plane in levels]
        found = {0: 1 - sum(others, start=Polynomial({})), **dict(enumerate(others, start=1))}
        values = [found.get(code, Polynomial({})) if code.denominator == 1 else Polynomial({}) for code in codes]
        return objects_of(values, node.shape)


def _not_compared(column: Node) -> CapabilityError:
    name = str(column.attributes.get("name", "a computed number"))
    return CapabilityError(
        f"encrypted rows are compared with levels of categorical and binary columns only, not {name}; use entry='totals'",
        code="not_on_encrypted_rows",
    )
