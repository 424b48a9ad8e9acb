"""Studies whose compute servers are processes: directories with certificates, machines that pass a token round, and processes."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from veilstat.platform.certificates import make_certificates
from veilstat.platform.identity_file import read_identity
from veilstat.platform.roster_file import read_roster
from veilstat.platform.server import run_server
from veilstat.protocol.envelope import NO_STEP, Envelope, seal
from veilstat.protocol.faults import ProtocolError
from veilstat.protocol.session import Send
from veilstat.transports.address import Address
from veilstat.transports.connection import Timeouts
from veilstat.transports.occurrences import Arrived, Lost
from veilstat.transports.tcp import Endpoint
from veilstat.transports.tls import Credential

ROOT = Path(__file__).parent.parent
SERVERS = ("compute1", "compute2", "compute3")
STUDY = """
architecture = "sharing"

[sharing]
open = "estimate"

[schema]
max_rows = 1000

[[schema.columns]]
kind = "continuous"
name = "bp"
lower = 40
upper = 260
step = 0.5

[[schema.columns]]
kind = "integer"
name = "age"
lower = 0
upper = 120

[owners]
north = "north.csv"
south = "south.csv"
west = "west.csv"

[addresses]
"""
BEGUN = "a token passes for the first time"
SERVER = """
party = "{name}"
study = "study.toml"
roster = "private/roster.toml"
identity = "private/{name}.pem"

[timeouts]
handshake = 1
reconnect = 1
progress = 1.5
"""


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [its.getsockname()[1] for its in sockets]
    for its in sockets:
        its.close()
    return ports


def make_study(folder):
    """A study with certificates and the files of three servers."""
    addresses = [f'{name} = "127.0.0.1:{port}"\n' for name, port in zip(SERVERS, free_ports(3), strict=True)]
    (folder / "study.toml").write_text(STUDY + "".join(addresses))
    for name in SERVERS:
        (folder / f"{name}.toml").write_text(SERVER.format(name=name))
    make_certificates(folder / "study.toml", folder / "private", os.urandom)
    return folder


class Ring:
    """Passes a token on as often as its payload says, then back to the analyst; says nothing to those it cannot read."""

    def __init__(self, member, definition, config):
        self.identity, self.next = member.identity, SERVERS[(SERVERS.index(member.name) + 1) % 3]
        self.said, self.waiting, self.stage = [], False, 0

    def receive(self, frame, carrier):
        try:
            envelope = Envelope.decode(frame)
        except ProtocolError:
            return
        left = int.from_bytes(envelope.payload[:8], "little")
        body = bytes(envelope.payload[8:])
        if not self.waiting:
            logging.info(BEGUN)
        self.waiting = left >= len(SERVERS)
        if left:
            self.say(self.next, (left - 1).to_bytes(8, "little") + body)
        else:
            self.say("analyst", b"round" + body)

    @property
    def awaited(self):
        return frozenset((SERVERS[(SERVERS.index(self.identity.name) - 1) % 3],))

    def say(self, recipient, payload):
        self.said += [Send(recipient, frame) for frame in seal(self.identity, bytes(32), NO_STEP, "ring", recipient, payload)]

    def expire(self):
        self.lost(None)

    def lost(self, fault):
        was, self.waiting = self.waiting, False
        if was:
            self.say("analyst", b"ended" + ("expired" if fault is None else fault.culprits[0]).encode())
        return was

    def events(self):
        said, self.said = self.said, []
        return iter(said)


def run_ring(config):
    """The main function of a server process in these tests."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    run_server(Path(config), Ring)


def start(folder, name):
    code = f"from tests.servers import run_ring; run_ring({str(folder / name) + '.toml'!r})"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open(folder / f"{name}.log", "a") as log:
        return subprocess.Popen([sys.executable, "-c", code], stderr=log, env=environment, cwd=ROOT)


def start_veilstat(folder, name):
    """A real server process."""
    with open(folder / f"{name}.log", "a") as log:
        command = [sys.executable, "-m", "veilstat", "server", "--config", str(folder / f"{name}.toml")]
        return subprocess.Popen(command, stderr=log, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=folder)


def log_of(folder, name):
    return (folder / f"{name}.log").read_text()


def wait_for(folder, name, words, start=0, seconds=5.0):
    """Wait until a server has logged these words, behind the first ``start`` characters."""
    deadline = time.monotonic() + seconds
    while words not in log_of(folder, name)[start:]:
        assert time.monotonic() < deadline, f"{words!r} is not in the log of {name}:\n{log_of(folder, name)[start:]}"
        time.sleep(0.02)


@contextmanager
def running(folder, names=SERVERS):
    """Server processes, ended by SIGTERM."""
    processes = {name: start(folder, name) for name in names}
    try:
        yield processes
    finally:
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
        for process in processes.values():
            process.wait(5)


class Caller:
    """The analyst, who puts tokens into the ring."""

    def __init__(self, folder):
        directory = read_roster(folder / "private/roster.toml")
        self.identity = read_identity(folder / "private/analyst.pem", "analyst", directory.roster.keys["analyst"])
        credential = Credential("analyst", str(folder / "private/analyst.pem"))
        self.endpoint = Endpoint(directory, [credential], frozenset(("compute",)), Timeouts(reconnect=0.5), os.urandom, time.monotonic)
        self.lost, self.heard = [], {}

    def __enter__(self):
        self.connect()
        return self

    def __exit__(self, *_):
        self.endpoint.close()

    def connect(self):
        deadline = time.monotonic() + 30
        while self.endpoint.unconnected:
            assert time.monotonic() < deadline, self.endpoint.unconnected
            self.poll(0.1)

    def start(self, rounds, body=b"", first="compute1"):
        for frame in seal(self.identity, bytes(32), NO_STEP, "ring", first, rounds.to_bytes(8, "little") + body):
            self.endpoint.send("analyst", first, frame)
        self.poll(0.0)

    def hear(self, answers=1, seconds=10.0):
        """What servers said to the analyst, by server."""
        deadline = time.monotonic() + seconds
        while len(self.heard) < answers:
            assert time.monotonic() < deadline, self.heard
            self.poll(0.1)
        heard, self.heard = self.heard, {}
        return heard

    def poll(self, seconds):
        for occurrence in self.endpoint.poll(seconds):
            match occurrence:
                case Arrived(peer=peer, frame=frame):
                    self.heard[peer] = bytes(Envelope.decode(frame).payload)
                case Lost(peer=peer):
                    self.lost.append(peer)

    def ask(self, rounds, body=b""):
        self.start(rounds, body)
        [answer] = self.hear().values()
        return answer


class Proxy:
    """Passes bytes on, records what callers say, and cuts connections when told to."""

    def __init__(self, target):
        self.target, self.recorded, self.sockets, self.connections = target, bytearray(), [], 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = Address("127.0.0.1", self.listener.getsockname()[1])

    def __enter__(self):
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()

    def serve(self):
        with suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                try:
                    far = socket.create_connection((self.target.host, self.target.port))
                except OSError:
                    near.close()
                    continue
                self.connections += 1
                self.sockets += [near, far]
                threading.Thread(target=self.copy, args=(near, far, self.recorded), daemon=True).start()
                threading.Thread(target=self.copy, args=(far, near, bytearray()), daemon=True).start()

    def copy(self, source, target, record):
        with suppress(OSError):
            while received := source.recv(1 << 16):
                record += received
                target.sendall(received)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def cut(self):
        sockets, self.sockets = self.sockets, []
        for its in sockets:
            with suppress(OSError):
                its.shutdown(socket.SHUT_RDWR)
            its.close()
