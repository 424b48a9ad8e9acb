"""All statistics by name: the files of this folder, what installed packages offer, and what a study was given.

Code never travels: a query names its statistic, and every party looks the name up among its own. Whoever has none, or
another one under the same name, refuses: the first has no plan to agree to, the second computes another digest.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any

from veilstat.errors import SchemaError

from .interface import Statistic

GROUP = "veilstat.statistics"
"""The entry points by which an installed package offers statistics: its name, and its class."""

_PARTS = ("columns", "steps", "run", "inferences")


def registry(*added: type[Statistic[Any]]) -> Mapping[str, type[Statistic[Any]]]:
    """Every statistic by its ``name``, ``added`` among them.

    Raises:
        SchemaError: what is added, or what an installed package offers, is no statistic, or its name is taken.
    """
    return _with(_installed(), added) if added else _installed()


@cache
def _installed() -> Mapping[str, type[Statistic[Any]]]:
    return _with({}, (*_of_this_folder(), *(offered.load() for offered in entry_points(group=GROUP))))


def _of_this_folder() -> Iterator[type[Statistic[Any]]]:
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__, package + "."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and value.__module__ == module.name and hasattr(value, "name") and hasattr(value, "steps"):
                yield value


def _with(known: Mapping[str, type[Statistic[Any]]], added: tuple[type[Statistic[Any]], ...]) -> Mapping[str, type[Statistic[Any]]]:
    found = dict(known)
    for kind in added:
        _check(kind)
        if found.setdefault(kind.name, kind) is not kind:
            raise SchemaError(f"there is a statistic {kind.name!r} already; give yours another name", code="name_taken")
    return MappingProxyType(dict(sorted(found.items())))


def _check(kind: object) -> None:
    title = getattr(kind, "__name__", repr(kind))
    if not isinstance(kind, type) or not is_dataclass(kind) or not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]  # unknown to typeshed
        raise SchemaError(
            f"{title} is no statistic: a statistic is a class of parameters under @dataclass(frozen=True)", code="bad_statistic"
        )
    lacking = [part for part in _PARTS if not callable(getattr(kind, part, None))]
    if lacking:
        raise SchemaError(f"{title} is no statistic: it has no {lacking[0]}()", code="bad_statistic")
    name = getattr(kind, "name", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise SchemaError(f"{title} needs a name: ClassVar[str], a word that Python takes for a method", code="bad_statistic")
