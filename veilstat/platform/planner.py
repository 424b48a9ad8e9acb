"""How a party plans for itself what an analyst asks: its own statistics, and the plans that it has made."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

from veilstat.statistics.interface import Statistic
from veilstat.statistics.registry import registry

from .definition import Definition
from .plan import Plan, make_plan
from .query import decode_query

Planner: TypeAlias = "Callable[[bytes, Definition], Plan]"
"""From a query as it travels to its plan."""

_REMEMBERED = 64


def make_planner(*added: type[Statistic[Any]]) -> Planner:
    """A planner that knows every statistic by name, ``added`` among them, and makes a plan once.

    It raises SchemaError where a query is malformed or of an unknown statistic, and what ``make_plan`` raises.

    Raises:
        SchemaError: what is added is no statistic, or its name is taken.
    """
    known = registry(*added)

    @lru_cache(maxsize=_REMEMBERED)
    def plan(query: bytes, definition: Definition) -> Plan:
        statistic, privacy = decode_query(query, known)
        return make_plan(statistic, definition, privacy)

    return plan
