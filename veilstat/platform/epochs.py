"""Beginning an epoch: the server's word to all owners that a key is to be made and rows are to be encrypted under it."""

from __future__ import annotations

from veilstat.protocol.context import digest
from veilstat.protocol.identity import Roster

from .definition import Definition

OPEN = "epoch_open"
IDENTIFIER_BYTES = 16


def study_digest(definition: Definition, roster: Roster) -> bytes:
    """What an epoch on disk belongs to."""
    return digest("veilstat/study/1", definition.digest, roster.digest)


def epoch_root(definition: Definition, roster: Roster, identifier: bytes) -> bytes:
    """What every message of an epoch is bound to, and its common polynomials are expanded from."""
    return digest("veilstat/epoch/1", study_digest(definition, roster), identifier)
