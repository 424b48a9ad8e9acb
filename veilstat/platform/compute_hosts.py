"""Where the compute servers of a study run, seen from the process of its owners, coordinator and analyst: here, or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Protocol
from weakref import finalize

from veilstat.dp.ledger import Budget
from veilstat.protocol.identity import Identity, Roster
from veilstat.protocol.member import Member
from veilstat.transports.machine import Hosted, Machine

from .compute import ComputeServer
from .definition import ANALYST, SERVER, Definition
from .ledgers import in_directory, in_memory
from .planner import Planner
from .upload_store import UploadStore


def fleeting_directories(holder: object, names: Iterable[str]) -> dict[str, Path]:
    """For each name a directory (0700) that lives as long as ``holder``."""
    disk = Path(mkdtemp(prefix="veilstat-"))
    finalize(holder, rmtree, disk, ignore_errors=True)
    directories = {name: disk / str(place) for place, name in enumerate(names)}
    for directory in directories.values():
        directory.mkdir(mode=0o700)
    return directories


class ComputeHosts(Protocol):
    """The compute servers of a study, and the identities of the parties in this process.

    ``tiers`` is the order in which waits expire, and ``observable`` are the servers whose frames can be seen here.
    """

    @property
    def identities(self) -> Mapping[str, Identity]: ...

    @property
    def roster(self) -> Roster: ...

    @property
    def tiers(self) -> tuple[tuple[str, ...], ...]: ...

    @property
    def observable(self) -> tuple[str, ...]: ...

    def machines(self, local: Mapping[str, Hosted], planner: Planner) -> Mapping[str, Machine]:
        """The compute servers by name; ``local`` are the other parties; servers here plan with ``planner``."""
        ...

    def ready(self) -> None:
        """Called before every query; raises a VeilstatError if a server cannot be reached."""
        ...

    def budget(self, owner: str) -> Budget:
        """What is spent and left of the budget of an owner who uploaded its rows; CapabilityError where that is not known here."""
        ...


class LocalServers:
    """In this process, with fresh identities for everybody; what owners upload is kept as long as this object.

    ``ledgers`` is a directory in which servers keep the ledgers of owners, if they are to outlive it.
    """

    def __init__(self, definition: Definition, random: Callable[[int], bytes], ledgers: Path | None = None) -> None:
        self.definition, self.random, self.ledgers = definition, random, ledgers
        self.servers: Mapping[str, ComputeServer] = {}
        self.identities = {name: Identity.from_seed(name, random(32)) for name in definition.roles}
        self.roster = Roster(
            {name: its.public for name, its in self.identities.items()},
            definition.roles,
            {name: self.identities[name].sealing_key for name in definition.servers},
        )
        self.tiers = ((SERVER,), definition.servers, definition.owners, (ANALYST,))
        self.observable = definition.servers

    def machines(self, local: Mapping[str, Hosted], planner: Planner) -> Mapping[str, Machine]:
        stores = self._stores()
        self.servers = {
            name: ComputeServer(
                Member(self.identities[name], self.roster),
                self.definition,
                planner,
                self.random,
                stores.get(name),
                ledgers=in_memory if self.ledgers is None else in_directory(self.ledgers / name.encode().hex()),
            )
            for name in self.definition.servers
        }
        return self.servers

    def ready(self) -> None:
        """They are always here."""

    def budget(self, owner: str) -> Budget:
        """As the strictest of the servers keeps it."""
        return max((server.budget(owner) for server in self.servers.values()), key=lambda budget: budget.spent)

    def _stores(self) -> Mapping[str, UploadStore]:
        if not self.definition.keeps_rows:
            return {}
        directories = fleeting_directories(self, self.definition.servers)
        return {name: UploadStore(directories[name], self.definition.schema, place) for place, name in enumerate(directories)}
