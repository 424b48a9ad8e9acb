"""Whoever has no business with a server process is refused, under real TLS, and the server goes on serving."""

import os
import socket
import ssl
import time
from contextlib import suppress

import pytest

from tests.servers import Caller, Proxy, log_of, make_study, running, wait_for
from veilstat.platform.identity_file import issue
from veilstat.platform.roster_file import read_roster
from veilstat.protocol.envelope import LARGEST_FRAME
from veilstat.protocol.identity import Roster
from veilstat.protocol.session import decode_fault
from veilstat.transports.records import Hello, Kind, Reader, Record
from veilstat.transports.tcp import MOST_STRANGERS
from veilstat.transports.tls import Credential, dialling_context


class Intruder:
    """Attacks on compute1 through sockets of its own, while the analyst works with the ring."""

    def __init__(self, folder, caller):
        self.folder, self.caller, self.sockets = folder, caller, []
        self.directory = read_roster(folder / "private/roster.toml")
        self.address = self.directory.addresses["compute1"]
        self.start = len(log_of(folder, "compute1"))

    def connect(self, address=None):
        address = address or self.address
        raw = socket.create_connection((address.host, address.port), timeout=5)
        self.sockets.append(raw)
        return raw

    def secure(self, context, raw=None):
        connection = context.wrap_socket(raw or self.connect())
        self.sockets.append(connection)
        return connection

    def dial(self, name="south", address=None):
        """A connection with a party's own certificate."""
        credential = Credential(name, str(self.folder / f"private/{name}.pem"))
        return self.secure(dialling_context(credential, self.directory.certificates), self.connect(address))

    def hello(self, **changes):
        plain = {
            "version": 1, "sender": "south", "recipient": "compute1", "roster": self.directory.roster.digest, "session": b"", "received": 0,
        }  # fmt: skip
        return Hello(**{**plain, **changes}).encode()

    def greeted(self, **where):
        connection = self.dial(**where)
        connection.sendall(self.hello())
        record(connection, Kind.HELLO)
        return connection

    def is_refused(self, *words):
        """The server has logged a refusal in these words, and still serves."""
        for its in words:
            wait_for(self.folder, "compute1", its, self.start)
        assert self.caller.ask(2, b"still here") == b"roundstill here"


def record(connection, kind):
    """The next record of this kind that the server sends."""
    reader = Reader()
    while received := connection.recv(1 << 16):
        reader.feed(memoryview(received))
        for its in reader.records():
            if its.kind is kind:
                return its
    raise AssertionError("the server hung up")


def refusal(connection):
    return decode_fault(record(connection, Kind.REFUSAL).body, "compute1").code


def read_to_end(raw):
    with suppress(ConnectionResetError):
        while raw.recv(1 << 16):
            pass


@pytest.fixture(scope="module")
def caller(tmp_path_factory):
    folder = make_study(tmp_path_factory.mktemp("study"))
    with running(folder), Caller(folder) as its:
        its.folder = folder
        yield its


@pytest.fixture
def intruder(caller):
    its = Intruder(caller.folder, caller)
    yield its
    for connection in its.sockets:
        connection.close()


@pytest.mark.parametrize("garbage", [bytes(500), b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00" + bytes(600)])
def test_garbage_before_tls(intruder, garbage):
    raw = intruder.connect()
    raw.sendall(garbage)
    read_to_end(raw)
    intruder.is_refused("compute1 refused 127.0.0.1")


def test_a_certificate_that_is_not_in_the_roster(intruder):
    (intruder.folder / "private/eve.pem").write_text(issue("south", os.urandom)[2])
    with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
        intruder.dial("eve").recv(100)
    intruder.is_refused("CERTIFICATE_VERIFY_FAILED")


def test_no_certificate_and_old_tls(intruder):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        intruder.secure(context).recv(100)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        intruder.secure(context)
    intruder.is_refused("PEER_DID_NOT_RETURN_A_CERTIFICATE", "UNSUPPORTED_PROTOCOL")


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
def test_a_right_certificate_with_another_name_or_roster(intruder, changes, code):
    connection = intruder.dial()
    connection.sendall(intruder.hello(**changes))
    assert refusal(connection) == code
    intruder.is_refused("compute1 refused 127.0.0.1")


def test_a_right_certificate_with_another_role(intruder):
    roster = intruder.directory.roster
    promoted = Roster(roster.keys, {**roster.roles, "south": "compute"}, roster.sealing)
    connection = intruder.dial()
    connection.sendall(intruder.hello(roster=promoted.digest))
    assert refusal(connection) == "roster_differs"
    connection = intruder.dial("compute2")
    connection.sendall(intruder.hello(sender="compute2"))
    assert refusal(connection) == "wrong_role"
    intruder.is_refused("have different rosters", "has no business to connect")


@pytest.mark.parametrize(
    ("attack", "code"),
    [
        (2 * Record(Kind.FRAME, 0, 0, b"no envelope").encode(), "bad_sequence"),
        (b"\2" + (LARGEST_FRAME + 1).to_bytes(4, "little") + bytes(16), "too_large"),
        (b"\2\xff\xff\xff\xff" + bytes(16), "too_large"),
        (b"\7" + bytes(20), "malformed"),
        (Record(Kind.HELLO, 0, 0, b"").encode(), "malformed"),
        (Record(Kind.ACKNOWLEDGE, 0, 3, b"").encode(), "bad_acknowledgement"),
    ],
)
def test_replayed_oversized_and_malformed_records_of_a_member(intruder, attack, code):
    connection = intruder.greeted()
    connection.sendall(attack)
    assert refusal(connection) == code
    intruder.is_refused("compute1 lost south")


def test_frames_before_the_greeting(intruder):
    connection = intruder.dial()
    connection.sendall(Record(Kind.FRAME, 0, 0, b"").encode())
    assert refusal(connection) == "malformed"
    connection = intruder.dial()
    connection.sendall(b"\1" + (1025).to_bytes(4, "little") + bytes(16))
    assert refusal(connection) == "too_large"
    intruder.is_refused("without a greeting", "at most 1,024 are taken")


def test_recorded_bytes_played_again(intruder):
    with Proxy(intruder.address) as proxy:
        intruder.greeted(address=proxy.address)
    wait_for(intruder.folder, "compute1", "connected south", intruder.start)
    start = len(log_of(intruder.folder, "compute1"))
    raw = intruder.connect()
    raw.sendall(proxy.recorded)
    read_to_end(raw)
    intruder.is_refused("compute1 refused 127.0.0.1")
    assert "connected" not in log_of(intruder.folder, "compute1")[start:]


def test_silent_and_slow_connections(intruder):
    silent = [intruder.connect() for _ in range(MOST_STRANGERS + 10)]
    slow = intruder.dial()
    began = time.monotonic()
    with suppress(OSError):
        while time.monotonic() - began < 3:
            slow.sendall(b"\1")
            assert intruder.caller.ask(2) == b"round"
            time.sleep(0.1)
    assert time.monotonic() - began < 2.5
    for raw in silent:
        read_to_end(raw)
    intruder.is_refused("too many connections at once", "did not greet within 1 seconds")
