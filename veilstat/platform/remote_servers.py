"""Compute servers in processes of their own, for an embedded study: its other parties each connect to every one of them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from weakref import finalize

from veilstat.dp.ledger import Budget
from veilstat.errors import CapabilityError
from veilstat.protocol.faults import ProtocolError
from veilstat.transports.connection import Timeouts
from veilstat.transports.machine import Hosted, Machine
from veilstat.transports.remote import RemoteParties
from veilstat.transports.tcp import Endpoint
from veilstat.transports.tls import Credential

from .definition import ANALYST, SERVER, Definition
from .driver import as_error
from .identity_file import private_path, read_identity
from .planner import Planner
from .roster_file import ROSTER, read_roster, require_parties
from .server_log import log_occurrence

# A server lets its rounds expire after a minute, by default; whoever waits for it must hear of that before giving up.
PATIENCE = Timeouts(progress=150.0)
_CONNECTED_WITHIN = 20.0


class RemoteServers:
    """In processes of their own, with identities that `veilstat certificates` made.

    Args:
        folder: ``roster.toml``, and the private files of the owners, the server and the analyst.

    Raises:
        SchemaError: a file is missing, or the roster is not that of the study. CapabilityError: a key is not kept well.
    """

    def __init__(self, definition: Definition, folder: Path, timeouts: Timeouts = PATIENCE) -> None:
        self.directory = read_roster(folder / ROSTER)
        self.roster = self.directory.roster
        require_parties(folder / ROSTER, self.roster, definition)
        names = (*definition.owners, SERVER, ANALYST)
        self.identities = {name: read_identity(private_path(folder, name), name, self.roster.keys[name]) for name in names}
        self.tiers = (*((name,) for name in definition.servers), (SERVER,), definition.owners, (ANALYST,))
        self.observable = ()
        credentials = [Credential(name, str(private_path(folder, name))) for name in names]
        self.endpoint = Endpoint(self.directory, credentials, frozenset(("compute",)), timeouts, secrets.token_bytes, time.monotonic)
        finalize(self, self.endpoint.close)
        self._parties: RemoteParties | None = None

    def machines(self, local: Mapping[str, Hosted], planner: Planner) -> Mapping[str, Machine]:
        self._parties = RemoteParties(self.endpoint, self.roster.with_role("compute"), local, log_occurrence)
        return self._parties.machines

    def budget(self, owner: str) -> Budget:
        raise CapabilityError(
            f"what is left of the budget of {owner!r} is kept by the compute servers, which run elsewhere; a query that exceeds it is refused and says what is left",
            code="budget_elsewhere",
        )

    def ready(self) -> None:
        assert self._parties is not None
        try:
            self._parties.connect(_CONNECTED_WITHIN)
        except ProtocolError as error:
            raise as_error(error.fault) from None
