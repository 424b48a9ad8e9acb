"""Server processes on loopback under real TLS: they serve, they refuse, they end cleanly, and they come back."""

import os
import signal
import socket
import ssl
import threading
import time
from contextlib import contextmanager

import pytest

from tests.servers import SERVERS, make_study, running, start, wait_for
from veilstat.platform.identity_file import issue, read_identity
from veilstat.platform.roster_file import read_roster
from veilstat.protocol.envelope import LARGEST_FRAME, NO_STEP, Envelope, seal
from veilstat.protocol.identity import Roster
from veilstat.protocol.session import decode_fault
from veilstat.transports.connection import Timeouts
from veilstat.transports.directory import Address, Directory
from veilstat.transports.occurrences import Arrived
from veilstat.transports.records import Hello, Kind, Reader, Record
from veilstat.transports.tcp import MOST_STRANGERS, Endpoint
from veilstat.transports.tls import Credential, dialling_context


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def processes(folder):
    with running(folder) as its:
        yield its


@pytest.fixture(scope="module")
def directory(folder):
    return read_roster(folder / "private/roster.toml")


class Caller:
    """The analyst, who puts tokens into the ring."""

    def __init__(self, folder, directory):
        self.identity = read_identity(folder / "private/analyst.pem", "analyst", directory.roster.keys["analyst"])
        credential = Credential("analyst", str(folder / "private/analyst.pem"))
        self.endpoint = Endpoint(directory, [credential], frozenset(("compute",)), Timeouts(reconnect=0.5), os.urandom, time.monotonic)

    def connect(self, seconds=10.0):
        deadline = time.monotonic() + seconds
        while self.endpoint.unconnected:
            assert time.monotonic() < deadline, self.endpoint.unconnected
            self.endpoint.poll(0.1)

    def start(self, rounds, body=b"", first="compute1"):
        for frame in seal(self.identity, bytes(32), NO_STEP, "ring", first, rounds.to_bytes(8, "little") + body):
            self.endpoint.send("analyst", first, frame)
        self.endpoint.poll(0.0)

    def hear(self, answers=1, seconds=10.0):
        heard = {}
        deadline = time.monotonic() + seconds
        while len(heard) < answers:
            assert time.monotonic() < deadline, heard
            for occurrence in self.endpoint.poll(0.1):
                if isinstance(occurrence, Arrived):
                    heard[occurrence.peer] = bytes(Envelope.decode(occurrence.frame).payload)
        return heard


@pytest.fixture
def caller(folder, directory, processes):
    its = Caller(folder, directory)
    its.connect()
    yield its
    its.endpoint.close()


def test_a_thousand_rounds_between_three_processes(caller):
    caller.start(30)
    caller.hear()
    start = time.perf_counter()
    caller.start(1000, b"token")
    assert caller.hear() == {"compute2": b"roundtoken"}
    microseconds = (time.perf_counter() - start) * 1e3
    print(f"{microseconds:.0f} microseconds a round")
    assert microseconds < 5000
    caller.start(6, bytes(range(256)) * 4000)
    assert caller.hear() == {"compute1": b"round" + bytes(range(256)) * 4000}


def dial(folder, directory, name="south", to="compute1"):
    address = directory.addresses[to]
    raw = socket.create_connection((address.host, address.port), timeout=5)
    return dialling_context(Credential(name, str(folder / f"private/{name}.pem")), directory.certificates).wrap_socket(raw)


def hello(directory, sender="south", recipient="compute1", **changes):
    fields = {"version": 1, "sender": sender, "recipient": recipient, "roster": directory.roster.digest, "session": b"", "received": 0}
    return Hello(**{**fields, **changes})


def records(connection, reader, stop):
    """What a server says, up to a record of this kind."""
    while True:
        received = connection.recv(1 << 16)
        if not received:
            raise ConnectionResetError
        reader.feed(memoryview(received))
        for record in reader.records():
            if record.kind is stop:
                return record


def refusal(connection):
    return decode_fault(records(connection, Reader(), Kind.REFUSAL).body, "compute1")


def still_serves(folder, caller, words):
    wait_for(folder, "compute1", words)
    caller.start(2, b"still here")
    assert caller.hear() == {"compute3": b"roundstill here"}


@pytest.mark.parametrize("garbage", [os.urandom(500), b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(100)])
def test_garbage_before_tls_is_refused(folder, directory, caller, garbage):
    address = directory.addresses["compute1"]
    with socket.create_connection((address.host, address.port), timeout=5) as raw:
        raw.sendall(garbage)
        with pytest.raises(OSError) if garbage[0] == 22 else _nothing():
            while raw.recv(1000):
                pass
            raise OSError
    still_serves(folder, caller, "compute1 refused 127.0.0.1")


@contextmanager
def _nothing():
    try:
        yield
    except OSError:
        pass


def test_a_certificate_that_is_not_in_the_roster_is_refused(folder, directory, caller):
    (folder / "private/eve.pem").write_text(issue("south", os.urandom)[2])
    connection = dial(folder, directory, "eve")
    with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
        connection.recv(100)
    still_serves(folder, caller, "CERTIFICATE_VERIFY_FAILED")


def test_older_versions_of_tls_are_refused(directory, caller, folder):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    address = directory.addresses["compute1"]
    with socket.create_connection((address.host, address.port)) as raw, pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        context.wrap_socket(raw)
    still_serves(folder, caller, "UNSUPPORTED_PROTOCOL")


def test_a_peer_without_a_certificate_is_refused(directory, caller, folder):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    address = directory.addresses["compute1"]
    with socket.create_connection((address.host, address.port)) as raw, context.wrap_socket(raw) as connection:
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
            connection.recv(100)
    still_serves(folder, caller, "PEER_DID_NOT_RETURN_A_CERTIFICATE")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"sender": "north"}, "wrong_key"),
        ({"sender": "compute2"}, "wrong_key"),
        ({"sender": "eve"}, "wrong_key"),
        ({"recipient": "compute2"}, "misdirected"),
        ({"roster": bytes(32)}, "roster_differs"),
        ({"version": 7}, "version"),
    ],
)
def test_a_member_of_the_study_with_another_name_or_roster_is_refused(folder, directory, caller, changes, code):
    connection = dial(folder, directory)
    connection.sendall(hello(directory, **changes).encode())
    assert refusal(connection).code == code
    still_serves(folder, caller, "compute1 refused 127.0.0.1")


def test_a_roster_with_another_role_is_another_roster(folder, directory, caller):
    roster = directory.roster
    promoted = Directory(Roster(roster.keys, {**roster.roles, "south": "compute"}, roster.sealing), directory.certificates, directory.addresses)
    connection = dial(folder, directory)
    connection.sendall(hello(promoted).encode())
    assert refusal(connection).code == "roster_differs"
    still_serves(folder, caller, "have different rosters")


def test_a_server_that_should_wait_to_be_called_is_refused(folder, directory, caller):
    connection = dial(folder, directory, "compute2")
    connection.sendall(hello(directory, "compute2").encode())
    assert refusal(connection).code == "wrong_role"
    still_serves(folder, caller, "has no business")


def greeted(folder, directory):
    connection, reader = dial(folder, directory), Reader()
    connection.sendall(hello(directory).encode())
    records(connection, reader, Kind.HELLO)
    return connection


def test_replayed_oversized_and_unexpected_records_are_refused(folder, directory, caller):
    again = Record(Kind.FRAME, 0, 0, b"no envelope").encode()
    too_long = b"\2" + (LARGEST_FRAME + 1).to_bytes(4, "little") + bytes(16)
    for attack, code in (
        (again + again, "bad_sequence"),
        (too_long, "too_large"),
        (b"\2\xff\xff\xff\xff" + bytes(16), "too_large"),
        (b"\7" + bytes(20), "malformed"),
        (hello(directory).encode(), "malformed"),
        (Record(Kind.ACKNOWLEDGE, 0, 3, b"").encode(), "bad_acknowledgement"),
    ):
        connection = greeted(folder, directory)
        connection.sendall(attack)
        assert refusal(connection).code == code
    connection = dial(folder, directory)
    connection.sendall(Record(Kind.FRAME, 0, 0, b"frame before greeting").encode())
    assert refusal(connection).code == "malformed"
    still_serves(folder, caller, "a connection began without a greeting")


def test_recorded_bytes_cannot_be_played_again(folder, directory, caller):
    address = directory.addresses["compute1"]
    with Proxy(address) as proxy:
        through = Directory(directory.roster, directory.certificates, {**directory.addresses, "compute1": proxy.address})
        connection = dial(folder, through)
        connection.sendall(hello(directory).encode())
        records(connection, Reader(), Kind.HELLO)
    with socket.create_connection((address.host, address.port), timeout=5) as raw, _nothing():
        raw.sendall(bytes(proxy.recorded))
        while raw.recv(1 << 16):
            pass
    log = (folder / "compute1.log").read_text()
    assert log.count("compute1 refused 127.0.0.1") > 0
    assert f"connected south: {raw.getsockname() if raw.fileno() > 0 else ''}" not in log
    still_serves(folder, caller, "compute1 refused")


def test_slow_and_silent_connections_are_dropped_while_others_are_served(folder, directory, caller):
    address = directory.addresses["compute1"]
    silent = [socket.create_connection((address.host, address.port), timeout=5) for _ in range(MOST_STRANGERS + 10)]
    slow = dial(folder, directory)
    began = time.monotonic()
    with pytest.raises(OSError):
        for byte in hello(directory).encode():
            slow.sendall(bytes((byte,)))
            caller.start(2)
            assert caller.hear()
            time.sleep(0.05)
    assert time.monotonic() - began < 3
    for raw in silent:
        with _nothing():
            assert raw.recv(10) == b""
        raw.close()
    still_serves(folder, caller, "too many connections at once")
    still_serves(folder, caller, "did not greet within 1 seconds")


class Proxy:
    """Passes bytes on, records what a caller says, and cuts connections when told to."""

    def __init__(self, target):
        self.target, self.recorded, self.sockets = target, bytearray(), []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = Address("127.0.0.1", self.listener.getsockname()[1])
        self.connections = 0

    def __enter__(self):
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()

    def serve(self):
        with _nothing():
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection((self.target.host, self.target.port))
                self.connections += 1
                self.sockets += [near, far]
                threading.Thread(target=self.copy, args=(near, far, self.recorded), daemon=True).start()
                threading.Thread(target=self.copy, args=(far, near, bytearray()), daemon=True).start()

    def copy(self, source, target, record):
        with _nothing():
            while received := source.recv(1 << 16):
                record += received
                target.sendall(received)
        with _nothing():
            target.shutdown(socket.SHUT_RDWR)

    def cut(self):
        sockets, self.sockets = self.sockets, []
        for its in sockets:
            with _nothing():
                its.shutdown(socket.SHUT_RDWR)
            its.close()
