"""A compute server's side: collect components, agree on whose arrived everywhere, compute, and seal the answer's part.

A server sees its own components, which are uniform by themselves, masked messages of its neighbours, and who took
part. All servers must stay to the end; owners may be lost until their components have arrived.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec

from veilstat.architectures.interface import Custody, Random, StepBinding
from veilstat.arithmetic.agreement import PUBLIC_KEY_BYTES, KeyPair, derive, seal_to, unseal_with
from veilstat.arithmetic.rings import Elements
from veilstat.protocol.codec import decode
from veilstat.protocol.context import digest
from veilstat.protocol.faults import Fault, ProtocolError, quorum_lost, violation
from veilstat.protocol.session import Message, Turn

from .messages import COMPUTE, RESULT, SHARE, TALLY, Part, Share, Tally, result_label, share_label, share_size, tally_size
from .protocols.rounds import advanced
from .schemes import Place, Scheme
from .uploads import UploadedRows


@dataclass(frozen=True, slots=True)
class ComputeServer:
    """Everything that a server's rounds need."""

    binding: StepBinding
    scheme: Scheme
    threshold: int
    custody: Custody
    random: Random = field(repr=False)

    @property
    def name(self) -> str:
        return self.binding.identity.name

    @property
    def index(self) -> int:
        return self.binding.servers.index(self.name)

    @property
    def others(self) -> tuple[str, ...]:
        return tuple(server for server in self.binding.servers if server != self.name)

    def neighbour(self, step: int) -> str:
        """The server so many places further on the ring."""
        return self.binding.servers[(self.index + step) % len(self.binding.servers)]

    def start(self) -> Turn:
        """Nothing to say before the owners have spoken."""
        return Turn((), CollectShares(self))

    def start_from_uploads(self) -> Turn:
        """Owners have uploaded their rows before: agree with the other servers on whose and which, and begin."""
        uploads = {owner: self.custody.uploads(owner) for owner in self.binding.participants}
        headers = digest("veilstat/uploads/1", *(upload.header.to_bytes() for upload in uploads.values()))
        pair = KeyPair.generate(self.random)
        return Turn(self.tell(Tally(list(uploads), pair.public, headers)), AgreeOnUploads(self, pair, tuple(uploads.values()), headers))

    def tell(self, tally: Tally) -> tuple[Message, ...]:
        """The same message to every other server."""
        raw = msgspec.msgpack.encode(tally)
        return tuple(Message(TALLY, other, raw) for other in self.others)

    def read(self, sender: str, payload: memoryview) -> Tally:
        """Another server's tally; a violation where it fits no step."""
        tally = decode(payload, Tally, sender, "a tally")
        if not set(tally.owners) <= set(self.binding.participants) or len(tally.key) != PUBLIC_KEY_BYTES:
            raise violation("malformed", f"{sender!r} counted owners that do not take part, or sent no key", sender)
        return tally

    def place(self, pair: KeyPair, tallies: Mapping[str, Tally]) -> Place:
        """Where this server stands, with the keys that it shares with its neighbours for this step."""

        def key(other: str, number: int) -> bytes:
            try:
                shared = pair.exchange(tallies[other].key)
            except ValueError:
                raise violation("malformed", f"{other!r} sent a key with which nobody can agree on a secret", other) from None
            return derive(shared, self.binding.step, b"pair\0%d" % number, 16)

        before = (self.index - 1) % len(self.binding.servers)
        return Place(self.index, key(self.neighbour(1), self.index), key(self.neighbour(-1), before))

    def begin(self, place: Place, survivors: tuple[str, ...], inputs: tuple[Any, ...]) -> Turn:
        """Compute, once it is known whose data are opened."""
        self.custody.authorise(survivors)
        return Compute(self, survivors, self.scheme.program(place, inputs, self.binding.public, self.custody.noise)).advance(None)


@dataclass(frozen=True, slots=True)
class CollectShares:
    """Wait for every owner's components."""

    server: ComputeServer
    arrived: dict[str, Share] = field(default_factory=dict, repr=False)
    name: ClassVar[str] = SHARE

    @property
    def senders(self) -> frozenset[str]:
        return frozenset(self.server.binding.participants)

    @property
    def quorum(self) -> int:
        return self.server.threshold

    @property
    def largest(self) -> int:
        return share_size(self._payload)

    @property
    def _payload(self) -> int:
        return self.server.scheme.dealing.payload_bytes(self.server.index, self.server.scheme.inward.size)

    def take(self, sender: str, payload: memoryview) -> None:
        server = self.server
        pair = KeyPair.from_secret(server.binding.identity.sealing_secret)
        raw = unseal_with(pair, server.binding.step, share_label(sender, server.name), bytes(payload))
        if raw is None:
            raise violation("malformed", f"{sender!r} sent shares that were not sealed to {server.name!r} for this step", sender)
        self.arrived[sender] = Share.decode(raw, self._payload, sender)

    def close(self) -> Turn:
        pair = KeyPair.generate(self.server.random)
        return Turn(self.server.tell(Tally(sorted(self.arrived), pair.public, b"")), AgreeOnSurvivors(self.server, pair, self.arrived))


@dataclass(frozen=True, slots=True)
class _AwaitTallies:
    """Wait for every other server's tally; ``pair`` is this server's for the step."""

    server: ComputeServer
    pair: KeyPair
    tallies: dict[str, Tally] = field(default_factory=dict, repr=False, kw_only=True)
    name: ClassVar[str] = TALLY

    @property
    def senders(self) -> frozenset[str]:
        return frozenset(self.server.others)

    @property
    def quorum(self) -> int:
        return len(self.server.others)

    @property
    def largest(self) -> int:
        return tally_size(self.server.binding.participants)

    @property
    def place(self) -> Place:
        """Where this server stands, once all have spoken."""
        return self.server.place(self.pair, self.tallies)


@dataclass(frozen=True, slots=True)
class AgreeOnSurvivors(_AwaitTallies):
    """Go on with the owners whose components arrived at all servers."""

    arrived: dict[str, Share] = field(repr=False)

    def take(self, sender: str, payload: memoryview) -> None:
        self.tallies[sender] = self.server.read(sender, payload)

    def close(self) -> Turn:
        server = self.server
        common = set(self.arrived).intersection(*(tally.owners for tally in self.tallies.values()))
        survivors = tuple(sorted(common))
        fewest = max([server.threshold, *(self.arrived[owner].fewest for owner in survivors)])
        if len(survivors) < fewest:
            missing = tuple(sorted(set(server.binding.participants) - common))
            raise quorum_lost(SHARE, len(survivors), fewest, missing)
        return server.begin(self.place, survivors, self._total(survivors))

    def _total(self, survivors: tuple[str, ...]) -> tuple[Elements, ...]:
        dealing, length = self.server.scheme.dealing, self.server.scheme.inward.size
        totals = [dealing.zeros(length) for _ in dealing.held[self.server.index]]
        for owner in survivors:
            parts = dealing.components(self.server.index, self.arrived[owner].payload, length)
            totals = [dealing.group.add(total, part) for total, part in zip(totals, parts, strict=True)]
        return tuple(totals)


@dataclass(frozen=True, slots=True)
class AgreeOnUploads(_AwaitTallies):
    """Go on once every other server has named the same uploads."""

    uploads: tuple[UploadedRows, ...] = field(repr=False)
    headers: bytes

    def take(self, sender: str, payload: memoryview) -> None:
        tally = self.server.read(sender, payload)
        if tally.uploads != self.headers:
            raise violation(
                "uploads_differ",
                f"{sender!r} and {self.server.name!r} hold different uploads; ask again, and if that does not help let owners upload again",
                sender,
            )
        self.tallies[sender] = tally

    def close(self) -> Turn:
        return self.server.begin(self.place, self.server.binding.participants, self.uploads)


@dataclass(frozen=True, slots=True)
class Compute:
    """Wait for the previous server's message of one layer; it is as long as this server's own, ``largest``."""

    server: ComputeServer
    survivors: tuple[str, ...]
    program: Generator[bytes, bytes, bytes] = field(repr=False)
    layer: int = 0
    largest: int = 0
    inbox: list[bytes] = field(default_factory=list, repr=False)
    quorum: ClassVar[int] = 1

    @property
    def name(self) -> str:
        return f"{COMPUTE}/{self.layer}"

    @property
    def senders(self) -> frozenset[str]:
        return frozenset((self.server.neighbour(-1),))

    def take(self, sender: str, payload: memoryview) -> None:
        self.inbox.append(bytes(payload))

    def close(self) -> Turn:
        return self.advance(self.inbox[0])

    def advance(self, received: bytes | None) -> Turn:
        """Go on to the next layer, or to the end."""
        try:
            payload = advanced(self.program, received)
        except StopIteration as stop:
            return Turn((self._part(stop.value),), None, self.survivors)
        except ProtocolError as error:
            raise self._blamed(error.fault) from None
        following = Compute(self.server, self.survivors, self.program, self.layer + 1, len(payload))
        return Turn((Message(following.name, self.server.neighbour(1), payload),), following)

    def _blamed(self, fault: Fault) -> ProtocolError:
        return ProtocolError(fault if fault.culprits else Fault(fault.kind, fault.code, fault.message, (self.server.neighbour(-1),)))

    def _part(self, payload: bytes) -> Message:
        binding = self.server.binding
        sealed = seal_to(binding.key, binding.step, result_label(self.server.name), payload, self.server.random)
        return Message(RESULT, binding.analyst, msgspec.msgpack.encode(Part(list(self.survivors), sealed)))
