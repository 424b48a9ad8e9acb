"""Studies whose compute servers are processes: directories with certificates, machines that pass a token round, and processes."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from veilstat.platform.certificates import make_certificates
from veilstat.protocol.envelope import NO_STEP, Envelope, seal
from veilstat.protocol.session import Send

ROOT = Path(__file__).parent.parent
SERVERS = ("compute1", "compute2", "compute3")
STUDY = """
architecture = "sharing"

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
SERVER = """
party = "{name}"
study = "study.toml"
roster = "private/roster.toml"
identity = "private/{name}.pem"

[timeouts]
handshake = 1
reconnect = 0.5
progress = 3
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

    def __init__(self, identity, roster, definition):
        self.identity, self.next = identity, SERVERS[(SERVERS.index(identity.name) + 1) % 3]
        self.said, self.waiting, self.stage = [], False, 0

    def receive(self, frame):
        envelope = Envelope.decode(frame)
        left = int.from_bytes(envelope.payload[:8], "little")
        body = bytes(envelope.payload[8:])
        self.waiting = left >= len(SERVERS)
        if left:
            self.say(self.next, (left - 1).to_bytes(8, "little") + body)
        else:
            self.say("analyst", b"round" + body)

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
    import logging

    from veilstat.platform.server import run_server

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    run_server(Path(config), {"compute": Ring})


def start(folder, name):
    code = f"from tests.servers import run_ring; run_ring({str(folder / name) + '.toml'!r})"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (folder / f"{name}.log").open("a") as log:
        return subprocess.Popen([sys.executable, "-c", code], stderr=log, env=environment, cwd=ROOT)


def wait_for(folder, name, words, seconds=5.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        log = (folder / f"{name}.log").read_text()
        if words in log:
            return log
        time.sleep(0.02)
    raise AssertionError(f"{words!r} is not in the log of {name}:\n{(folder / f'{name}.log').read_text()}")


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
