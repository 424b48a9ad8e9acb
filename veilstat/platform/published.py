"""What a study publishes, as it travels to an analyst: all that a plan depends on, and no path of anybody's machine."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from inspect import signature
from typing import Any

import msgspec

from veilstat.architectures.interface import Architecture
from veilstat.architectures.registry import architectures
from veilstat.errors import CapabilityError, SchemaError
from veilstat.schema.schema import Schema

from .definition import Definition


@dataclass(frozen=True, slots=True)
class Published:
    """Schema (TOML), the architecture with its options, data owners, and the digests of their policies (hexadecimal).

    Nobody needs to trust it: an analyst who was told something else makes another plan, which honest owners refuse.
    """

    schema: str
    architecture: str
    options: Mapping[str, Any]
    owners: tuple[str, ...]
    policies: Mapping[str, str]

    @staticmethod
    def from_json(text: bytes) -> Published:
        """What ``to_json`` wrote; SchemaError for anything else."""
        try:
            return msgspec.json.decode(text, type=Published)
        except msgspec.MsgspecError:
            raise _unreadable() from None

    def to_json(self) -> bytes:
        """As it travels."""
        return msgspec.json.encode(self)

    def definition(self) -> Definition:
        """The study that every party agrees on.

        Raises:
            SchemaError: schema, owners or policies are wrong. CapabilityError: the architecture cannot serve them.
        """
        try:
            schema = Schema.from_dict(tomllib.loads(self.schema, parse_float=Decimal))
            policies = {name: bytes.fromhex(digest) for name, digest in self.policies.items()}
        except ValueError:
            raise _unreadable() from None
        return Definition(schema, self.owners, configure(self.architecture, self.options), policies)


def _unreadable() -> SchemaError:
    return SchemaError("the study that was published could not be read; install the same version on both sides", code="bad_study")


def configure(name: str, options: Mapping[str, Any]) -> Architecture:
    """An architecture by name with its options; CapabilityError where there is none of that name, or an option is unknown."""
    known = architectures()
    if name not in known:
        raise CapabilityError(f"there is no architecture {name!r} here; there are: {', '.join(known)}", code="unknown_architecture")
    its = signature(known[name]).parameters
    try:
        unknown = sorted(set(options) - set(its))
        if not unknown:
            return known[name](**options)
    except TypeError:
        raise CapabilityError(f"[{name}] has a value of the wrong type; its options are: {', '.join(its)}", code="unknown_option") from None
    raise CapabilityError(f"[{name}] has no option {unknown[0]!r}; it has: {', '.join(its)}", code="unknown_option")
