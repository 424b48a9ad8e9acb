"""Between two compute servers a code stands in the signature's place; whoever lacks their key can neither make nor move one."""

from __future__ import annotations

import hmac

import numpy as np
import pandas as pd
import pytest

import veilstat as vs
from veilstat.protocol.envelope import Envelope, frame_bytes, seal
from veilstat.protocol.faults import ProtocolError
from veilstat.protocol.identity import Identity, Roster
from veilstat.protocol.member import Member

ROOT, STEP = b"r" * 32, b"s" * 32
IDENTITIES = {name: Identity.from_seed(name, bytes((place,)) * 32) for place, name in enumerate(("one", "two", "three", "owner"), 1)}
ROSTER = Roster(
    {name: identity.public for name, identity in IDENTITIES.items()},
    {"one": "compute", "two": "compute", "three": "compute", "owner": "owner"},
    {name: IDENTITIES[name].sealing_key for name in ("one", "two", "three")},
)
MEMBERS = {name: Member(identity, ROSTER) for name, identity in IDENTITIES.items()}


def frame(sender: str, recipient: str, payload: bytes = b"payload") -> bytes:
    [made] = seal(MEMBERS[sender], ROOT, STEP, "compute/0", recipient, payload)
    return made


def refused(made: bytes, reader: str) -> str:
    with pytest.raises(ProtocolError) as caught:
        Envelope.decode(made).verify(MEMBERS[reader])
    return caught.value.fault.code


def test_a_server_knows_what_another_sent_and_nobody_else_can_check_it():
    made = frame("one", "two")
    Envelope.decode(made).verify(MEMBERS["two"])
    assert len(made) == frame_bytes("compute/0", "one", "two", len(b"payload"))
    assert refused(made, "three") == "bad_signature"
    with pytest.raises(ProtocolError):
        Envelope.decode(made).verify(ROSTER)


@pytest.mark.parametrize("place", [5, 40, 90, 140, 160, 180, -70, -9, -1])
def test_a_changed_bit_anywhere_is_refused(place):
    made = bytearray(frame("one", "two"))
    made[place] ^= 1
    with pytest.raises(ProtocolError):
        Envelope.decode(bytes(made)).verify(MEMBERS["two"])


def test_a_code_is_no_other_senders_and_comes_back_to_nobody():
    theirs = frame("one", "two")
    for other in (theirs.replace(b"\xa3one", b"\xa3two", 1), theirs.replace(b"\xa3two", b"\xa3one", 1)):
        assert refused(other, "two") == "bad_signature"
    swapped = theirs.replace(b"\xa3one\xa3two", b"\xa3two\xa3one")
    assert swapped != theirs
    assert refused(swapped, "one") == "bad_signature"


def test_servers_do_not_take_a_signature_for_a_code_nor_others_a_code_for_a_signature():
    [signed] = seal(IDENTITIES["one"], ROOT, STEP, "compute/0", "two", b"payload")
    assert refused(signed, "two") == "bad_signature"
    [to_owner] = seal(IDENTITIES["one"], ROOT, STEP, "result", "owner", b"payload")
    Envelope.decode(to_owner).verify(MEMBERS["owner"])
    assert frame("one", "owner") == seal_of("one", "owner")


def seal_of(sender: str, recipient: str) -> bytes:
    [made] = seal(IDENTITIES[sender], ROOT, STEP, "compute/0", recipient, b"payload")
    return made


def test_an_outsider_who_knows_all_public_keys_makes_no_code():
    outsider = Member(Identity.from_seed("one", b"x" * 32), ROSTER)
    [made] = seal(outsider, ROOT, STEP, "compute/0", "two", b"payload")
    assert refused(made, "two") == "bad_signature"
    guessed = hmac.digest(ROSTER.sealing["one"] + ROSTER.sealing["two"], b"", "sha512")
    assert not MEMBERS["two"].accepts("one", "two", b"", guessed)


def test_groups_and_servers_without_a_sealing_key_get_signatures():
    bare = Roster(ROSTER.keys, ROSTER.roles)
    signed = Member(IDENTITIES["one"], bare).authenticate("two", b"message")
    assert bare.verifies("one", b"message", signed)
    assert ROSTER.verifies("one", b"message", MEMBERS["one"].authenticate("servers", b"message"))
    assert "key" not in repr(MEMBERS["one"])


def test_servers_of_a_study_authenticate_layers_and_sign_results():
    schema = vs.Schema(vs.Integer("age", lower=0, upper=99), max_rows=64)
    tables = {name: pd.DataFrame({"age": np.arange(20) + place}) for place, name in enumerate(("a", "b", "c"))}
    study = vs.simulate(tables, schema, architecture=vs.Sharing(servers=3, open="estimate"))
    study.mean("age")
    roster = study._backend.hosts.roster
    layers = [envelope for envelope in study.observed["compute1"].envelopes if envelope.round.startswith("compute/")]
    results = [envelope for envelope in study.observed["analyst"].envelopes if envelope.round == "result"]
    assert len(layers) > 3
    assert len(results) == 3
    for envelope in layers:
        with pytest.raises(ProtocolError):
            envelope.verify(roster)
    for envelope in results:
        envelope.verify(roster)
