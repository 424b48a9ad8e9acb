"""A server process: one party of a study, reached over TLS, until it is told to end."""

from __future__ import annotations

import logging
import secrets
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from veilstat.language.errors import CapabilityError
from veilstat.protocol.faults import ProtocolError
from veilstat.protocol.identity import Identity, Roster
from veilstat.transports.hosting import Hosted, serve
from veilstat.transports.occurrences import Arrived, Lost, Notice, Occurrence
from veilstat.transports.tcp import Endpoint
from veilstat.transports.tls import Credential

from .definition import PARTIES, Definition
from .driver import as_error
from .identity_file import read_identity
from .roster_file import read_roster
from .server_file import load_server
from .study_file import load_definition

Factory = Callable[[Identity, Roster, Definition], Hosted]
# Everybody has business with a compute server; the others meet in one process.
TALKS_WITH: Mapping[str, frozenset[str]] = {"compute": frozenset(("owner", "server", "analyst", "compute"))}

_log = logging.getLogger("veilstat.server")


def run_server(path: Path, factories: Mapping[str, Factory]) -> None:
    """Serve the party of a server's file until SIGTERM or SIGINT; ``factories`` make a party's machine, by role.

    Raises:
        SchemaError: a file is missing or wrong. CapabilityError: the role has no server, the key is not kept well, the
        address cannot be listened on.
    """
    config = load_server(path)
    directory = read_roster(config.roster)
    roster = directory.roster
    role = roster.roles.get(config.party)
    if role is None:
        raise CapabilityError(
            f"{config.party!r} is not in the roster {config.roster.name}; it lists: {', '.join(roster.keys)}", code="not_in_roster"
        )
    if role not in factories:
        raise CapabilityError(f"there is no server for role {role} ({config.party!r}) here", code="not_available")
    identity = read_identity(config.identity, config.party, roster.keys[config.party])
    definition = load_definition(config.study)
    machine = factories[role](identity, roster, definition)
    credential = Credential(config.party, str(config.identity))
    listen = {} if config.listen is None else {config.party: config.listen}
    is_over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: is_over.set())
    try:
        endpoint = Endpoint(directory, [credential], TALKS_WITH[role], config.timeouts, secrets.token_bytes, time.monotonic, listen)
    except ProtocolError as error:
        raise as_error(error.fault) from None
    _log.info("started %s, role %s, roster %s", config.party, role, roster.digest.hex()[:16])
    try:
        serve(config.party, machine, endpoint, {PARTIES: (*definition.owners, *definition.servers)}, log_occurrence, is_over.is_set)
    finally:
        endpoint.close()
        _log.info("ended %s", config.party)


def log_occurrence(occurrence: Occurrence) -> None:
    """One line for whatever is not a frame; frames are neither counted nor shown."""
    match occurrence:
        case Arrived():
            pass
        case Lost(party, peer, fault):
            _log.warning("%s lost %s: [%s] %s", party, peer, fault.code, fault.message)
        case Notice(what, party, peer, why):
            _log.info("%s %s %s%s", party, what, peer, f": {why}" if why else "")
