"""What a statistic is to everybody else: a query with parameters, and one or several forms to compute it in."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar, runtime_checkable

from veilstat.language.step import Arrays, Opened, Request, Step
from veilstat.schema.schema import Schema

R_co = TypeVar("R_co", covariant=True)


class Form(Protocol[R_co]):
    """One way to compute a query: its steps, and how to go from openings to a result."""

    def steps(self, schema: Schema) -> tuple[Step, ...]:
        """Its step templates."""
        ...

    def run(self, schema: Schema) -> Generator[Request, Opened, R_co]:
        """Ask, receive, and return the result."""
        ...

    def inferences(self, schema: Schema) -> tuple[str, ...]:
        """What can be inferred from the openings beyond the result, in words."""
        ...


class Statistic(Form[R_co], Protocol[R_co]):
    """A query: a frozen dataclass of parameters, by name, that is itself a form to compute it in."""

    name: ClassVar[str]

    def columns(self, schema: Schema) -> tuple[str, ...]:
        """The columns it reads; a SchemaError where one does not fit."""
        ...


@runtime_checkable
class HasForms(Protocol):
    """A statistic that can be computed in several ways; a plan takes the first that the architecture can protect."""

    def forms(self, schema: Schema) -> tuple[Statistic[Any], ...]:
        """The same query in every form, in order of preference."""
        ...


@runtime_checkable
class HasPrivateForm(Protocol):
    """A statistic that can be answered from totals with noise, with errors that say so."""

    def private(self, schema: Schema) -> Form[Any]:
        """What is run under differential privacy: steps whose answers are totals over rows, as they are opened."""
        ...


Noises: TypeAlias = Arrays
"""The variance of the noise in each answer."""


@dataclass(frozen=True, slots=True)
class NoiseError:
    """How much noise moves a released number, before anything is released: a standard deviation in the number's units.

    ``over_rows``: it is divided by the number of rows that enter, which is not known beforehand.
    """

    error: float
    over_rows: bool = False


@runtime_checkable
class HasExpectedErrors(Protocol):
    """A private form that knows how far off its results will be."""

    def expected(self, schema: Schema, noise: Noises) -> Mapping[str, NoiseError]:
        """For each released number by name, what noise adds to it, at most."""
        ...
