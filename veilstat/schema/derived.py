"""Columns that every owner derives from its own others, row by row: ``Derived("log_income", "log(income)", step=1e-4)``.

The expression is arithmetic over numeric columns with ``log``, ``exp``, ``sqrt`` and ``abs``; it is parsed, never
evaluated as code. Bounds follow by interval arithmetic from the bounds of the columns.
"""

from __future__ import annotations

import ast
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from veilstat.errors import RangeError, SchemaError

from .columns import Column
from .encoding import Integers, Number, exact, round_half_even

Interval: TypeAlias = "tuple[float, float]"
LONGEST = 400

_FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {"log": np.log, "exp": np.exp, "sqrt": np.sqrt, "abs": np.abs}
_OPERATIONS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
}


@dataclass(frozen=True, kw_only=True)
class Derived(Column):
    """A column computed from others of the same row and rounded to ``step``.

    ``Schema`` fills in ``lower`` and ``upper`` by interval arithmetic; narrower ones may be given.
    """

    expression: str = field(kw_only=False)
    step: Number
    lower: Number | None = None
    upper: Number | None = None
    kind: ClassVar[str] = "derived"
    numbers: ClassVar[tuple[str, ...]] = ("lower", "upper", "step")

    def __post_init__(self) -> None:
        self._check_words()
        self._tree()
        if exact(self.step) <= 0:
            raise SchemaError(f"column {self.name!r}: step must be positive", code="bad_bounds")
        if self.lower is not None and self.upper is not None:
            super().__post_init__()

    @property
    def sources(self) -> tuple[str, ...]:
        """The columns that the expression reads."""
        return tuple(sorted({node.id for node in ast.walk(self._tree()) if isinstance(node, ast.Name)} - set(_FUNCTIONS)))

    @property
    def origin(self) -> Fraction:
        return exact(self._bounded(self.lower))

    @property
    def lattice_step(self) -> Fraction:
        return exact(self.step)

    @property
    def top(self) -> int:
        return round_half_even((exact(self._bounded(self.upper)) - self.origin) / self.lattice_step)

    def describe(self) -> str:
        return f"{ast.unparse(self._tree())}, {super().describe()}"

    def bounded(self, columns: Mapping[str, Column]) -> Derived:
        """The same column with bounds from interval arithmetic, on the lattice that holds 0."""
        for name in self.sources:
            if name not in columns or not columns[name].is_numeric:
                raise SchemaError(f"column {self.name!r}: {name!r} is no numeric column of the schema", code="unknown_column")
        if self.lower is not None and self.upper is not None:
            return self
        intervals = {
            name: (float(columns[name].origin), float(columns[name].origin + columns[name].lattice_step * columns[name].top))
            for name in self.sources
        }
        with np.errstate(all="ignore"):
            low, high = self._interval(self._tree(), intervals)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise SchemaError(
                f"column {self.name!r}: {self.expression!r} is unbounded or undefined for some values within the bounds of its columns; narrow them",
                code="bad_bounds",
            )
        step = self.lattice_step
        lower = self.lower if self.lower is not None else step * (exact(low) // step)
        upper = self.upper if self.upper is not None else -step * (-exact(high) // step)
        return replace(self, lower=lower, upper=upper)

    def derive(self, values: Mapping[str, pd.Series]) -> tuple[Integers, npt.NDArray[np.bool_]]:
        """Codes from the lattice values of the source columns.

        Raises:
            RangeError: a value falls outside declared bounds.
        """
        sources = {name: values[name].to_numpy(dtype=np.float64) for name in self.sources}
        with np.errstate(all="ignore"):
            result = np.asarray(self._value(self._tree(), sources), dtype=np.float64)
        present = np.ones(result.shape, dtype=bool)
        for array in sources.values():
            present &= ~np.isnan(array)
        codes = np.zeros(result.shape, dtype=np.int64)
        rounded = np.rint((result[present] - float(self.origin)) / float(self.lattice_step))
        if not ((rounded >= 0) & (rounded <= self.top)).all():
            raise RangeError(f"column {self.name!r}: values lie outside the declared bounds; widen them", code="out_of_bounds")
        codes[present] = rounded
        return codes, present

    def _bounded(self, bound: Number | None) -> Number:
        if bound is None:
            raise SchemaError(f"column {self.name!r} gets its bounds from a Schema; put it into one", code="bad_bounds")
        return bound

    def _tree(self) -> ast.expr:
        text = self.expression if isinstance(self.expression, str) and len(self.expression) <= LONGEST else ""
        try:
            tree = ast.parse(text, mode="eval").body
        except (SyntaxError, ValueError):
            raise SchemaError(
                f"column {self.name!r}: {self.expression!r} cannot be read as arithmetic such as 'log(income)'", code="bad_expression"
            ) from None
        self._check(tree)
        return tree

    def _check(self, node: ast.expr) -> None:
        match node:
            case ast.Name(id=name) if name not in _FUNCTIONS:
                return
            case ast.Constant(value=int() | float() as number) if abs(number) <= sys.float_info.max:
                return
            case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int(power))) if power >= 0:
                self._check(left)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
                self._check(left)
                self._check(right)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                self._check(operand)
            case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in _FUNCTIONS:
                self._check(argument)
            case _:
                raise SchemaError(
                    f"column {self.name!r}: only columns, numbers, + - * / ** and {', '.join(sorted(_FUNCTIONS))} are known",
                    code="bad_expression",
                )

    def _value(self, node: ast.expr, values: Mapping[str, Any]) -> Any:
        match node:
            case ast.Name(id=name):
                return values[name]
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int(power))):
                return self._value(left, values) ** power
            case ast.BinOp(left=left, op=op, right=right):
                return _OPERATIONS[type(op)](self._value(left, values), self._value(right, values))
            case ast.UnaryOp(operand=operand):
                return -self._value(operand, values)
            case ast.Call(func=ast.Name(id=name), args=[argument]):
                return _FUNCTIONS[name](self._value(argument, values))
        raise AssertionError(node)

    def _interval(self, node: ast.expr, intervals: Mapping[str, Interval]) -> Interval:
        match node:
            case ast.Name(id=name):
                return intervals[name]
            case ast.Constant(value=int() | float() as number):
                return float(number), float(number)
            case ast.UnaryOp(operand=operand):
                low, high = self._interval(operand, intervals)
                return -high, -low
            case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int(power))):
                low, high = (np.float64(end) for end in self._interval(left, intervals))
                ends = (low**power, high**power, *((0.0,) if low < 0 < high and power % 2 == 0 and power else ()))
                return float(min(ends)), float(max(ends))
            case ast.BinOp(left=left, op=op, right=right):
                first, second = self._interval(left, intervals), self._interval(right, intervals)
                if isinstance(op, ast.Div) and second[0] <= 0 <= second[1]:
                    return -math.inf, math.inf
                corners = [float(_OPERATIONS[type(op)](a, b)) for a in first for b in second]
                return float(np.min(corners)), float(np.max(corners))
            case ast.Call(func=ast.Name(id=name), args=[argument]):
                low, high = self._interval(argument, intervals)
                if (name == "log" and low <= 0) or (name == "sqrt" and low < 0):
                    return -math.inf, math.inf
                if name == "abs":
                    return (0.0 if low < 0 < high else min(abs(low), abs(high))), max(abs(low), abs(high))
                return float(_FUNCTIONS[name](low)), float(_FUNCTIONS[name](high))
        raise AssertionError(node)
