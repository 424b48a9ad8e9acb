"""The signed root of a query and the context of each step: what every key, signature and label is bound to.

One root and one step are one opening. The digests are over length-prefixed parts, so no two inputs collide.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

DIGEST_BYTES = 32


def digest(label: str, *parts: bytes) -> bytes:
    """SHA-256 of a label and length-prefixed parts."""
    state = hashlib.sha256(label.encode() + b"\0")
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.digest()


def digest_names(names: Iterable[str]) -> bytes:
    """SHA-256 of a set of parties."""
    return digest("veilstat/participants/1", *(name.encode() for name in sorted(names)))


def proposal_message(plan: bytes, query_id: bytes, query: bytes) -> bytes:
    """What an analyst signs when it proposes a query."""
    return digest("veilstat/proposal/1", plan, query_id, query)


def session_root(plan: bytes, query_id: bytes, roster: bytes, recipients: Iterable[str], signature: bytes) -> bytes:
    """The root of one query: plan, random query id, roster with identity keys and roles, recipients, analyst's signature."""
    return digest("veilstat/root/1", plan, query_id, roster, digest_names(recipients), signature)


def step_context(root: bytes, label: str, index: int, public: bytes, participants: Iterable[str], transcript: bytes) -> bytes:
    """The context of one opening; ``public`` is the digest of the broadcast values."""
    return digest("veilstat/step/1", root, label.encode(), index.to_bytes(8, "little"), public, digest_names(participants), transcript)


@dataclass(frozen=True, slots=True)
class Transcript:
    """The hash of what happened so far in a query; the survivors of each step enter it."""

    root: bytes
    value: bytes = field(default=b"")

    def after(self, context: bytes, survivors: Iterable[str]) -> Transcript:
        """The transcript once a step has been opened over its survivors."""
        return Transcript(self.root, digest("veilstat/transcript/1", self.root, self.value, context, digest_names(survivors)))
