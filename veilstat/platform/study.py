"""The study that analysts work with: plan a query, look at what it reveals, run it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from veilstat.dp.ledger import Budget
from veilstat.dp.mechanism import Gaussian
from veilstat.errors import CapabilityError, SchemaError
from veilstat.schema.schema import Schema
from veilstat.statistics.interface import Statistic
from veilstat.statistics.registry import registry
from veilstat.statistics.results import Result

from .definition import Definition
from .driver import Progress
from .plan import Plan, make_plan
from .progress import default_progress
from .query import parameters_of


class Backend(Protocol):
    """What answers a plan: the embedded simulation, or a deployment."""

    def run(self, plan: Plan, progress: Progress) -> Result: ...


class Study:
    """A study of several data owners' joint data.

    Every statistic is a method: ``study.mean("age")`` is ``study.run(vs.Mean("age"))``. ``study.plan(query)`` shows
    what a query would reveal to whom, and what it would cost, without contacting anybody.

    Args:
        statistics: statistics beside those that are installed; every party must have them too.
    """

    def __init__(self, definition: Definition, backend: Backend, statistics: Iterable[type[Statistic[Any]]] = ()) -> None:
        self.definition = definition
        self._backend = backend
        self._statistics = registry(*statistics)
        hidden = sorted(set(super().__dir__()) & set(self._statistics))
        if hidden:
            raise SchemaError(f"a statistic cannot be called {hidden[0]!r}; a study has something else by that name", code="name_taken")

    @property
    def schema(self) -> Schema:
        """The agreed columns."""
        return self.definition.schema

    @property
    def owners(self) -> tuple[str, ...]:
        """The data owners, by name."""
        return self.definition.owners

    def plan(self, query: Statistic[Any], *, privacy: Gaussian | None = None) -> Plan:
        """What the query will reveal to whom and what it will cost. Nobody is contacted.

        Args:
            privacy: the differential privacy to promise, such as ``vs.Gaussian(epsilon=1.0, delta=1e-6)``.

        Raises:
            SchemaError, CapabilityError, RangeError: the query cannot be run, and why.
        """
        if privacy is not None and not isinstance(privacy, Gaussian):
            raise SchemaError("privacy must be a promise such as vs.Gaussian(epsilon=1.0, delta=1e-6)", code="bad_privacy")
        return make_plan(query, self.definition, privacy)

    def run(self, query: Statistic[Any], *, privacy: Gaussian | None = None, progress: Progress | None = None) -> Any:
        """The result of a query.

        Args:
            privacy: the differential privacy to promise; noise is added before anything is opened.
            progress: called after every opening with the step, how many so far, and at most how many; one that has a method
                ``waits`` is given a deployment's status about once a second besides. By default a progress bar in notebooks
                and terminals, for queries of many openings and for waits.

        Raises:
            VeilstatError: what went wrong and what to do; nothing was opened beyond what the plan lists.
        """
        if progress is not None and not callable(progress):
            raise SchemaError("progress must be a function of the step's name and two counts", code="wrong_type")
        plan = self.plan(query, privacy=privacy)
        with default_progress(plan, progress) as report:
            return self._backend.run(plan, report)

    def upload(self, owner: str) -> None:
        """Share an owner's rows again, in place of its former upload; encrypted ones of all owners, under a new key (embedded, entry="rows")."""
        self._embedded("upload")(owner)

    def withdraw(self, owner: str) -> None:
        """Remove an owner's rows from the compute servers; of encrypted ones its share of the key (embedded, entry="rows")."""
        self._embedded("withdraw")(owner)

    def groupby(self, by: str) -> GroupedStudy:
        """Statistics within the levels of a column: ``study.groupby("sex").mean("bp")``."""
        return GroupedStudy(self, by)

    def budget(self) -> Mapping[str, Budget]:
        """What is spent and left of every owner's privacy budget (embedded studies only)."""
        found: Mapping[str, Budget] = self._embedded("budget")()
        return found

    def status(self) -> Mapping[str, Any]:
        """Which parties are connected, and the running query's round, who is missing, and bytes by party (deployments only)."""
        status = getattr(self._backend, "status", None)
        if status is None:
            raise CapabilityError(
                "only a deployment has a status; in an embedded study all parties run in this process", code="not_deployed"
            )
        found: Mapping[str, Any] = status()
        return found

    @property
    def observed(self) -> Any:
        """What each party other than the owners saw (embedded studies only)."""
        return self._embedded("observed")

    def _embedded(self, name: str) -> Any:
        """Something that only a study in one process has."""
        found = getattr(self._backend, name, None)
        if found is None:
            raise CapabilityError(
                f"only an embedded study has {name!r}; in a deployment the parties keep it to themselves", code="not_embedded"
            )
        return found

    def __getattr__(self, name: str) -> Callable[..., Any]:
        statistics = {} if name.startswith("_") else self._statistics
        if name not in statistics:
            raise AttributeError(f"a study has no {name!r}; its statistics are: {', '.join(statistics)}")
        kind = statistics[name]

        def ask(*args: Any, progress: Progress | None = None, privacy: Gaussian | None = None, **options: Any) -> Any:
            known = {entry.name for entry in parameters_of(kind)}
            unknown = sorted(set(options) - known)
            if unknown:
                raise CapabilityError(
                    f"{name} has no option {unknown[0]!r} here; it has: {', '.join(sorted(known))}", code="unknown_option"
                )
            try:
                inspect.signature(kind).bind(*args, **options)
            except TypeError as error:
                raise CapabilityError(f"{name}: {error}; it takes: {', '.join(sorted(known))}", code="missing_option") from None
            return self.run(kind(*args, **options), progress=progress, privacy=privacy)

        ask.__name__, ask.__doc__ = name, kind.__doc__
        ask.__signature__ = inspect.signature(kind)  # type: ignore[attr-defined]  # what notebooks show of a function; unknown to typeshed
        return ask

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._statistics})

    def __repr__(self) -> str:
        return f"Study of {len(self.owners)} data owners ({', '.join(self.owners)}), architecture {self.definition.architecture.name}\n{self.schema}"

    def _repr_html_(self) -> str:
        owners = ", ".join(self.owners)
        return f"<p>Study of {len(self.owners)} data owners ({owners}), architecture {self.definition.architecture.name}</p>{self.schema._repr_html_()}"


class GroupedStudy:
    """A study, by the levels of a column."""

    def __init__(self, study: Study, by: str) -> None:
        self._study, self._by = study, by

    def mean(self, column: str, **options: Any) -> Any:
        """The mean of a numeric column within each level."""
        return self._study.mean_by(column, by=self._by, **options)
