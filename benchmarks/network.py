"""What messages between two compute servers cost, over pinned TLS on loopback: microseconds a round, gigabytes a second.

    OMP_NUM_THREADS=1 python -m benchmarks.network

A round is one message of 100 bytes in each direction. "none" is the floor: two blocking sockets with the same certificates,
without frames and sessions. "signed" adds the envelopes: every message signed by its sender and verified by its recipient.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.measuring import heading, row
from veilstat.platform.identity_file import issue
from veilstat.protocol.envelope import BLOCK_BYTES, NO_STEP, Envelope, seal
from veilstat.protocol.identity import Identity, Roster
from veilstat.transports.address import Address
from veilstat.transports.connection import Timeouts
from veilstat.transports.directory import Directory
from veilstat.transports.occurrences import Arrived
from veilstat.transports.tcp import Endpoint
from veilstat.transports.tls import Credential, dialling_context, listening_context

NAMES = ("compute1", "compute2")
ROUNDS, LARGE = 5000, 1000
SMALL_BYTES, DONE = 100, b"done"


class Server:
    """One of the two processes."""

    def __init__(self, identity: Identity, directory: Directory, folder: str) -> None:
        self.identity, self.roster = identity, directory.roster
        [self.peer] = set(NAMES) - {identity.name}
        credential = Credential(identity.name, str(Path(folder) / f"{identity.name}.pem"))
        self.endpoint = Endpoint(directory, [credential], frozenset(("compute",)), Timeouts(), os.urandom, time.monotonic)
        while self.endpoint.unconnected:
            self.endpoint.poll(1.0)

    def send(self, payload: bytes) -> None:
        self.endpoint.send(self.identity.name, self.peer, payload)

    def send_signed(self, payload: bytes) -> None:
        for frame in seal(self.identity, bytes(32), NO_STEP, "round", self.peer, payload):
            self.send(frame)

    def frames(self) -> Iterator[bytes]:
        while True:
            yield from (occurrence.frame for occurrence in self.endpoint.poll(1.0) if isinstance(occurrence, Arrived))

    def verified(self) -> Iterator[bytes]:
        for frame in self.frames():
            envelope = Envelope.decode(frame)
            envelope.verify(self.roster)
            yield bytes(envelope.payload)


def received(connection: ssl.SSLSocket, sizes: Iterable[int]) -> Iterator[memoryview]:
    """Messages of these sizes from a blocking socket, one after another."""
    for size in sizes:
        message = left = memoryview(bytearray(size))
        while left:
            count = connection.recv_into(left)
            assert count, "the other process has ended"
            left = left[count:]
        yield message


def answer(say: Callable[[Any], object], heard: Iterator[Any]) -> None:
    """The other side of ``line``."""
    for _ in range(ROUNDS):
        say(next(heard))
    for _ in range(LARGE):
        next(heard)
    say(DONE)


def line(name: str, say: Callable[[Any], object], heard: Iterator[Any], move: Callable[[], object]) -> str:
    """One line of the table; ``move`` lets what was said leave before more is said."""
    small, large = bytes(SMALL_BYTES), bytes(BLOCK_BYTES)
    start = time.perf_counter()
    for _ in range(ROUNDS):
        say(small)
        next(heard)
    middle = time.perf_counter()
    for _ in range(LARGE):
        say(large)
        move()
    next(heard)
    end = time.perf_counter()
    return row(name, f"{(middle - start) / ROUNDS * 1e6:.0f}", f"{LARGE * BLOCK_BYTES / (end - middle) / 1e9:.2f}")


def second(identity: Identity, directory: Directory, folder: str, listening: socket.socket) -> None:
    """The process that answers."""
    context = listening_context(Credential(identity.name, str(Path(folder) / f"{identity.name}.pem")), directory.certificates)
    with context.wrap_socket(listening.accept()[0], server_side=True) as connection:
        answer(connection.sendall, received(connection, [SMALL_BYTES] * ROUNDS + [BLOCK_BYTES] * LARGE))
    server = Server(identity, directory, folder)
    answer(server.send, server.frames())
    answer(server.send_signed, server.verified())
    while not server.endpoint.unconnected:
        server.endpoint.poll(1.0)


def first(identity: Identity, directory: Directory, folder: str, place: tuple[str, int]) -> None:
    """The process that measures, and prints the table."""
    print(heading("frames", "microseconds a round", "GB/s"))
    context = dialling_context(Credential(identity.name, str(Path(folder) / f"{identity.name}.pem")), directory.certificates)
    with context.wrap_socket(socket.create_connection(place)) as connection:
        print(line("none", connection.sendall, received(connection, [SMALL_BYTES] * ROUNDS + [len(DONE)]), lambda: None), flush=True)
    server = Server(identity, directory, folder)
    for name, say, heard in (("plain", server.send, server.frames()), ("signed", server.send_signed, server.verified())):
        print(line(name, say, heard, lambda: server.endpoint.poll(0.0)), flush=True)
    server.endpoint.close()


def main() -> None:
    """Two processes."""
    issued = {name: issue(name, os.urandom) for name in NAMES}
    identities = {name: identity for name, (identity, _, _) in issued.items()}
    roster = Roster({name: identity.public for name, identity in identities.items()}, dict.fromkeys(NAMES, "compute"))
    with socket.create_server(("127.0.0.1", 0)) as unused:
        addresses = {"compute2": Address("127.0.0.1", unused.getsockname()[1])}
    directory = Directory(roster, {name: certificate for name, (_, certificate, _) in issued.items()}, addresses)
    with tempfile.TemporaryDirectory() as folder:
        for name, (_, _, private) in issued.items():
            (Path(folder) / f"{name}.pem").write_text(private)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            other = multiprocessing.get_context("fork").Process(target=second, args=(identities["compute2"], directory, folder, listening))
            other.start()
            first(identities["compute1"], directory, folder, listening.getsockname())
        other.join()


if __name__ == "__main__":
    main()
