"""What messages between two compute servers cost, over pinned TLS on loopback: microseconds a round, gigabytes a second.

    OMP_NUM_THREADS=1 python -m benchmarks.network

A round is one message of 100 bytes in each direction. "signed" adds the envelopes: every message signed by its sender
and verified by its recipient.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measuring import heading, row
from veilstat.platform.identity_file import issue
from veilstat.protocol.envelope import BLOCK_BYTES, NO_STEP, Envelope, seal
from veilstat.protocol.identity import Identity, Roster
from veilstat.transports.address import Address
from veilstat.transports.connection import Timeouts
from veilstat.transports.directory import Directory
from veilstat.transports.occurrences import Arrived
from veilstat.transports.tcp import Endpoint
from veilstat.transports.tls import Credential

NAMES = ("compute1", "compute2")
ROUNDS, LARGE = 5000, 1000


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


def answer(server: Server) -> None:
    """The other side of ``measure``."""
    for say, heard in ((server.send, server.frames()), (server.send_signed, server.verified())):
        for _ in range(ROUNDS):
            say(next(heard))
        for _ in range(LARGE):
            next(heard)
        say(b"done")
    while not server.endpoint.unconnected:
        server.endpoint.poll(1.0)


def measure(server: Server) -> None:
    """One line of the table for plain and for signed frames."""
    print(heading("frames", "microseconds a round", "GB/s"))
    for name, say, heard in (("plain", server.send, server.frames()), ("signed", server.send_signed, server.verified())):
        small, large = bytes(100), bytes(BLOCK_BYTES)
        start = time.perf_counter()
        for _ in range(ROUNDS):
            say(small)
            next(heard)
        middle = time.perf_counter()
        for _ in range(LARGE):
            say(large)
            server.endpoint.poll(0.0)
        next(heard)
        end = time.perf_counter()
        print(row(name, f"{(middle - start) / ROUNDS * 1e6:.0f}", f"{LARGE * BLOCK_BYTES / (end - middle) / 1e9:.2f}"), flush=True)


def main() -> None:
    """Two processes, of which the first prints."""
    issued = {name: issue(name, os.urandom) for name in NAMES}
    identities = {name: identity for name, (identity, _, _) in issued.items()}
    roster = Roster({name: identity.public for name, identity in identities.items()}, dict.fromkeys(NAMES, "compute"))
    with socket.create_server(("127.0.0.1", 0)) as unused:
        addresses = {"compute2": Address("127.0.0.1", unused.getsockname()[1])}
    directory = Directory(roster, {name: certificate for name, (_, certificate, _) in issued.items()}, addresses)
    with tempfile.TemporaryDirectory() as folder:
        for name, (_, _, private) in issued.items():
            (Path(folder) / f"{name}.pem").write_text(private)
        other = multiprocessing.get_context("fork").Process(target=lambda: answer(Server(identities["compute2"], directory, folder)))
        other.start()
        server = Server(identities["compute1"], directory, folder)
        measure(server)
        server.endpoint.close()
        other.join()


if __name__ == "__main__":
    main()
