"""What a data owner permits, as data that is published: only its digest enters a plan."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from veilstat.dp.mechanism import check_promise
from veilstat.errors import PolicyDenied, SchemaError

_Names = tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Policy:
    """An owner's rules; None permits all.

    Args:
        statistics: names of the statistics that may be computed, such as ("mean", "linear_regression").
        columns: columns that may be used.
        most_openings: the most numbers that one query may open.
        min_owners: the fewest owners that this owner wants to stand in one total.
        budget: (epsilon, delta) that all releases together may cost one row of this owner's; exact answers are refused then.
    """

    statistics: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    most_openings: int | None = None
    min_owners: int = 2
    budget: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for what in ("statistics", "columns"):
            names = getattr(self, what)
            if names is not None and (isinstance(names, str) or not isinstance(names, Iterable)):
                raise SchemaError(f"a policy's {what} must be a list of names", code="bad_policy")
            if names is not None:
                object.__setattr__(self, what, tuple(names))
                if not all(isinstance(name, str) for name in names):
                    raise SchemaError(f"a policy's {what} must be a list of names", code="bad_policy")
        for what, number in (("most_openings", self.most_openings), ("min_owners", self.min_owners)):
            if (number is not None or what == "min_owners") and (type(number) is not int or number < 0):
                raise SchemaError(f"a policy's {what} must be a whole number, 0 or more", code="bad_policy")
        if self.budget is not None:
            if not isinstance(self.budget, (tuple, list)) or len(self.budget) != 2:
                raise SchemaError("a policy's budget must be a pair (epsilon, delta)", code="bad_policy")
            check_promise(*self.budget)
            object.__setattr__(self, "budget", (float(self.budget[0]), float(self.budget[1])))

    def to_json(self) -> str:
        """The rules as canonical text."""
        return json.dumps([self.statistics, self.columns, self.most_openings, self.min_owners, self.budget])

    @staticmethod
    def from_json(text: str) -> Policy:
        """The rules that ``to_json`` wrote; SchemaError for anything else."""
        try:
            rules = msgspec.json.decode(text, type=tuple[_Names, _Names, int | None, int, tuple[float, float] | None])
        except msgspec.MsgspecError:
            raise SchemaError("a policy could not be read", code="bad_policy") from None
        return Policy(*rules)

    @property
    def digest(self) -> bytes:
        """SHA-256 of the rules."""
        return hashlib.sha256(self.to_json().encode()).digest()

    def check(self, statistic: str, columns: tuple[str, ...], openings: int, *, private: bool = False) -> None:
        """Refuse what the rules do not permit; PolicyDenied names the rule."""
        if self.budget is not None and not private:
            raise PolicyDenied(
                "the policy has a privacy budget, so it permits no exact answer to anybody; ask with privacy=, and noise before opening",
                code="privacy_required",
            )
        if self.statistics is not None and statistic not in self.statistics:
            raise PolicyDenied(f"the policy does not permit {statistic}; it permits: {', '.join(self.statistics)}", code="statistic_denied")
        denied = sorted(set(columns) - set(self.columns)) if self.columns is not None else []
        if denied:
            raise PolicyDenied(
                f"the policy does not permit the column {denied[0]!r}; it permits: {', '.join(self.columns or ())}", code="column_denied"
            )
        if self.most_openings is not None and openings > self.most_openings:
            raise PolicyDenied(
                f"the query would open {openings:,} numbers, the policy permits {self.most_openings:,}; ask for less at once",
                code="too_many_openings",
            )
