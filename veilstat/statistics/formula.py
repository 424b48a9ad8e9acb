"""Model formulas: ``y ~ a + C(b) + a:C(b) + I(x**2) - 1`` becomes a list of terms. Parsed, never evaluated.

Operators are ``+ - : *`` with their usual meaning (``a*b`` is ``a + b + a:b``), ``0`` and ``1`` stand for the
intercept. Terms are ordered and named as statsmodels does: terms without numeric factors first, then by the
numeric factors that they contain, each group by degree.
"""

from __future__ import annotations

import ast
import io
import tokenize
from dataclasses import dataclass
from fractions import Fraction

from veilstat.errors import CapabilityError, SchemaError
from veilstat.schema.columns import Categorical
from veilstat.schema.encoding import exact
from veilstat.schema.quoting import quoted
from veilstat.schema.schema import Schema

LONGEST = 10_000
MOST_TERMS = 1000
MOST_CATEGORIES = 10
LARGEST_CENTRE = 2**53


@dataclass(frozen=True, slots=True)
class Numeric:
    """(column - centre) ** power."""

    name: str
    column: str
    power: int = 1
    centre: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class Category:
    """The levels of a column, one of them (by its code) for reference."""

    name: str
    column: str
    levels: tuple[object, ...]
    reference: int


Factor = Numeric | Category
Term = tuple[Factor, ...]


@dataclass(frozen=True, slots=True)
class Formula:
    """A response and terms; the empty term is the intercept."""

    response: Numeric
    terms: tuple[Term, ...]

    @property
    def has_intercept(self) -> bool:
        return () in self.terms


def parse_formula(text: str, schema: Schema) -> Formula:
    """Parse and resolve a formula against a schema.

    Raises:
        SchemaError: syntax, an unknown column or level, or a response that is not numeric.
        CapabilityError: a function that is not available.
    """
    if not isinstance(text, str) or text.count("~") != 1 or len(text) > LONGEST:
        raise SchemaError("a formula looks like 'y ~ a + b': one response, one '~', and terms", code="bad_formula")
    left, right = text.split("~")
    reader = _Reader(text, schema)
    response = reader.factor(reader.parse(left))
    if not isinstance(response, Numeric):
        raise SchemaError(f"formula {text!r}: the response must be numeric; {left.strip()!r} is categorical", code="bad_formula")
    terms = reader.terms(reader.parse(right))
    ordered = _ordered(tuple(dict.fromkeys([(), *terms.kept])) if terms.intercept else tuple(t for t in terms.kept if t))
    if not ordered:
        raise SchemaError(f"formula {text!r}: there is no term left on the right", code="bad_formula")
    return Formula(response, ordered)


@dataclass(frozen=True, slots=True)
class _Terms:
    kept: tuple[Term, ...]
    intercept: bool


class _Reader:
    def __init__(self, text: str, schema: Schema) -> None:
        self.text, self.schema = text, schema
        self.quote = '"' if '"' in text else "'"

    def bad(self, why: str) -> SchemaError:
        return SchemaError(f"formula {self.text!r}: {why}", code="bad_formula")

    def too_many_terms(self) -> SchemaError:
        return SchemaError(f"formula {self.text!r}: its products have too many terms; write fewer", code="too_many_terms")

    def parse(self, side: str) -> ast.expr:
        """Python's own grammar, with ':' read as its tightest binary operator outside parentheses of calls."""
        try:
            tokens = list(tokenize.generate_tokens(io.StringIO(side.strip()).readline))
            joined = "".join(("**" if token.string == ":" else token.string) + " " for token in tokens)
            return ast.parse(joined.strip(), mode="eval").body
        except (tokenize.TokenError, SyntaxError, ValueError, RecursionError):
            raise self.bad("it could not be read; terms are columns, C(), I(), Q() and center(), joined by + - : and *") from None

    def terms(self, node: ast.expr) -> _Terms:
        try:
            kept, intercept = self._sum(node, True)
        except RecursionError:
            raise self.bad("it is nested too deeply; write its terms one after another") from None
        if any(sum(isinstance(factor, Category) for factor in term) > MOST_CATEGORIES for term in kept):
            raise self.too_many_terms()
        return _Terms(tuple(dict.fromkeys(kept)), intercept)

    def _sum(self, node: ast.expr, intercept: bool) -> tuple[list[Term], bool]:
        match node:
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                first, intercept = self._sum(left, intercept)
                second, intercept = self._sum(right, intercept)
                return first + second, intercept
            case ast.BinOp(left=left, op=ast.Sub(), right=right):
                first, intercept = self._sum(left, intercept)
                if isinstance(right, ast.Constant) and right.value in (0, 1):
                    return first, right.value == 0
                removed, _ = self._sum(right, intercept)
                return [term for term in first if term not in removed], intercept
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=1)):
                return [], False
            case ast.Constant(value=0):
                return [], False
            case ast.Constant(value=1):
                return [()], True
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                first, _ = self._sum(left, intercept)
                second, _ = self._sum(right, intercept)
                return first + second + self._product(first, second), intercept
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                first, _ = self._sum(left, intercept)
                second, _ = self._sum(right, intercept)
                return self._product(first, second), intercept
            case _:
                return [(self.factor(node),)], intercept

    def _product(self, first: list[Term], second: list[Term]) -> list[Term]:
        once, other = dict.fromkeys(first), dict.fromkeys(second)
        if len(once) * len(other) > MOST_TERMS:
            raise self.too_many_terms()
        return [_joined(a, b) for a in once for b in other]

    def factor(self, node: ast.expr) -> Factor:
        match node:
            case ast.Name(id=name):
                return self._column(name, name)
            case ast.Call(func=ast.Name(id="Q"), args=[ast.Constant(value=str(name))], keywords=[]):
                return self._column(name, self._source(node))
            case ast.Call(func=ast.Name(id="C"), args=[argument, *rest], keywords=[]) if len(rest) <= 1:
                return self._category(argument, rest, node)
            case ast.Call(func=ast.Name(id="I"), args=[argument], keywords=[]):
                return self._power(argument, node)
            case ast.Call(func=ast.Name(id="center"), args=[argument, constant], keywords=[]):
                column = self._name(argument)
                return Numeric(self._source(node), self.schema.numeric(column).name, 1, self._constant(constant))
            case ast.Call(func=ast.Name(id="log" | "exp" | "sqrt" as function), args=[argument]):
                column = self._name(argument)
                raise CapabilityError(
                    f"formula {self.text!r}: {function}({column}) is no whole number of any step; declare "
                    f"vs.Derived('{function}_{column}', '{function}({column})', step=1e-4) in the schema and use {function}_{column}",
                    code="needs_derived",
                )
            case ast.Call(func=ast.Name(id=function)):
                raise CapabilityError(
                    f"formula {self.text!r}: {function}() is not available; there are C, I, Q and center", code="unknown_function"
                )
            case _:
                raise self.bad(f"{self._source(node)!r} is no column and no term")

    def _column(self, name: str, label: str) -> Factor:
        column = self.schema[name]
        if isinstance(column, Categorical):
            return Category(label, name, column.levels, 0)
        return Numeric(label, name)

    def _category(self, argument: ast.expr, rest: list[ast.expr], node: ast.expr) -> Category:
        column = self._name(argument)
        levels = self.schema.levels(column)
        reference = 0
        for choice in rest:
            match choice:
                case ast.Call(func=ast.Name(id="Treatment"), args=[ast.Constant(value=level)], keywords=[]):
                    pass
                case ast.Call(
                    func=ast.Name(id="Treatment"), args=[], keywords=[ast.keyword(arg="reference", value=ast.Constant(value=level))]
                ):
                    pass
                case _:
                    raise self.bad("the only coding is Treatment(level)")
            if level not in levels:
                raise SchemaError(
                    f"formula {self.text!r}: {level!r} is no level of {column!r}; there are: {', '.join(map(quoted, levels))}",
                    code="unknown_level",
                )
            reference = levels.index(level)
        return Category(self._source(node), column, levels, reference)

    def _power(self, argument: ast.expr, node: ast.expr) -> Numeric:
        match argument:
            case ast.BinOp(left=base, op=ast.Pow(), right=ast.Constant(value=int(power))) if 1 <= power <= 8:
                return Numeric(self._source(node), self.schema.numeric(self._name(base)).name, power)
            case ast.Name() | ast.Call(func=ast.Name(id="Q")):
                return Numeric(self._source(node), self.schema.numeric(self._name(argument)).name)
        raise CapabilityError(
            f"formula {self.text!r}: I() takes a column to a power from 1 to 8, such as I(age**2)", code="unknown_function"
        )

    def _name(self, node: ast.expr) -> str:
        match node:
            case ast.Name(id=name) | ast.Call(func=ast.Name(id="Q"), args=[ast.Constant(value=str(name))]):
                return self.schema[name].name
        raise self.bad(f"a column's name was expected instead of {self._source(node)!r}")

    def _constant(self, node: ast.expr) -> Fraction:
        match node:
            case ast.Constant(value=bool()):
                pass
            case ast.Constant(value=int() | float() as value) if value <= LARGEST_CENTRE:
                return exact(value)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)) if value <= LARGEST_CENTRE:
                return -exact(value)
        raise self.bad("center() takes a public number as its second argument, at most 2^53 in size")

    def _source(self, node: ast.expr) -> str:
        text = ast.unparse(node)
        return text.replace("'", '"') if self.quote == '"' else text


def _joined(first: Term, second: Term) -> Term:
    return tuple(dict.fromkeys((*first, *second)))


def _ordered(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    unique: dict[frozenset[Factor], Term] = {}
    for term in terms:
        unique.setdefault(frozenset(term), term)
    groups: dict[frozenset[Factor], list[Term]] = {frozenset(): []}
    for term in unique.values():
        groups.setdefault(frozenset(factor for factor in term if isinstance(factor, Numeric)), []).append(term)
    return tuple(term for group in groups.values() for term in sorted(group, key=len))
