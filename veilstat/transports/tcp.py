"""An endpoint: the connections of one process's parties to the parties of other processes.

Between two parties there is one connection; one of the two dials, the other listens. A peer is let in when it proves
to hold the key that the roster pins for the name it greets with, has the same roster, and a role that has business
here. One thread, one selector.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from veilstat.protocol.faults import Fault, ProtocolError, violation
from veilstat.protocol.session import decode_fault, encode_fault

from .address import Address
from .channel import LONGEST_PAUSE, SHORTEST_PAUSE, Channel, Visit
from .connection import Connection, Timeouts, dial, tune
from .directory import Directory
from .link import Link
from .occurrences import Arrived, Lost, Notice, Occurrence
from .records import Hello, Kind, Record
from .tls import Credential, dialling_context, listening_context, peer_key

MOST_STRANGERS = 32
_BACKLOG_BYTES = 1 << 30
"""The most that is kept for one peer."""


class Endpoint:
    """All connections of one process.

    Args:
        credentials: of the parties of this process. talks_with: the roles that they have business with.
        clock: seconds that never run backwards. listen: where to listen, by party, if not at the directory's address.

    Raises:
        ProtocolError: an address cannot be listened on.
    """

    def __init__(
        self,
        directory: Directory,
        credentials: Iterable[Credential],
        talks_with: frozenset[str],
        timeouts: Timeouts,
        random: Callable[[int], bytes],
        clock: Callable[[], float],
        listen: Mapping[str, Address] | None = None,
    ) -> None:
        self.directory, self.timeouts, self.random, self.clock = directory, timeouts, random, clock
        local = {credential.name: credential for credential in credentials}
        self._accepting = {name: listening_context(its, directory.certificates) for name, its in local.items()}
        self._dialling = {name: dialling_context(its, directory.certificates) for name, its in local.items()}
        self._selector = selectors.DefaultSelector()
        places = {name: directory.addresses[name] for name in local if name in directory.addresses}
        self._listeners = [self._listen(name, address) for name, address in {**places, **(listen or {})}.items()]
        self._channels: dict[tuple[str, str], Channel] = {}
        for name in local:
            for peer, role in directory.roster.roles.items():
                dials = directory.dials(name, peer)
                if peer not in local and role in talks_with and (dials or directory.dials(peer, name)):
                    self._channels[name, peer] = Channel(name, peer, dials, Link(peer, _BACKLOG_BYTES))
        self._ungreeted: dict[Visit, None] = {}
        self._dirty: dict[Channel, None] = {}
        self._occurrences: list[Occurrence] = []
        self._look_at = 0.0

    def send(self, party: str, peer: str, frame: bytes) -> None:
        """Queue a frame; the next ``poll`` writes it. A frame for somebody without a connection here is dropped, with a notice."""
        channel = self._channels.get((party, peer))
        if channel is None:
            self._occurrences.append(Notice("undeliverable", party, peer, "there is no connection between the two in this roster"))
            return
        try:
            channel.link.put(frame)
        except ProtocolError as error:
            self._lose(channel, error.fault)
            if channel.visit is not None:
                self._hang_up(channel.visit, error.fault.message)
        else:
            self._dirty[channel] = None

    def beat(self, party: str) -> None:
        """Let every peer of a party know, with the next ``poll``, that this process runs."""
        for channel in self._channels.values():
            if channel.party == party:
                channel.link.beat()
                self._dirty[channel] = None

    def silence(self, party: str, peer: str) -> float:
        """Seconds since anything came from a peer."""
        channel = self._channels.get((party, peer))
        return self.clock() - channel.heard_at if channel is not None else float("inf")

    def backlog(self, party: str, peer: str) -> int:
        """Bytes that are kept for a peer until it acknowledges them."""
        channel = self._channels.get((party, peer))
        return 0 if channel is None else channel.link.held

    def poll(self, timeout: float) -> list[Occurrence]:
        """Write what is queued, wait for at most ``timeout`` seconds for something to happen, and say what did."""
        self._flush()
        now = self.clock()
        if now >= self._look_at:
            self._look_at_clock(now)
        wait = 0.0 if self._occurrences else max(0.0, min(timeout, self._look_at - now))
        for key, mask in self._selector.select(wait):
            key.data(mask)
        occurrences, self._occurrences = self._occurrences, []
        return occurrences

    @property
    def descriptor(self) -> int:
        """Becomes readable when ``poll`` has something to do, for loops that watch other things besides."""
        return self._selector.fileno()

    @property
    def is_unsent(self) -> bool:
        """Whether frames of a session still wait to be written."""
        return any(channel.is_unsent for channel in self._channels.values())

    @property
    def unconnected(self) -> tuple[tuple[str, str], ...]:
        """Pairs of party and peer that no connection joins at present."""
        return tuple(pair for pair, channel in self._channels.items() if not channel.is_open)

    def close(self) -> None:
        """Say goodbye, so that nobody waits for this process to come back, and hang up."""
        goodbye = Record(Kind.GOODBYE, 0, 0, b"").encode()
        for channel in self._channels.values():
            if channel.visit is not None and channel.is_open:
                try:
                    channel.visit.connection.say(goodbye)
                except OSError:
                    continue
        for visit in [*self._ungreeted, *(channel.visit for channel in self._channels.values() if channel.visit is not None)]:
            visit.connection.close()
        for listener in self._listeners:
            listener.close()
        self._selector.close()

    def _listen(self, name: str, address: Address) -> socket.socket:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        try:
            listener = socket.create_server((address.host, address.port), family=family, backlog=128)
        except OSError as error:
            text = f"{name!r} cannot listen on {address}: {error.strerror}; end what listens there, or choose another address with `listen`"
            raise ProtocolError(Fault("CapabilityError", "cannot_listen", text, (name,))) from None
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, partial(self._accept, name, listener))
        return listener

    def _accept(self, party: str, listener: socket.socket, mask: int) -> None:
        try:
            raw, place = listener.accept()
        except OSError:
            return
        strangers = [visit for visit in self._ungreeted if visit.channel is None]
        if len(strangers) >= MOST_STRANGERS:
            self._hang_up(strangers[0], "too many connections at once that did not greet")
        tune(raw, self.timeouts.idle)
        context = self._accepting[party]
        secure = partial(context.wrap_socket, server_side=True, do_handshake_on_connect=False)
        self._start(Visit(party, Connection(raw, secure, str(Address(*place[:2])), self.clock() + self.timeouts.handshake)))

    def _dial(self, channel: Channel, now: float) -> None:
        address = self.directory.addresses[channel.peer]
        secure = partial(self._dialling[channel.party].wrap_socket, do_handshake_on_connect=False)
        try:
            raw = dial(address, self.timeouts.idle)
        except OSError as error:
            self._put_off(channel, _reason(error))
            return
        channel.visit = Visit(channel.party, Connection(raw, secure, str(address), now + self.timeouts.handshake), channel)
        self._start(channel.visit)

    def _start(self, visit: Visit) -> None:
        self._ungreeted[visit] = None
        self._look_at = 0.0
        self._selector.register(visit.connection.descriptor, visit.connection.awaits, partial(self._ready, visit))

    def _ready(self, visit: Visit, mask: int) -> None:
        connection = visit.connection
        # Another event of the same batch may have hung up already.
        if connection.closed:
            return
        try:
            if not connection.established:
                connection.establish()
                if connection.established and visit.channel is not None:
                    connection.say(visit.channel.hello(self.directory.roster.digest))
            else:
                if mask & selectors.EVENT_READ:
                    for record in connection.read():
                        self._take(visit, record)
                visit.write()
        except ProtocolError as error:
            self._refuse(visit, error.fault)
        except OSError as error:
            self._hang_up(visit, _reason(error))
        else:
            self._watch(visit)

    def _watch(self, visit: Visit) -> None:
        if visit.watched != visit.connection.awaits:
            visit.watched = visit.connection.awaits
            self._selector.modify(visit.connection.descriptor, visit.watched, partial(self._ready, visit))

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, {}
        for channel in dirty:
            if channel.visit is not None and channel.visit.greeted:
                try:
                    channel.visit.write()
                except OSError as error:
                    self._hang_up(channel.visit, _reason(error))
                else:
                    self._watch(channel.visit)

    def _take(self, visit: Visit, record: Record) -> None:
        channel = visit.channel
        if channel is not None:
            channel.heard_at = self.clock()
        if record.kind is Kind.REFUSAL and channel is not None:
            raise ConnectionRefusedError(f"refused by the peer: {decode_fault(record.body, channel.peer).message}")
        if channel is None or not visit.greeted:
            self._greet(visit, record)
        elif record.kind is Kind.HELLO:
            raise violation("malformed", f"{channel.peer!r} greeted twice", channel.peer)
        elif record.kind is Kind.GOODBYE:
            self._lose(channel, channel.gone("was ended"))
            raise ConnectionResetError("the peer was ended")
        else:
            channel.link.accept(record)
            if record.kind is Kind.FRAME:
                self._occurrences.append(Arrived(channel.party, channel.peer, record.body))

    def _greet(self, visit: Visit, record: Record) -> None:
        if record.kind is not Kind.HELLO:
            raise violation("malformed", "a connection began without a greeting")
        hello = Hello.decode(record.body)
        channel = self._identify(visit, hello)
        if not channel.dials and channel.visit is not None:
            self._hang_up(channel.visit, "replaced by a new connection")
        if channel.agree(hello, self.random):
            self._occurrences.append(Lost(channel.party, channel.peer, channel.gone("was restarted")))
        del self._ungreeted[visit]
        visit.channel, visit.greeted = channel, True
        visit.connection.reader.greeted()
        channel.visit, channel.over_at, channel.pause, channel.trouble = visit, None, SHORTEST_PAUSE, ""
        self._look_at = 0.0
        self._occurrences.append(Notice("connected", channel.party, channel.peer, visit.connection.where))
        if not channel.dials:
            visit.connection.say(channel.hello(self.directory.roster.digest))

    def _identify(self, visit: Visit, hello: Hello) -> Channel:
        roster = self.directory.roster
        if roster.keys.get(hello.sender) != peer_key(visit.connection.tls):
            text = f"the certificate at {visit.connection.where} is not that of {hello.sender!r}; compare its private file with the roster"
            raise violation("wrong_key", text, hello.sender)
        if hello.recipient != visit.party or (visit.channel is not None and hello.sender != visit.channel.peer):
            raise violation("misdirected", f"{hello.sender!r} called {hello.recipient!r} and reached {visit.party!r}; compare addresses")
        if hello.roster != roster.digest:
            raise violation(
                "roster_differs", f"{visit.party!r} and {hello.sender!r} have different rosters; give every party the same file"
            )
        channel = visit.channel or self._channels.get((visit.party, hello.sender))
        if channel is None or channel.dials != (visit.channel is not None):
            role = roster.roles[hello.sender]
            raise violation("wrong_role", f"{hello.sender!r}, of role {role}, has no business to connect to {visit.party!r}", hello.sender)
        return channel

    def _refuse(self, visit: Visit, fault: Fault) -> None:
        if visit.channel is not None and visit.greeted:
            self._lose(visit.channel, fault)
        if visit.connection.established:
            try:
                visit.connection.say(Record(Kind.REFUSAL, 0, 0, encode_fault(fault)).encode())
            except OSError as error:
                self._hang_up(visit, f"{fault.message} ({_reason(error)})")
                return
        self._hang_up(visit, fault.message)

    def _hang_up(self, visit: Visit, why: str) -> None:
        connection, channel = visit.connection, visit.channel
        self._selector.unregister(connection.descriptor)
        connection.close()
        self._ungreeted.pop(visit, None)
        self._look_at = 0.0
        if channel is None:
            self._occurrences.append(Notice("refused", visit.party, connection.where, why))
        elif visit.greeted:
            now = self.clock()
            channel.visit, channel.dial_at = None, now + channel.pause
            channel.over_at = now + self.timeouts.reconnect if channel.link.session else None
            self._occurrences.append(Notice("broken", channel.party, channel.peer, why))
        else:
            channel.visit = None
            self._put_off(channel, why)

    def _put_off(self, channel: Channel, why: str) -> None:
        # A random part keeps parties that lost each other at once from dialling in step.
        channel.dial_at = self.clock() + channel.pause * (1 + self.random(1)[0] / 255) / 2
        channel.pause = min(2 * channel.pause, LONGEST_PAUSE)
        if why != channel.trouble:
            channel.trouble = why
            self._occurrences.append(Notice("unreachable", channel.party, channel.peer, why))

    def _lose(self, channel: Channel, fault: Fault) -> None:
        channel.link.end()
        channel.over_at = None
        self._occurrences.append(Lost(channel.party, channel.peer, fault))

    def _look_at_clock(self, now: float) -> None:
        for visit in list(self._ungreeted):
            if now >= visit.connection.deadline:
                self._hang_up(visit, f"did not greet within {self.timeouts.handshake:g} seconds")
        for channel in self._channels.values():
            if channel.over_at is not None and now >= channel.over_at:
                self._lose(channel, channel.gone(f"did not come back within {self.timeouts.reconnect:g} seconds"))
            if channel.dials and channel.visit is None and now >= channel.dial_at:
                self._dial(channel, now)
        deadlines = [visit.connection.deadline for visit in self._ungreeted]
        deadlines += [channel.over_at for channel in self._channels.values() if channel.over_at is not None]
        deadlines += [channel.dial_at for channel in self._channels.values() if channel.dials and channel.visit is None]
        self._look_at = min(deadlines, default=float("inf"))


def _reason(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or str(error)
