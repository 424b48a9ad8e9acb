"""Three server processes on loopback, joined in a ring by the project's pinned TLS on blocking sockets."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import queue
import socket
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from veilstat.architectures.sharing.protocols.prss import KEY_BYTES
from veilstat.architectures.sharing.protocols.rounds import SERVERS
from veilstat.architectures.sharing.schemes import Place
from veilstat.platform.allocation import keep_freed_memory
from veilstat.platform.identity_file import issue
from veilstat.transports.tls import Credential, dialling_context, listening_context, peer_key

CHUNK = 1 << 16
"""Servers send and receive so much in turns, which the sockets' buffers hold: nobody waits for somebody who sends."""

Program: TypeAlias = "Callable[[Place], Generator[bytes, bytes, bytes]]"


@dataclass(frozen=True)
class Measured:
    """Medians over the runs but for the first: seconds until the last server ended, and what server 0 spent and sent."""

    seconds: float
    cpu_seconds: float
    rounds: int
    sent: int
    parts: list[bytes]


@dataclass(frozen=True)
class Links:
    """What a server sends on and receives on."""

    following: ssl.SSLSocket
    previous: ssl.SSLSocket

    def exchange(self, payload: bytes) -> bytes:
        """Send to one neighbour and receive as much from the other."""
        view, received = memoryview(payload), bytearray(len(payload))
        for start in range(0, len(payload), CHUNK):
            self.following.sendall(view[start : start + CHUNK])
            room = memoryview(received)[start : start + CHUNK]
            while room:
                count = self.previous.recv_into(room)
                if not count:
                    raise ConnectionResetError("a server ended before the others")
                room = room[count:]
        return bytes(received)


def connect(index: int, listeners: list[socket.socket], folder: str, keys: list[bytes], certificates: dict[str, str]) -> Links:
    """Dial the following server, accept the previous one, and check both keys."""
    credential = Credential(str(index), str(Path(folder) / f"{index}.pem"))
    following, previous = (index + 1) % SERVERS, (index - 1) % SERVERS
    dialled = socket.create_connection(listeners[following].getsockname())
    accepted, _ = listeners[index].accept()
    for end in (dialled, accepted):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    onward = dialling_context(credential, certificates).wrap_socket(dialled, do_handshake_on_connect=False)
    inward = listening_context(credential, certificates).wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
    # Everybody dials first; server 0 answers first, so that the ring does not wait for itself.
    for end in (inward, onward) if index == 0 else (onward, inward):
        end.do_handshake()
    if peer_key(onward) != keys[following] or peer_key(inward) != keys[previous]:
        raise ConnectionRefusedError("a server has not the key that is pinned for it")
    return Links(onward, inward)


def drive(protocol: Generator[bytes, bytes, bytes], links: Links) -> tuple[int, int, bytes]:
    """Run a server's protocol to its end: (rounds, bytes sent, its part of the answer)."""
    rounds, sent = 0, 0
    try:
        payload = next(protocol)
        while True:
            received = links.exchange(payload)
            rounds, sent = rounds + 1, sent + len(payload)
            payload = protocol.send(received)
    except StopIteration as stop:
        return rounds, sent, stop.value


def measure(program: Program, runs: int) -> Measured:
    """Run ``program`` once for nothing, then ``runs`` times on three servers."""
    issued = [issue(str(index), os.urandom) for index in range(SERVERS)]
    certificates = {str(index): certificate for index, (_, certificate, _) in enumerate(issued)}
    public = [identity.public for identity, _, _ in issued]
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(SERVERS)]
    fork = multiprocessing.get_context("fork")
    pairwise = [os.urandom(KEY_BYTES) for _ in range(SERVERS)]
    barrier, results = fork.Barrier(SERVERS), fork.Queue()

    def serve(index: int, folder: str) -> None:
        keep_freed_memory(ctypes.CDLL(None))
        links = connect(index, listeners, folder, public, certificates)
        for run in range(runs + 1):
            place = Place(index, pairwise[index], pairwise[index - 1])
            barrier.wait()
            begun, work = time.perf_counter(), time.process_time()
            rounds, sent, part = drive(program(place), links)
            results.put((run, index, time.perf_counter() - begun, time.process_time() - work, rounds, sent, part))
        results.close()
        results.join_thread()

    with tempfile.TemporaryDirectory() as folder:
        for index, (_, _, private) in enumerate(issued):
            (Path(folder) / f"{index}.pem").write_text(private)
        servers = [fork.Process(target=serve, args=(index, folder)) for index in range(SERVERS)]
        for server in servers:
            server.start()
        ended: list[Any] = []
        while len(ended) < SERVERS * (runs + 1):
            try:
                ended.append(results.get(timeout=1.0))
            except queue.Empty:
                if any(server.exitcode for server in servers):
                    for server in servers:
                        server.terminate()
                    raise RuntimeError("a server's process ended with an error") from None
        ended.sort()
        for server in servers:
            server.join()
    for listener in listeners:
        listener.close()
    counted = [ended[start : start + SERVERS] for start in range(SERVERS, len(ended), SERVERS)]
    wall = statistics.median(max(seconds for _, _, seconds, *_ in run) for run in counted)
    cpu = statistics.median(run[0][3] for run in counted)
    return Measured(wall, cpu, counted[0][0][4], counted[0][0][5], [part for *_, part in counted[-1]])
