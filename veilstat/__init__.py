"""veilstat: statistics over several owners' joint data, without anybody seeing a row.

>>> import veilstat as vs
>>> study = vs.simulate({"north": north, "south": south, "east": east}, schema)  # doctest: +SKIP
>>> print(study.plan(vs.Mean("age")))  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Integer": "schema.columns",
    "Continuous": "schema.columns",
    "Binary": "schema.columns",
    "Categorical": "schema.columns",
    "Date": "schema.columns",
    "Derived": "schema.derived",
    "Schema": "schema.schema",
    "VeilstatError": "errors",
    "SchemaError": "errors",
    "RangeError": "errors",
    "CapabilityError": "errors",
    "PolicyDenied": "errors",
    "BudgetExhausted": "errors",
    "QuorumLost": "errors",
    "ProtocolViolation": "errors",
    "ConvergenceError": "errors",
    "Gaussian": "dp.mechanism",
    "simulate": "platform.simulation",
    "connect": "platform.deployment.connect",
    "Study": "platform.study",
    "Plan": "platform.plan",
    "Policy": "platform.policy",
}

__all__ = ["__version__", "testing", *_HOMES]


def __getattr__(name: str) -> Any:
    """Load what is asked for: names above, modules, and every statistic and architecture by the name of its class."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name == "testing":
        return importlib.import_module(f"{__name__}.testing")
    if name[:1].isupper() and name in (kinds := _kinds()):
        return kinds[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_kinds()])


def _kinds() -> dict[str, Any]:
    from veilstat.architectures.registry import architectures
    from veilstat.statistics.registry import registry

    return {kind.__name__: kind for kind in (*registry().values(), *architectures().values())}
