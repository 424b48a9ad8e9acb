"""A server process: one party of a study, reached over TLS, until it is told to end."""

from __future__ import annotations

import ctypes
import secrets
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from veilstat.errors import CapabilityError, SchemaError
from veilstat.protocol.faults import ProtocolError
from veilstat.protocol.identity import Identity, Roster
from veilstat.transports.hosting import serve
from veilstat.transports.machine import Hosted
from veilstat.transports.tcp import Endpoint
from veilstat.transports.tls import Credential

from .allocation import keep_freed_memory
from .compute import ComputeServer
from .definition import ANALYST, PARTIES, SERVER, Definition
from .driver import as_error
from .identity_file import read_identity
from .ledgers import in_directory
from .opening_file import OpeningFile
from .planner import make_planner
from .roster_file import read_roster
from .server_file import ServerFile, load_server
from .server_log import log, log_occurrence
from .study_file import load_definition
from .upload_store import UploadStore

Factory = Callable[[Identity, Roster, Definition, ServerFile], Hosted]
# Everybody has business with a compute server; the others meet in one process.
TALKS_WITH: Mapping[str, frozenset[str]] = {"compute": frozenset(("owner", "server", "analyst", "compute"))}
# In a deployment owners and analyst have no connection of their own: the coordinator passes their signed frames on.
THROUGH_COORDINATOR = frozenset(("server", "compute"))


def compute_server(identity: Identity, roster: Roster, definition: Definition, config: ServerFile) -> ComputeServer:
    """A compute server's machine; SchemaError if owners upload rows and there is no place to keep them, VeilstatError if what is on disk is damaged."""
    store = None
    if definition.keeps_rows:
        if config.uploads is None:
            raise SchemaError(
                "owners upload rows in this study: the server's file needs uploads = a directory of mode 0700", code="missing_key"
            )
        store = UploadStore(config.uploads, definition.schema, definition.servers.index(identity.name))
    openings, ledgers = OpeningFile(config.openings), in_directory(config.ledgers)
    return ComputeServer(identity, roster, definition, make_planner(), secrets.token_bytes, store, openings, ledgers)


FACTORIES: Mapping[str, Factory] = {"compute": compute_server}


def run_server(path: Path, factories: Mapping[str, Factory]) -> None:
    """Serve the party of a server's file until SIGTERM or SIGINT; ``factories`` make a party's machine, by role.

    Raises:
        SchemaError: a file is missing or wrong. CapabilityError: the role has no server, the key is not kept well, the
        address cannot be listened on.
    """
    keep_freed_memory(ctypes.CDLL(None))
    config = load_server(path)
    directory = read_roster(config.roster)
    roster = directory.roster
    role = roster.roles.get(config.party)
    if role is None:
        raise CapabilityError(
            f"{config.party!r} is not in the roster {config.roster.name}; it lists: {', '.join(roster.keys)}", code="not_in_roster"
        )
    if role not in factories:
        raise CapabilityError(
            f"there is no server for a party of role {role}, such as {config.party!r}; there is one for: {', '.join(factories)}",
            code="not_available",
        )
    identity = read_identity(config.identity, config.party, roster.keys[config.party])
    definition = load_definition(config.study)
    if dict(roster.roles) != definition.roles:
        raise SchemaError(
            f"{config.roster.name} lists other parties than {config.study.name}; make the certificates anew", code="roster_differs"
        )
    machine = factories[role](identity, roster, definition, config)
    credential = Credential(config.party, str(config.identity))
    listen = {} if config.listen is None else {config.party: config.listen}
    try:
        talks_with = TALKS_WITH[role] if config.through is None else THROUGH_COORDINATOR
        endpoint = Endpoint(directory, [credential], talks_with, config.timeouts, secrets.token_bytes, time.monotonic, listen)
    except ProtocolError as error:
        raise as_error(error.fault) from None
    is_over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: is_over.set())
    log.info("started %s, role %s, roster %s", config.party, role, roster.digest.hex()[:16])
    try:
        groups = {PARTIES: definition.approvers, **dict.fromkeys((*definition.owners, ANALYST) if config.through else (), (SERVER,))}
        serve(config.party, machine, endpoint, groups, log_occurrence, is_over.is_set)
    finally:
        endpoint.close()
        log.info("ended %s", config.party)
