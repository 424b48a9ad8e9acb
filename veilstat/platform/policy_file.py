"""An owner's policy as a file (TOML): the published rules, and which queries a person looks at first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from veilstat.errors import SchemaError
from veilstat.schema.schema import read_toml

from .policy import Policy

_RULES = ("statistics", "columns", "most_openings", "min_owners", "budget")


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """The rules, which are published, and which statistics a person must approve (None: all), which is the owner's own affair."""

    policy: Policy
    approval: frozenset[str] | None = frozenset()

    def needs_person(self, statistic: str) -> bool:
        """Whether a person looks at every plan of this statistic."""
        return self.approval is None or statistic in self.approval

    @property
    def is_unattended(self) -> bool:
        """Whether the rules alone decide about every query."""
        return self.approval == frozenset()


def load_policy(path: Path) -> PolicyFile:
    """Read a policy's file; a key that is left out permits all.

    Raises:
        SchemaError: a key is unknown or has a wrong value.
    """
    plain = read_toml(path)
    unknown = sorted(set(plain) - {*_RULES, "approval"})
    if unknown:
        raise SchemaError(f"{path.name}: unknown key {unknown[0]!r}; there are {', '.join(_RULES)}, approval", code="unknown_key")
    approval = plain.pop("approval", [])
    if approval != "all" and not (isinstance(approval, list) and all(isinstance(name, str) for name in approval)):
        raise SchemaError(f'{path.name}: approval is "all", or a list of statistics that a person must approve', code="bad_policy")
    try:
        if "budget" in plain:
            plain["budget"] = tuple(float(number) for number in plain["budget"])
        return PolicyFile(Policy(**plain), None if approval == "all" else frozenset(approval))
    except SchemaError as error:
        raise error.at(path.name) from None
    except (TypeError, ValueError):
        raise SchemaError(f"{path.name}: budget is a pair of numbers, [epsilon, delta]", code="bad_policy") from None
