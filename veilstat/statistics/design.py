"""The design of a regression: named columns of integers that owners compute row by row, and the way back to units.

A numeric main effect beside an intercept enters as its code, so that its lower bound is the origin and few bits are
needed; every other product is anchored at zero. Both are exact: coefficients in codes become coefficients in units
by an affine map over the rationals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from math import prod

import numpy as np
import numpy.typing as npt
import pandas as pd

from veilstat.errors import RangeError, SchemaError
from veilstat.language.bounds import common_scale
from veilstat.language.evaluate import SingularMatrix
from veilstat.language.trace import Trace, Value, stack
from veilstat.schema.quoting import quoted
from veilstat.schema.schema import Schema

from .clipping import RowColumns
from .formula import Category, Factor, Formula, Numeric, Term, parse_formula

MOST_COLUMNS = 500
_MOST_BITS = 60


@dataclass(frozen=True, slots=True)
class DesignColumn:
    """A product of numeric factors and indicators of levels (factor, code); value = offset + unit * integer.

    ``shifted``: the integer is the column's code itself.
    """

    name: str
    numeric: tuple[Numeric, ...]
    levels: tuple[tuple[Category, int], ...]
    offset: Fraction
    unit: Fraction
    shifted: bool = False

    @property
    def written(self) -> str:
        """Its name as a plan has it: quoted where a level's name could be taken for something else."""
        levels = [str(factor.levels[code]) for factor, code in self.levels]
        return self.name if levels == list(map(quoted, levels)) else repr(self.name)

    @property
    def is_one(self) -> bool:
        """Whether it is the column of ones."""
        return not self.numeric and not self.levels

    @property
    def sources(self) -> tuple[str, ...]:
        """Columns of the schema that it reads."""
        return (*(factor.column for factor in self.numeric), *(factor.column for factor, _ in self.levels))


@dataclass(frozen=True, slots=True)
class Design:
    """Columns X and response y; ``constant`` holds c with X c = 1 for every row, or None."""

    schema: Schema
    columns: tuple[DesignColumn, ...]
    response: DesignColumn
    constant: tuple[int, ...] | None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, as statsmodels names them."""
        return tuple(column.name for column in self.columns)

    @property
    def used(self) -> tuple[str, ...]:
        """Columns of the schema that are used: a row counts where all are present."""
        found = [name for column in (self.response, *self.columns) for name in column.sources]
        return tuple(dict.fromkeys(found))

    def trace(self, rows: RowColumns) -> tuple[Value, Value]:
        """X of shape (p,) and y per row, in integers; 0 in rows that do not count."""
        weight = rows.all_present(self.used)
        x = stack(*(self.integers(rows, column) for column in self.columns)) * weight
        return x, self.integers(rows, self.response) * weight

    def integers(self, rows: RowColumns, column: DesignColumn) -> Value:
        """The integer of one column per row, before rows with missing values are zeroed."""
        if column.shifted:
            return rows.column(column.numeric[0].column)
        result = rows.ones
        for factor in column.numeric:
            a, b, _ = _anchor(self.schema, factor)
            value = rows.column(factor.column) * b + a
            for _ in range(factor.power):
                result = result * value
        for category, code in column.levels:
            result = result * rows.column(category.column).equal(code)
        return result

    def top(self, column: DesignColumn) -> int:
        """The largest magnitude that a column's integer can have, at least 1."""
        bounds = self.integers(Trace(self.schema, 1), column).node.bounds
        assert bounds is not None
        return max(bounds.magnitude, 1)

    def to_units(self) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.object_]]:
        """(A, d): coefficients in units are A b + d for coefficients b in integers."""
        size = len(self.columns)
        unit = self.response.unit
        matrix = np.full((size, size), Fraction(0), dtype=object)
        shift = np.full(size, Fraction(0), dtype=object)
        for place, column in enumerate(self.columns):
            matrix[place, place] += unit / column.unit
        if self.constant is not None:
            for place, weight in enumerate(self.constant):
                shift[place] = self.response.offset * weight
                for other, column in enumerate(self.columns):
                    matrix[place, other] -= weight * unit * column.offset / column.unit
        return matrix, shift

    def matrix(self, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        """X in units for new observations, NaN where a value is missing.

        Raises:
            SchemaError: a column is missing, or a level is unknown.
        """
        if not isinstance(frame, pd.DataFrame):
            raise SchemaError(f"new observations must be a pandas DataFrame, not {type(frame).__name__}", code="wrong_type")
        parts = [_values(frame, self.schema, column) for column in self.columns]
        return np.stack([np.broadcast_to(part, len(frame)) for part in parts], axis=1)


def make_design(text: str, schema: Schema) -> Design:
    """The design of a formula.

    Raises:
        SchemaError: the formula cannot be read, or has too many columns. CapabilityError: it has a function that is not available.
        RangeError: a product needs more than 60 bits.
    """
    formula = parse_formula(text, schema)
    shapes = [shape for term in _with_coding(formula.terms) for shape in term]
    if len(shapes) > MOST_COLUMNS:
        raise SchemaError(
            f"the formula gives {len(shapes)} columns, at most {MOST_COLUMNS} are possible; use fewer terms, or factors with fewer levels",
            code="too_many_terms",
        )
    constant = _constant(formula, shapes)
    columns = tuple(_column(name, numeric, levels, schema, constant is not None) for name, numeric, levels in shapes)
    response = _column(formula.response.name, (formula.response,), (), schema, constant is not None)
    return Design(schema, columns, response, constant)


Shape = tuple[str, tuple[Numeric, ...], tuple[tuple[Category, int], ...]]


def _column(
    name: str, numeric: tuple[Numeric, ...], levels: tuple[tuple[Category, int], ...], schema: Schema, shifted: bool
) -> DesignColumn:
    if not numeric:
        return DesignColumn(name, numeric, levels, Fraction(0), Fraction(1))
    if shifted and not levels and len(numeric) == 1 and numeric[0].power == 1:
        column = schema[numeric[0].column]
        return DesignColumn(name, numeric, levels, column.origin - numeric[0].centre, column.lattice_step, shifted=True)
    unit = prod((_anchor(schema, factor)[2] ** factor.power for factor in numeric), start=Fraction(1))
    bits = sum(
        factor.power * max(abs(a), abs(a + b * schema[factor.column].top)).bit_length()
        for factor in numeric
        for a, b, _ in [_anchor(schema, factor)]
    )
    if bits > _MOST_BITS:
        raise RangeError(
            f"term {name!r} needs {bits} bits per row, at most {_MOST_BITS} are possible; coarsen the step of its columns", code="too_wide"
        )
    return DesignColumn(name, numeric, levels, Fraction(0), unit)


def _anchor(schema: Schema, factor: Numeric) -> tuple[int, int, Fraction]:
    """Integers a, b and a unit u with column - centre = u (a + b code)."""
    column = schema[factor.column]
    low, step = column.origin - factor.centre, column.lattice_step
    unit = common_scale((low, step))
    return int(low / unit), int(step / unit), unit


def _values(frame: pd.DataFrame, schema: Schema, column: DesignColumn) -> npt.NDArray[np.float64]:
    result: npt.NDArray[np.float64] = np.ones(len(frame))
    for factor in column.numeric:
        result = result * (schema.floats(frame, factor.column) - float(factor.centre)) ** factor.power
    for category, code in column.levels:
        codes, present = schema.encode(frame, category.column)
        result = result * np.where(present, codes == code, np.nan)
    return result


def _constant(formula: Formula, shapes: Sequence[Shape]) -> tuple[int, ...] | None:
    if formula.has_intercept:
        return tuple(int(not numeric and not levels) for _, numeric, levels in shapes)
    for term in formula.terms:
        own = [not numeric and {factor for factor, _ in levels} == set(term) for _, numeric, levels in shapes]
        if sum(own) == prod(len(factor.levels) for factor in term if isinstance(factor, Category)):
            return tuple(map(int, own))
    return None


def _with_coding(terms: tuple[Term, ...]) -> list[list[Shape]]:
    """Columns of each term; a factor keeps all its levels where the terms before do not span them.

    The rule is the one of model matrices in R and patsy: a term spans all products of the reduced codings of
    subsets of its factors; those that earlier terms span are dropped, the rest are merged into full codings.
    """
    spanned: dict[frozenset[Factor], set[frozenset[Factor]]] = {}
    result = []
    for term in terms:
        numeric = tuple(factor for factor in term if isinstance(factor, Numeric))
        categories = [factor for factor in term if isinstance(factor, Category)]
        known = spanned.setdefault(frozenset(numeric), set())
        new = [frozenset(s) for size in range(len(categories) + 1) for s in combinations(categories, size) if frozenset(s) not in known]
        known.update(new)
        shapes: list[Shape] = []
        for coding in _merged([frozenset((factor, False) for factor in subset) for subset in new]):
            full = dict(coding)
            shapes += _expanded(term, numeric, [(factor, full[factor]) for factor in categories if factor in full])
        result.append(shapes)
    return result


def _merged(codings: list[frozenset[tuple[Category, bool]]]) -> list[frozenset[tuple[Category, bool]]]:
    for short in codings:
        for place, long in enumerate(codings):
            extra = long - short
            if short < long and len(extra) == 1 and not next(iter(extra))[1]:
                merged = short | {(next(iter(extra))[0], True)}
                return _merged([merged if i == place else c for i, c in enumerate(codings) if c is not short])
    return codings


def _expanded(term: Term, numeric: tuple[Numeric, ...], coded: Sequence[tuple[Category, bool]]) -> list[Shape]:
    choices: list[tuple[tuple[Category, int], ...]] = [()]
    for category, full in reversed(coded):
        codes = [code for code in range(len(category.levels)) if full or code != category.reference]
        choices = [((category, code), *rest) for rest in choices for code in codes]
    whole = dict(coded)
    shapes = []
    for levels in choices:
        code_of = dict(levels)
        parts = []
        for factor in term:
            if isinstance(factor, Numeric):
                parts.append(factor.name)
            elif factor in code_of:
                parts.append(f"{factor.name}[{'' if whole[factor] else 'T.'}{factor.levels[code_of[factor]]}]")
        shapes.append((":".join(parts) or "Intercept", numeric, levels))
    return shapes


def collinear(design: Design, error: SingularMatrix) -> SchemaError:
    """The error for a design without a unique solution, naming the term where that is known."""
    where = f"the term {design.names[error.column]!r} is" if 0 <= error.column < len(design.names) else "a term is"
    return SchemaError(
        f"the design is singular: {where} constant, empty (a level that no owner has) or a linear combination of the terms before; remove it",
        code="singular_design",
    )
