"""Beginning an epoch: owners ask for a new key, and the server opens one with the words of all of them.

An owner's word is an envelope to the server that holds a number drawn for it. The server's word holds those of all
owners: nobody can have a key made that an owner did not ask for, and each word is good for one key at most.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from veilstat.protocol.codec import decode
from veilstat.protocol.context import digest
from veilstat.protocol.envelope import Envelope
from veilstat.protocol.faults import ProtocolError, violation
from veilstat.protocol.identity import Roster

from .definition import SERVER, Definition

ASK, OPEN = "epoch_ask", "epoch_open"
WISH_BYTES = 16


class _Opening(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    frames: list[bytes]


def study_digest(definition: Definition, roster: Roster) -> bytes:
    """What an epoch on disk belongs to."""
    return digest("veilstat/study/1", definition.digest, roster.digest)


def asking_root(definition: Definition, roster: Roster) -> bytes:
    """What owners bind their words to."""
    return digest("veilstat/epoch/ask/1", study_digest(definition, roster))


def epoch_root(definition: Definition, roster: Roster, opening: bytes) -> bytes:
    """What every message of an epoch is bound to, and its common polynomials are expanded from."""
    return digest("veilstat/epoch/1", study_digest(definition, roster), opening)


def encode_opening(asked: Mapping[str, bytes]) -> bytes:
    """The server's word: the frames in which owners asked, by owner."""
    return msgspec.msgpack.encode(_Opening([asked[owner] for owner in sorted(asked)]))


def read_opening(opening: bytes, root: bytes, owners: tuple[str, ...], roster: Roster) -> dict[str, bytes]:
    """What each owner asked with.

    Raises:
        ProtocolError: it does not hold a word of every owner, signed for this study; the server is to blame.
    """
    wishes = {}
    for frame in decode(opening, _Opening, SERVER, "an opening").frames:
        try:
            word = Envelope.decode(frame)
            word.verify(roster)
        except ProtocolError:
            raise _unasked() from None
        if (word.root, word.round, len(word.payload)) != (root, ASK, WISH_BYTES) or word.sender in wishes:
            raise _unasked()
        wishes[word.sender] = bytes(word.payload)
    if set(wishes) != set(owners):
        raise _unasked()
    return wishes


def _unasked() -> ProtocolError:
    return violation("not_asked", f"{SERVER!r} began a key that not all owners asked for", SERVER)
