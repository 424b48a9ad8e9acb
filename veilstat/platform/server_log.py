"""The log of connections: one line for each event, with parties, codes and reasons, never a payload or its size."""

from __future__ import annotations

import logging

from veilstat.transports.occurrences import Arrived, Lost, Notice, Occurrence

log = logging.getLogger("veilstat.server")


def log_occurrence(occurrence: Occurrence) -> None:
    """One line for whatever is not a frame."""
    match occurrence:
        case Arrived():
            pass
        case Lost(party, peer, fault):
            log.warning("%s lost %s: [%s] %s", party, peer, fault.code, fault.message)
        case Notice(what, party, peer, why):
            log.info("%s %s %s%s", party, what, peer, f": {' '.join(why.split())}" if why else "")
