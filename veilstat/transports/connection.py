"""One TLS connection over a socket that never blocks: connect, shake hands, read records, write bytes."""

from __future__ import annotations

import os
import selectors
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .address import Address
from .records import Reader, Record

_TLS_RECORD_BYTES, _RECORDS_AT_ONCE = 1 << 14, 64
_PROBES = 3


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds.

    Args:
        handshake: from connecting to the greeting, after which the peer is turned away.
        reconnect: for a broken connection to come back, before its session and with it the running query is over.
        idle: of silence, before the operating system probes whether the peer's machine still runs.
        progress: that a party waits for others before its round expires.
    """

    handshake: float = 5.0
    reconnect: float = 5.0
    idle: float = 30.0
    progress: float = 60.0

    def __post_init__(self) -> None:
        if not all(0 < seconds <= 86_400 for seconds in (self.handshake, self.reconnect, self.idle, self.progress)):
            raise ValueError("timeouts are seconds, above 0 and at most 86400")


class Connection:
    """A socket from connecting to being closed.

    Args:
        raw: a connected or connecting socket. secure: starts TLS on it once it is connected.
        where: the peer's address, for messages. deadline: when the greeting must have come.
    """

    def __init__(self, raw: socket.socket, secure: Callable[[socket.socket], ssl.SSLSocket], where: str, deadline: float) -> None:
        self._raw, self._secure = raw, secure
        self._tls: ssl.SSLSocket | None = None
        self._unwritten = memoryview(b"")
        self._received = memoryview(bytearray(_TLS_RECORD_BYTES))
        self.where, self.deadline = where, deadline
        self.descriptor = raw.fileno()
        self.reader = Reader()
        self.awaits = selectors.EVENT_WRITE
        self.established = self.closed = False

    @property
    def tls(self) -> ssl.SSLSocket:
        """The socket, once it is connected."""
        assert self._tls is not None
        return self._tls

    def establish(self) -> None:
        """Go on connecting and shaking hands until ``established``; OSError if that failed."""
        if self._tls is None:
            failure = self._raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if failure:
                raise OSError(failure, os.strerror(failure))
            self._tls = self._secure(self._raw)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self.awaits = selectors.EVENT_READ
        except ssl.SSLWantWriteError:
            self.awaits = selectors.EVENT_WRITE
        else:
            self.awaits, self.established = selectors.EVENT_READ, True

    def read(self) -> Iterator[Record]:
        """The records that have arrived; OSError once the connection is closed."""
        for _ in range(_RECORDS_AT_ONCE):
            try:
                count = self.tls.recv_into(self._received)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            if not count:
                raise ConnectionResetError("the peer closed the connection")
            self.reader.feed(self._received[:count])
            yield from self.reader.records()
            # After a short record there is seldom another; the buffer takes a whole one, so the selector knows of all that is left.
            if count < _TLS_RECORD_BYTES:
                return

    def write(self, following: Callable[[], bytes]) -> None:
        """Write what ``following`` gives until it gives nothing or the socket takes no more; OSError once it is closed."""
        try:
            while True:
                if not self._unwritten:
                    self._unwritten = memoryview(following())
                    if not self._unwritten:
                        break
                self._unwritten = self._unwritten[self.tls.send(self._unwritten) :]
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            self.awaits = selectors.EVENT_READ | selectors.EVENT_WRITE
        else:
            self.awaits = selectors.EVENT_READ

    def say(self, record: bytes) -> None:
        """Write one record, behind what is being written."""
        records = [record]
        self.write(lambda: records.pop() if records else b"")

    def close(self) -> None:
        """Hang up."""
        self.closed = True
        (self._tls or self._raw).close()


def dial(address: Address, idle: float) -> socket.socket:
    """A socket that is connecting; OSError if the name or the network is unknown."""
    family, kind, protocol, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
    raw = socket.socket(family, kind, protocol)
    tune(raw, idle)
    try:
        raw.connect(place)
    except BlockingIOError:
        return raw
    except OSError:
        raw.close()
        raise
    return raw


def tune(raw: socket.socket, idle: float) -> None:
    """Never block, send small messages at once, and notice when the peer's machine is gone."""
    raw.setblocking(False)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, round(idle)))
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, round(idle / _PROBES)))
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(2000 * idle))
