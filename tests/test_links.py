"""Sessions between two processes without a socket: every frame arrives once and in order, whatever happens to connections."""

import os
from contextlib import suppress
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilstat.platform.identity_file import issue
from veilstat.protocol.envelope import LARGEST_FRAME
from veilstat.protocol.faults import ProtocolError
from veilstat.protocol.identity import Roster
from veilstat.transports.address import Address
from veilstat.transports.channel import Channel
from veilstat.transports.directory import Directory
from veilstat.transports.link import Link
from veilstat.transports.records import Hello, Kind, Reader, Record

HEAD_BYTES = 21


def greeted_reader():
    reader = Reader()
    reader.greeted()
    return reader


def read(reader, raw):
    reader.feed(memoryview(raw))
    return list(reader.records())


class Wire:
    """Two channels and what is on the way between them; ``cut`` loses that and connects anew."""

    def __init__(self, random, limit=1 << 30):
        self.random = random
        self.ends = [Channel("a", "b", True, Link("b", limit)), Channel("b", "a", False, Link("a", limit))]
        self.arrived = [[], []]
        self.lost = 0
        self.cut()

    def cut(self):
        self.pipes, self.readers = [b"", b""], [greeted_reader(), greeted_reader()]
        dialling, listening = self.ends
        for caller, callee in ((dialling, listening), (listening, dialling)):
            [record] = read(Reader(), caller.hello(b"roster"))
            self.lost += callee.agree(Hello.decode(record.body), self.random.randbytes)

    def write(self, end):
        self.pipes[end] += self.ends[end].link.outgoing()

    def deliver(self, end, count):
        """Some of the bytes that are on the way from one end."""
        part, self.pipes[end] = self.pipes[end][:count], self.pipes[end][count:]
        for record in read(self.readers[end], part):
            self.ends[1 - end].link.accept(record)
            if record.kind is Kind.FRAME:
                self.arrived[end].append(record.body)

    def drain(self):
        for _ in range(2):
            for end in (0, 1):
                while True:
                    self.write(end)
                    if not self.pipes[end]:
                        break
                    self.deliver(end, 1 << 30)


@pytest.mark.parametrize("seed", range(30))
def test_frames_arrive_once_and_in_order_over_cut_connections(seed):
    random = Random(seed)
    wire = Wire(random)
    sent = [[], []]
    for _ in range(400):
        end = random.randrange(2)
        match random.randrange(10):
            case 0:
                wire.cut()
            case 1 | 2 | 3:
                frame = random.randbytes(random.choice((0, 1, 50, 5000, 40_000)))
                sent[end].append(frame)
                wire.ends[end].link.put(frame)
            case 4 | 5 | 6:
                wire.write(end)
            case _:
                wire.deliver(end, random.choice((1, 20, 100, 10_000, 1 << 20)))
    wire.cut()
    wire.drain()
    assert wire.arrived == sent
    assert wire.lost == 0
    assert not any(channel.link.has_unsent for channel in wire.ends)


@pytest.mark.parametrize("restarted", [0, 1])
def test_nothing_is_sent_again_to_a_process_that_has_restarted(restarted):
    wire = Wire(Random(1))
    wire.ends[1 - restarted].link.put(b"old")
    wire.write(1 - restarted)
    wire.ends[1 - restarted].link.put(b"old and never written")
    names = ("a", "b")
    wire.ends[restarted] = Channel(names[restarted], names[1 - restarted], restarted == 0, Link(names[1 - restarted], 1000))
    wire.ends[restarted].link.put(b"of the new process")
    wire.cut()
    assert wire.lost == 1
    wire.ends[1 - restarted].link.put(b"new")
    wire.drain()
    assert wire.arrived[1 - restarted] == [b"new"]
    assert wire.arrived[restarted] == [b"of the new process"]


def test_what_is_kept_for_a_peer_is_bounded_and_acknowledgements_make_room():
    wire = Wire(Random(1), limit=100_000)
    for _ in range(1000):
        wire.ends[0].link.put(bytes(1000))
        wire.drain()
    assert len(wire.arrived[0]) == 1000
    wire.ends[0].link.put(bytes(30_000))
    with pytest.raises(ProtocolError, match="more than 100,000 bytes unread"):
        wire.ends[0].link.put(bytes(70_001))


def frame(sequence, acknowledged, body=b"x"):
    return Record(Kind.FRAME, sequence, acknowledged, body)


@pytest.mark.parametrize("sequence", [0, 2, 2**63])
def test_a_frame_that_is_replayed_or_skips_is_a_violation(sequence):
    link = Link("b", 100)
    link.accept(frame(0, 0))
    with pytest.raises(ProtocolError, match="where 1 is due") as error:
        link.accept(frame(sequence, 0))
    assert error.value.fault.culprits == ("b",)


def test_acknowledging_what_was_not_sent_is_a_violation():
    link = Link("b", 100)
    link.put(b"one")
    with pytest.raises(ProtocolError, match="not sent"):
        link.accept(frame(0, 1))
    link.outgoing()
    link.accept(frame(0, 1))
    with pytest.raises(ProtocolError, match="not sent"):
        link.accept(frame(1, 0))


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_garbage_is_refused_or_waits_for_more(garbage):
    with suppress(ProtocolError):
        assert all(1 <= record.kind <= 5 for record in read(Reader(), garbage))


@pytest.mark.parametrize("length", [LARGEST_FRAME + 1, 2**32 - 1])
def test_too_long_a_record_is_refused_at_its_head(length):
    head = b"\2" + length.to_bytes(4, "little") + bytes(16)
    assert len(head) == HEAD_BYTES
    with pytest.raises(ProtocolError, match="at most"):
        read(greeted_reader(), head)
    fits = b"\2" + LARGEST_FRAME.to_bytes(4, "little") + bytes(16)
    assert read(greeted_reader(), fits) == []
    with pytest.raises(ProtocolError, match=r"at most 1,024"):
        read(Reader(), fits)


@pytest.mark.parametrize(
    "body", [b"", b"garbage", b"\x96\x01\xa1a\xa1b\xc4\x01r\xc4\x11" + bytes(17) + b"\x00", b"\x96\x01\xa1a\xa1b\xc4\x01r\xc4\x00\xff"]
)
def test_malformed_greetings_are_refused(body):
    with pytest.raises(ProtocolError, match="could not be read"):
        Hello.decode(body)


def test_a_greeting_of_another_version_is_refused():
    [record] = read(Reader(), Hello(2, "a", "b", b"", b"", 0).encode())
    with pytest.raises(ProtocolError, match="speaks version 2"):
        Hello.decode(record.body)


def test_a_listening_side_must_draw_a_session():
    with pytest.raises(ProtocolError, match="without a session"):
        Channel("a", "b", True, Link("b", 100)).agree(Hello(1, "b", "a", b"", b"", 0), os.urandom)


def test_a_session_that_was_not_drawn_here_is_not_resumed():
    channel = Channel("b", "a", False, Link("a", 100))
    assert not channel.agree(Hello(1, "a", "b", b"", bytes(16), 5), os.urandom)
    assert channel.link.session not in (b"", bytes(16))
    assert channel.link.received == 0


def test_directories_hold_certificates_against_keys():
    (ann, ann_certificate, _), (bob, bob_certificate, _) = issue("ann", os.urandom), issue("bob", os.urandom)
    roster = Roster({"ann": ann.public, "bob": bob.public}, {"ann": "owner", "bob": "compute"})
    certificates = {"ann": ann_certificate, "bob": bob_certificate}
    directory = Directory(roster, certificates, {"bob": Address("host", 1)})
    assert directory.dials("ann", "bob")
    assert not directory.dials("bob", "ann")
    for wrong, words in (
        ({"ann": bob_certificate, "bob": bob_certificate}, "'ann' does not hold"),
        ({"ann": ann_certificate}, "every party"),
    ):
        with pytest.raises(ValueError, match=words):
            Directory(roster, wrong, {})
    with pytest.raises(ValueError, match="not in the roster"):
        Directory(roster, certificates, {"eve": Address("host", 1)})


@pytest.mark.parametrize("text", ["host", "host:", ":1", "host:0", "host:65536", "host:-1", "host:1x", "host:²"])
def test_addresses_are_checked(text):
    with pytest.raises(ValueError):
        Address.parse(text)
    assert str(Address.parse("[::1]:7401")) == "[::1]:7401"
    assert Address.parse("host:7401") == Address("host", 7401)
