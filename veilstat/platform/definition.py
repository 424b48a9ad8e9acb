"""What a study is, publicly: everything that every party must agree on before a query is planned."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from veilstat.architectures.interface import Architecture, FitsStudy, KeepsEpochs, Trust
from veilstat.errors import CapabilityError, SchemaError
from veilstat.language.cut import Entry
from veilstat.schema.schema import Schema

SERVER, ANALYST = "server", "analyst"
PARTIES = "parties"
_LONGEST_OWNER = 32


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """Schema, data owners, architecture, and the digests of the owners' published policies.

    ``trust`` is whom the architecture trusts among these owners.

    Raises:
        SchemaError: a name cannot be an owner's. CapabilityError: the architecture cannot serve these owners.
    """

    schema: Schema
    owners: tuple[str, ...]
    architecture: Architecture
    policies: Mapping[str, bytes] = field(default_factory=dict)
    trust: Trust = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in self.owners:
            if not isinstance(name, str) or not name.isprintable() or not 0 < len(name.encode()) <= _LONGEST_OWNER:
                raise SchemaError(f"a data owner's name has 1 to {_LONGEST_OWNER} printable bytes; {name!r} does not", code="bad_owner")
            if name in (SERVER, ANALYST, PARTIES):
                raise SchemaError(f"a data owner cannot be called {name!r}; the name belongs to another party", code="bad_owner")
        if len(set(self.owners)) != len(self.owners):
            twice = next(name for name in self.owners if self.owners.count(name) > 1)
            raise SchemaError(f"two data owners are called {twice!r}; give each a name of its own", code="bad_owner")
        if not self.owners:
            raise CapabilityError("a study needs data owners, there is none", code="too_few_owners")
        object.__setattr__(self, "owners", tuple(sorted(self.owners)))
        if isinstance(self.architecture, FitsStudy):
            object.__setattr__(self, "architecture", self.architecture.fitted(self.schema, self.owners))
        object.__setattr__(self, "trust", self.architecture.trust(self.owners))
        taken = sorted(set(self.owners) & set(self.servers))
        if taken:
            raise SchemaError(f"a data owner cannot be called {taken[0]!r}; the name belongs to a compute server", code="bad_owner")

    @property
    def servers(self) -> tuple[str, ...]:
        """The compute servers that the architecture needs, by name; none where it needs none."""
        return self.architecture.compute_servers(self.owners)

    @property
    def keeps_rows(self) -> bool:
        """Whether owners upload their rows to compute servers, once, and may then be offline."""
        return self.architecture.entry is Entry.ROWS and bool(self.servers)

    @property
    def keeps_epochs(self) -> bool:
        """Whether owners encrypt their rows once for the server to keep, and decrypt answers together."""
        return isinstance(self.architecture, KeepsEpochs)

    @property
    def approvers(self) -> tuple[str, ...]:
        """Who must agree to a query: owners, unless they uploaded their rows and may be offline, and compute servers."""
        return self.servers if self.keeps_rows else (*self.owners, *self.servers)

    @property
    def roles(self) -> dict[str, str]:
        """Every party's role."""
        return {**dict.fromkeys(self.owners, "owner"), **dict.fromkeys(self.servers, "compute"), SERVER: "server", ANALYST: "analyst"}

    @property
    def digest(self) -> bytes:
        """SHA-256 of the whole definition."""
        plain = {
            "schema": self.schema.digest.hex(),
            "owners": self.owners,
            "architecture": dict(self.architecture.describe()),
            "policies": {name: digest.hex() for name, digest in self.policies.items()},
        }
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).digest()
