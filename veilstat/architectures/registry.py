"""All architectures by name: the folders beside this file, and what installed packages offer."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType

from veilstat.errors import CapabilityError

from .interface import Architecture

GROUP = "veilstat.architectures"
"""The entry points by which an installed package offers architectures: its name, and its class."""


@cache
def architectures() -> Mapping[str, type[Architecture]]:
    """Every architecture by name: the class that a folder exports goes by the folder's name.

    Raises:
        CapabilityError: an installed package offers no architecture, or one under a name that is taken.
    """
    package = __name__.rpartition(".")[0]
    found: dict[str, type[Architecture]] = {}
    for folder in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if folder.ispkg:
            module = importlib.import_module(f"{package}.{folder.name}")
            [exported] = module.__all__
            found[folder.name] = getattr(module, exported)
    for offered in entry_points(group=GROUP):
        kind = offered.load()
        if not isinstance(kind, type) or not hasattr(kind, "supports") or offered.name in found:
            raise CapabilityError(
                f"the package behind {offered.value!r} offers {offered.name!r}, which is no architecture, or a name that is taken; uninstall it",
                code="bad_architecture",
            )
        found[offered.name] = kind
    return MappingProxyType(dict(sorted(found.items())))
