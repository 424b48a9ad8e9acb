"""Uploading a table: an owner shares its rows once with every compute server, plane by plane, and may go offline.

0. ask, held: which version a server holds, and which was the largest that it ever took; the next is larger.
1. offer: the owner signs the upload's header: what everybody may know of it, and the policy that holds for it.
2. kept/k, plane/k: every server says that it is ready for plane k, the owner seals it to each of them. The last of
   these ``kept`` says that the whole is on disk.
3. commit, kept: once all servers have the whole, the owner has them put it in the former one's place.
4. withdraw, withdrawn: every server removes what it holds up to a version, if anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

import msgspec

from veilstat.architectures.sharing.uploads import Header
from veilstat.arithmetic.agreement import SEALED_BYTES, KeyPair, seal_to, unseal_with
from veilstat.errors import VeilstatError
from veilstat.protocol.codec import decode
from veilstat.protocol.context import digest
from veilstat.protocol.faults import Fault, ProtocolError, violation
from veilstat.protocol.identity import Identity, Roster
from veilstat.protocol.session import Binding, Message, Session, Turn

ASK, HELD = "ask", "held"
OFFER, KEPT, PLANE, COMMIT = "offer", "kept", "plane", "commit"
WITHDRAW, WITHDRAWN = "withdraw", "withdrawn"
ROUNDS = (KEPT, PLANE, COMMIT)
VERSION_BYTES = 8
_MOST_VERSIONS = 1 << 62
_COARSENESS = 8


def upload_root(header: Header, roster: Roster) -> bytes:
    """What every message of one upload is bound to."""
    return digest("veilstat/upload/1", header.to_bytes(), roster.digest)


class Held(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The version that a server holds, 0 for none, and the largest that it ever took, withdrawn or not."""

    stored: int
    largest: int


def read_held(payload: memoryview, sender: str) -> Held:
    """A server's answer; a violation where it cannot be read or leaves no larger version."""
    held = decode(payload, Held, sender)
    if not 0 <= held.stored <= held.largest < _MOST_VERSIONS:
        raise violation("malformed", f"{sender!r} named versions that cannot be", sender)
    return held


def withdrawal_root(owner: str, version: int, roster: Roster) -> bytes:
    """What a withdrawal up to a version is bound to, so that a replay never removes a later one."""
    return digest("veilstat/withdraw/2", owner.encode(), version.to_bytes(VERSION_BYTES, "little"), roster.digest)


def withdrawn_version(payload: memoryview, owner: str, root: bytes, roster: Roster) -> int:
    """The version up to which an owner withdraws; a violation where the message is not bound to it."""
    version = int.from_bytes(payload, "little")
    if len(payload) != VERSION_BYTES or root != withdrawal_root(owner, version, roster):
        raise violation("malformed", f"{owner!r} sent a withdrawal that could not be read", owner)
    return version


def padded(count: int) -> int:
    """Rows that an upload of ``count`` rows declares: up to an eighth more, so that servers learn no exact number."""
    grain = max(_COARSENESS, (1 << max(0, count.bit_length() - 1)) // _COARSENESS)
    return max(grain, -(-count // grain) * grain)


@dataclass(frozen=True, slots=True)
class _AwaitKept:
    """The owner's side: every server says that it has what it was sent."""

    roster: Roster
    number: int
    largest: ClassVar[int] = 0

    @property
    def name(self) -> str:
        return f"{KEPT}/{self.number}"

    @property
    def senders(self) -> frozenset[str]:
        return frozenset(self.roster.with_role("compute"))

    @property
    def quorum(self) -> int:
        return len(self.senders)

    def take(self, sender: str, payload: memoryview) -> None:
        """Servers say no more than that they are ready."""

    def close(self) -> Turn:
        """All have put the upload in its place."""
        return Turn((), None, self.number)


@dataclass(frozen=True, slots=True)
class SendPlanes(_AwaitKept):
    """Once every server is ready for a plane, seal it to each; behind the last one, have all commit."""

    identity: Identity
    root: bytes
    planes: Iterator[list[bytes]] = field(repr=False)
    random: Callable[[int], bytes] = field(repr=False)

    def close(self) -> Turn:
        payloads, servers = next(self.planes, None), self.roster.with_role("compute")
        if payloads is None:
            return Turn(tuple(Message(COMMIT, server, b"") for server in servers), _AwaitKept(self.roster, self.number + 1))
        label = _plane_label(self.identity.name, self.number)
        sent = [
            Message(f"{PLANE}/{self.number}", server, seal_to(self.roster.sealing[server], self.root, label, payload, self.random))
            for server, payload in zip(servers, payloads, strict=True)
        ]
        return Turn(tuple(sent), replace(self, number=self.number + 1))


class Incoming(Protocol):
    """An upload that is being written. All of it raises VeilstatError, and nothing of it counts before ``commit``."""

    def add(self, payload: bytes) -> None:
        """The next plane."""
        ...

    def finish(self) -> None:
        """There are no more planes; returns once a crash loses none."""
        ...

    def commit(self) -> None:
        """Put it in the place of the former upload."""
        ...


@dataclass(frozen=True, slots=True)
class _FromOwner:
    """A server's side of an upload of ``count`` planes, each of at most ``size`` bytes."""

    identity: Identity
    owner: str
    root: bytes
    count: int
    size: int
    incoming: Incoming = field(repr=False)
    quorum: ClassVar[int] = 1

    @property
    def senders(self) -> frozenset[str]:
        return frozenset((self.owner,))

    def ready(self, number: int) -> Message:
        """That all before this has arrived."""
        return Message(f"{KEPT}/{number}", self.owner, b"")


@dataclass(frozen=True, slots=True)
class CollectPlanes(_FromOwner):
    """Plane after plane."""

    number: int = 0

    @property
    def name(self) -> str:
        return f"{PLANE}/{self.number}"

    @property
    def largest(self) -> int:
        return SEALED_BYTES + self.size

    def start(self) -> Turn:
        """Say that the first plane may come."""
        return Turn((self.ready(0),), self)

    def take(self, sender: str, payload: memoryview) -> None:
        pair = KeyPair.from_secret(self.identity.sealing_secret)
        plane = unseal_with(pair, self.root, _plane_label(self.owner, self.number), bytes(payload))
        if plane is None:
            raise violation("malformed", f"{sender!r} sent rows that were not sealed to {self.identity.name!r}", sender)
        with _told(self.identity.name):
            self.incoming.add(plane)

    def close(self) -> Turn:
        following = self.number + 1
        if following < self.count:
            return Turn((self.ready(following),), replace(self, number=following))
        with _told(self.identity.name):
            self.incoming.finish()
        last = _AwaitCommit(self.identity, self.owner, self.root, self.count, self.size, self.incoming)
        return Turn((self.ready(following),), last)


@dataclass(frozen=True, slots=True)
class _AwaitCommit(_FromOwner):
    """All planes are on disk here; whether they are everywhere, the owner says."""

    name: ClassVar[str] = COMMIT
    largest: ClassVar[int] = 0

    def take(self, sender: str, payload: memoryview) -> None:
        """The owner says no more than that they are."""

    def close(self) -> Turn:
        with _told(self.identity.name):
            self.incoming.commit()
        return Turn((self.ready(self.count + 1),), None, self.owner)


@contextmanager
def _told(server: str) -> Iterator[None]:
    """What cannot be kept ends the upload, and its owner hears where and why."""
    try:
        yield
    except VeilstatError as error:
        raise ProtocolError(fault_at(server, error)) from None


def fault_at(server: str, error: VeilstatError) -> Fault:
    """What went wrong with an owner's rows at a server, for that owner."""
    return Fault.of(error.at(f"compute server {server!r}"))


def planes_kept(session: Session | None) -> int:
    """How many planes all servers have, as far as their owner's session knows."""
    kept, _, number = ("" if session is None else session.waiting_for or "").partition("/")
    return max(0, int(number) - 1) if kept == KEPT else 0


def _plane_label(owner: str, number: int) -> bytes:
    """What a sealed plane is bound to besides its upload."""
    return b"plane\0" + owner.encode() + b"\0%d" % number


def session(identity: Identity, roster: Roster, root: bytes, tell: tuple[str, ...], first: Turn) -> Session:
    """A party's side of one upload."""
    return Session(Binding(identity, roster, root, digest("veilstat/upload/step/1", root), ROUNDS, tell), first)
