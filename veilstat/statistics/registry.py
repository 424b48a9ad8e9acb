"""All statistics by name, found in the files of this folder."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from veilstat.language.step import Statistic


@cache
def registry() -> Mapping[str, type[Statistic[Any]]]:
    """Every public class of this package that has steps, by its ``name``."""
    package = __name__.rpartition(".")[0]
    found: dict[str, type[Statistic[Any]]] = {}
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__, package + "."):
        for value in vars(importlib.import_module(module.name)).values():
            if (
                isinstance(value, type)
                and value.__module__ == module.name
                and isinstance(getattr(value, "name", None), str)
                and hasattr(value, "steps")
            ):
                found[value.name] = value  # type: ignore[attr-defined]
    return MappingProxyType(dict(sorted(found.items())))
