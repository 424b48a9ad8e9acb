"""Envelopes and sessions: parse or refuse, once each, in any order, with whose fault it is."""

import os
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilstat.protocol.context import Transcript, digest, session_root, step_context
from veilstat.protocol.envelope import BLOCK_BYTES, LARGEST_FRAME, Envelope, _Header, frame_bytes, seal
from veilstat.protocol.faults import Fault, ProtocolError, violation
from veilstat.protocol.identity import Identity, Roster
from veilstat.protocol.session import ABORT, Binding, Failed, Finished, Message, Send, Session, Turn, decode_fault, encode_fault

NAMES = ("ann", "bob", "server")
IDENTITIES = {name: Identity.from_seed(name, bytes((place,)) * 32) for place, name in enumerate(NAMES)}
ROSTER = Roster({name: identity.public for name, identity in IDENTITIES.items()}, {"ann": "owner", "bob": "owner", "server": "server"})
ROOT, STEP = b"r" * 32, b"s" * 32


def frames(sender="ann", round_name="first", payload=b"hello", recipient="server", root=ROOT, step=STEP):
    return list(seal(IDENTITIES[sender], root, step, round_name, recipient, payload))


def envelope(*args, **options):
    [frame] = frames(*args, **options)
    parsed = Envelope.decode(frame)
    parsed.verify(ROSTER)
    return parsed


@given(st.binary(max_size=300), st.text(min_size=1, max_size=40))
def test_what_is_sealed_is_read_back(payload, round_name):
    parsed = envelope(payload=payload, round_name=round_name)
    assert (parsed.sender, parsed.recipient, parsed.round, bytes(parsed.payload)) == ("ann", "server", round_name, payload)
    assert (parsed.root, parsed.step, parsed.sequence, parsed.blocks) == (ROOT, STEP, 0, 1)


@pytest.mark.parametrize("size", [0, 1, 1000, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 5])
def test_sizes_follow_from_the_format(size):
    sent = frames(payload=bytes(size), round_name="r" * 40)
    assert sum(map(len, sent)) == frame_bytes("r" * 40, "ann", "server", size)
    assert max(map(len, sent)) <= LARGEST_FRAME


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_any_flipped_bit_is_refused(place, bit):
    [frame] = frames()
    place %= len(frame)
    changed = frame[:place] + bytes((frame[place] ^ (1 << bit),)) + frame[place + 1 :]
    with pytest.raises(ProtocolError):
        Envelope.decode(changed).verify(ROSTER)


@given(st.binary(max_size=400))
def test_garbage_is_a_violation_and_nothing_else(garbage):
    with pytest.raises(ProtocolError) as error:
        Envelope.decode(garbage).verify(ROSTER)
    assert error.value.fault.kind == "ProtocolViolation"


@pytest.mark.parametrize("cut", [0, 1, 4, 60, 100, 200])
def test_a_frame_that_is_cut_short_is_refused(cut):
    [frame] = frames(payload=b"x" * 100)
    with pytest.raises(ProtocolError):
        Envelope.decode(frame[: len(frame) - 100 - cut] if cut > 60 else frame[:cut]).verify(ROSTER)


def test_oversized_frames_and_foreign_versions_are_refused():
    with pytest.raises(ProtocolError, match="above the limit"):
        Envelope.decode(bytes(LARGEST_FRAME + 1))
    header = msgspec.msgpack.encode(_Header(99, ROOT, STEP, "r", "ann", "server", bytes(4), b"\1\0\0\0", bytes(32)))
    with pytest.raises(ProtocolError, match=r"version 99.*speaks 1"):
        Envelope.decode(len(header).to_bytes(4, "little") + header + bytes(64))


@pytest.mark.parametrize(
    "fields", [(b"short", STEP, bytes(4), b"\1\0\0\0"), (ROOT, STEP, b"\5\0\0\0", b"\1\0\0\0"), (ROOT, STEP, bytes(3), b"\1\0\0\0")]
)
def test_headers_with_wrong_fields_are_refused(fields):
    root, step, sequence, blocks = fields
    header = msgspec.msgpack.encode(_Header(1, root, step, "r", "ann", "server", sequence, blocks, bytes(32)))
    with pytest.raises(ProtocolError):
        Envelope.decode(len(header).to_bytes(4, "little") + header + bytes(64))


@pytest.mark.parametrize("name", [b"ann", b"zoe"])
def test_a_signature_of_another_party_is_refused_and_names_nobody(name):
    """What nobody signed may name anybody, also somebody whom nobody knows."""
    [frame] = frames("bob")
    forged = frame.replace(b"\xa3bob", b"\xa3" + name)
    with pytest.raises(ProtocolError, match="not signed by the party") as error:
        Envelope.decode(forged).verify(ROSTER)
    assert error.value.fault.culprits == ()
    assert name.decode() not in error.value.fault.message


def test_rosters_are_checked():
    keys = {name: identity.public for name, identity in IDENTITIES.items()}
    with pytest.raises(ValueError, match="same key"):
        Roster({"a": keys["ann"], "b": keys["ann"]}, {"a": "owner", "b": "owner"})
    with pytest.raises(ValueError, match="a key and a role"):
        Roster(keys, {"ann": "owner"})
    with pytest.raises(ValueError, match="1 to 64 bytes"):
        Roster({"n" * 65: keys["ann"]}, {"n" * 65: "owner"})
    assert not ROSTER.verifies("nobody", b"m", bytes(64))


def test_every_part_of_root_and_context_matters():
    root = session_root(b"p" * 32, b"q" * 16, ROSTER.digest, ["analyst"], b"s" * 64)
    others = [
        session_root(b"P" * 32, b"q" * 16, ROSTER.digest, ["analyst"], b"s" * 64), session_root(b"p" * 32, b"Q" * 16, ROSTER.digest, ["analyst"], b"s" * 64),
        session_root(b"p" * 32, b"q" * 16, b"other", ["analyst"], b"s" * 64), session_root(b"p" * 32, b"q" * 16, ROSTER.digest, ["server"], b"s" * 64),
        session_root(b"p" * 32, b"q" * 16, ROSTER.digest, ["analyst"], b"S" * 64),
    ]  # fmt: skip
    contexts = {
        step_context(root, "a", 0, b"", ["x"], b""), step_context(root, "b", 0, b"", ["x"], b""), step_context(root, "a", 1, b"", ["x"], b""),
        step_context(root, "a", 0, b"v", ["x"], b""), step_context(root, "a", 0, b"", ["y"], b""), step_context(root, "a", 0, b"", ["x"], b"t"),
    }  # fmt: skip
    assert len({root, *others}) == 6
    assert len(contexts) == 6
    assert digest("l", b"ab", b"c") != digest("l", b"a", b"bc")
    assert Transcript(root).after(STEP, ["x", "y"]) != Transcript(root).after(STEP, ["x"])


@dataclass(frozen=True)
class Collect:
    """A dummy round: collects from all, then another, then ends with what it heard."""

    name: str = "first"
    senders: frozenset = frozenset(("ann", "bob"))
    quorum: int = 2
    largest: int = 3 * BLOCK_BYTES
    heard: dict = field(default_factory=dict)

    def take(self, sender, payload):
        if payload == b"bad":
            raise violation("bad", f"{sender} misbehaved", sender)
        self.heard[sender] = bytes(payload)

    def close(self):
        if self.name == "first":
            return Turn((Message("second", "ann", b"go"),), Collect("second", heard=dict(self.heard)))
        return Turn((), None, self.heard)


def session(first=None):
    binding = Binding(IDENTITIES["server"], ROSTER, ROOT, STEP, ("first", "second"), ("ann", "bob"))
    return Session(binding, Turn((), first or Collect()))


def outcome(machine):
    events = list(machine.events())
    return [event for event in events if not isinstance(event, Send)], [event for event in events if isinstance(event, Send)]


def test_rounds_follow_one_another_whatever_the_order():
    machine = session()
    for message in [("bob", "second", b"4"), ("ann", "first", b"1"), ("ann", "second", b"3"), ("bob", "first", b"2")]:
        machine.receive(envelope(*message))
    ends, sends = outcome(machine)
    assert ends == [Finished({"ann": b"3", "bob": b"4"})]
    assert [send.recipient for send in sends] == ["ann"]
    assert machine.waiting_for is None


def test_resent_messages_are_ignored_and_different_ones_are_not():
    machine = session()
    machine.receive(envelope("ann"))
    machine.receive(envelope("ann"))
    assert machine.waiting_for == "first"
    machine.receive(envelope("ann", payload=b"other"))
    [end], sends = outcome(machine)
    assert end.fault.code == "equivocation"
    assert end.fault.culprits == ("ann",)
    assert {send.recipient for send in sends} == {"ann", "bob"}


def test_large_messages_are_put_together_from_blocks_in_any_order():
    payload = os.urandom(2 * BLOCK_BYTES + 100)
    machine = session()
    blocks = [Envelope.decode(frame) for frame in frames("ann", payload=payload)]
    for block in (blocks[2], blocks[0], blocks[0], blocks[1]):
        machine.receive(block)
    machine.receive(envelope("bob"))
    machine.receive(envelope("ann", "second"))
    machine.receive(envelope("bob", "second"))
    assert machine._round is None
    [end], _ = outcome(machine)
    assert isinstance(end, Finished)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (("ann", "first", b"bad"), "bad"),
        (("ann", "third"), "unknown_round"),
        (("server", "first"), "unexpected_sender"),
        (("ann", "first", bytes(3 * BLOCK_BYTES + 1)), "too_large"),
        (("ann", "first", bytes(9 * BLOCK_BYTES)), "too_large"),
    ],
)
def test_what_the_protocol_forbids_ends_the_session_and_names_the_sender(message, code):
    machine = session()
    for frame in frames(*message):
        machine.receive(Envelope.decode(frame))
    [end], _ = outcome(machine)
    assert isinstance(end, Failed)
    assert (end.fault.code, end.fault.culprits) == (code, (message[0],))


def test_hundreds_of_blocks_may_come_a_round_early_and_a_flood_is_refused(monkeypatch):
    monkeypatch.setattr("veilstat.protocol.envelope.BLOCK_BYTES", 16)
    machine = session()
    early = [Envelope.decode(frame) for frame in frames("ann", "second", bytes(1025 * 16))]
    for envelope in early[:-1]:
        machine.receive(envelope)
    assert outcome(machine) == ([], [])
    machine.receive(early[-1])
    [end], _ = outcome(machine)
    assert (end.fault.code, end.fault.culprits) == ("flood", ("ann",))


def test_an_expired_round_goes_on_with_its_quorum_or_ends():
    machine = session(Collect(quorum=1))
    machine.receive(envelope("bob"))
    machine.expire("second")
    assert machine.waiting_for == "first"
    machine.expire("first")
    assert machine.waiting_for == "second"
    machine.expire("second")
    [end], _ = outcome(machine)
    assert end.fault.kind == "QuorumLost"
    assert end.fault.culprits == ("ann", "bob")
    assert "0 answered in round second" in end.fault.message


def test_a_session_that_has_ended_never_resumes():
    machine = session()
    machine.fail(Fault("QuorumLost", "x", "over"))
    outcome(machine)
    machine.receive(envelope("ann"))
    machine.expire("first")
    machine.fail(Fault("QuorumLost", "x", "again"))
    assert list(machine.events()) == []


def test_an_abort_is_passed_on_to_the_others():
    machine = session()
    fault = Fault("RangeError", "out_of_bounds", "a value", ("ann",))
    machine.receive(envelope("ann", ABORT, encode_fault(fault)))
    [end], sends = outcome(machine)
    assert end.fault == fault
    assert [send.recipient for send in sends] == ["bob"]
    assert decode_fault(Envelope.decode(sends[0].frame).payload, "server") == fault
    with pytest.raises(ProtocolError):
        decode_fault(b"\xc1", "ann")


def test_late_messages_of_earlier_rounds_are_ignored():
    machine = session(Collect(quorum=1))
    machine.receive(envelope("ann"))
    machine.expire("first")
    machine.receive(envelope("bob"))
    assert machine.waiting_for == "second"
    assert not machine._arrived


def test_no_key_is_in_a_repr():
    assert repr(IDENTITIES["ann"]) == "Identity(name='ann')"
