"""Values of rows as polynomials with integer weights over what was uploaded, for architectures to which rows go protected.

What a term is, a product of uploaded numbers, each says for itself, and what it can do beyond sums and products.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from fractions import Fraction
from math import gcd
from typing import Any, ClassVar, Generic, Protocol, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from veilstat.language.circuit import Circuit, Node, Op

Polynomials: TypeAlias = "npt.NDArray[Any]"
"""An object array of polynomials and integers, of a node's shape."""


class Product(Protocol):
    """What a term must be able to do."""

    def times(self, other: Self) -> Self | None:
        """The product; None where it is 0 in every row."""
        ...


_T = TypeVar("_T", bound=Product)
_P = TypeVar("_P", bound="SparsePolynomial[Any]")


class SparsePolynomial(Generic[_T]):
    """A sum of terms with integer weights; ``+``, ``-`` and ``*`` also with integers. ``one`` is the term of a public integer."""

    __slots__ = ("terms",)
    one: ClassVar[Any]

    def __init__(self, terms: Mapping[_T, int]) -> None:
        self.terms = {term: int(weight) for term, weight in terms.items() if weight}

    @classmethod
    def lifted(cls, value: Self | int) -> Self:
        """A public integer as a polynomial that is constant over all rows; a polynomial as it is."""
        return value if isinstance(value, SparsePolynomial) else cls({cls.one: int(value)})

    def __add__(self, other: Self | int) -> Self:
        terms = dict(self.terms)
        for term, weight in self.lifted(other).terms.items():
            terms[term] = terms.get(term, 0) + weight
        return type(self)(terms)

    __radd__ = __add__

    def __neg__(self) -> Self:
        return type(self)({term: -weight for term, weight in self.terms.items()})

    def __sub__(self, other: Self | int) -> Self:
        return self + -self.lifted(other)

    def __rsub__(self, other: int) -> Self:
        return -self + other

    def __mul__(self, other: Self | int) -> Self:
        terms: dict[_T, int] = {}
        for one, weight in self.terms.items():
            for two, another in self.lifted(other).terms.items():
                product = one.times(two)
                if product is not None:
                    terms[product] = terms.get(product, 0) + weight * another
        return type(self)(terms)

    __rmul__ = __mul__

    @property
    def content(self) -> int:
        """The greatest common divisor of the weights; 1 where there are none."""
        return gcd(*self.terms.values()) or 1

    def divided(self, divisor: int) -> Self:
        """The polynomial divided by a divisor of its content."""
        return type(self)({term: weight // divisor for term, weight in self.terms.items()})


class RowValues(ABC, Generic[_P]):
    """Values of a circuit's nodes as polynomials, each computed when it is first asked for."""

    def __init__(self, circuit: Circuit, zero: _P, known: Mapping[int, Polynomials]) -> None:
        self.circuit, self.zero, self.known = circuit, zero, dict(known)

    def value(self, place: int) -> Polynomials:
        """The polynomials of a node, by its place in the circuit."""
        if place not in self.known:
            self.known[place] = self._value(self.circuit.nodes[place])
        return self.known[place]

    @abstractmethod
    def other(self, node: Node) -> Polynomials:
        """The value of a node that is no sum, product or choice; CapabilityError where the architecture has none."""

    def product(self, node: Node) -> Polynomials:
        """Of two arrays elementwise, or of two matrices."""
        a, b = (self.value(arg) for arg in node.args)
        return np.asarray(a @ b if node.op is Op.MATMUL else a * b, dtype=object)

    def _value(self, node: Node) -> Polynomials:
        match node.op:
            case Op.ADD | Op.SUBTRACT:
                a, b = (self._on_scale(arg, node.scale) for arg in node.args)
                return np.asarray(a + b if node.op is Op.ADD else a - b, dtype=object)
            case Op.MULTIPLY | Op.MATMUL:
                return self.product(node)
            case Op.SUM:
                return single(sum(self._on_scale(node.args[0], node.scale).reshape(-1), start=self.zero))
            case Op.INDEX:
                return np.asarray(self.value(node.args[0]).reshape(-1)[node.places].reshape(node.shape))
            case Op.CONCATENATE:
                return np.concatenate([self._on_scale(arg, node.scale).reshape(-1) for arg in node.args])
            case Op.SELECT:
                condition = self.value(node.args[0])
                if_one, if_zero = (self._on_scale(arg, node.scale) for arg in node.args[1:])
                return np.asarray(if_zero + condition * (if_one - if_zero), dtype=object)
        return self.other(node)

    def _on_scale(self, place: int, scale: Fraction | None) -> Polynomials:
        own = self.circuit.nodes[place].scale
        assert own is not None and scale is not None
        return np.asarray(self.value(place) * int(own / scale), dtype=object)


def single(value: object) -> Polynomials:
    """An array without axes."""
    array = np.empty((), dtype=object)
    array[()] = value
    return array


def objects_of(values: Iterable[object], shape: tuple[int, ...]) -> Polynomials:
    """An array of a shape, whatever its elements are."""
    return np.array([*values, None], dtype=object)[:-1].reshape(shape)
