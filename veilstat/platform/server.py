"""A server process: one party of a study, reached over TLS, until it is told to end."""

from __future__ import annotations

import ctypes
import secrets
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from veilstat.errors import CapabilityError, SchemaError
from veilstat.protocol.faults import ProtocolError
from veilstat.protocol.member import COMPUTE, Member
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
from .roster_file import read_roster, require_parties
from .server_file import ServerFile, load_server
from .server_log import log, log_occurrence
from .study_file import load_definition
from .upload_store import UploadStore

_EVERYBODY = frozenset(("owner", "server", "analyst", "compute"))
# In a deployment owners and analyst have no connection of their own: the coordinator passes their signed frames on.
_THROUGH_COORDINATOR = frozenset(("server", "compute"))


def compute_server(member: Member, definition: Definition, config: ServerFile) -> ComputeServer:
    """A compute server's machine; SchemaError if owners upload rows and there is no place to keep them, VeilstatError if what is on disk is damaged."""
    store = None
    if definition.keeps_rows:
        if config.uploads is None:
            raise SchemaError(
                "owners upload rows in this study: the server's file needs uploads = a directory of mode 0700", code="missing_key"
            )
        store = UploadStore(config.uploads, definition.schema, definition.servers.index(member.name))
    openings, ledgers = OpeningFile(config.openings), in_directory(config.ledgers)
    return ComputeServer(member, definition, make_planner(), secrets.token_bytes, store, openings, ledgers)


def run_server(path: Path, make: Callable[[Member, Definition, ServerFile], Hosted] = compute_server) -> None:
    """Serve the compute server of a server's file until SIGTERM or SIGINT; ``make`` makes its machine.

    Raises:
        SchemaError: a file is missing or wrong. CapabilityError: the party is no compute server, the key is not kept well, the
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
    if role != COMPUTE:
        raise CapabilityError(
            f"there is no server for a party of role {role}, such as {config.party!r}; there is one for: {COMPUTE}", code="not_available"
        )
    identity = read_identity(config.identity, config.party, roster.keys[config.party])
    definition = load_definition(config.study)
    require_parties(config.roster, roster, definition)
    machine = make(Member(identity, roster), definition, config)
    credential = Credential(config.party, str(config.identity))
    listen = {} if config.listen is None else {config.party: config.listen}
    try:
        talks_with = _EVERYBODY if config.through is None else _THROUGH_COORDINATOR
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
