"""Compute servers: what they hold, what they see, who may be lost, and who is refused."""

import os

import msgspec
import numpy as np
import pandas as pd
import pytest

import veilstat as vs
from veilstat.architectures.sharing.dealing import Residues, additive, replicated
from veilstat.architectures.sharing.messages import Part, Tally, share_label
from veilstat.architectures.sharing.protocols.field import Field
from veilstat.arithmetic.agreement import KeyPair, unseal_with
from veilstat.arithmetic.keystream import SEED_BYTES
from veilstat.arithmetic.rings import Ring
from veilstat.testing import Dropout, Lie, Loss, Reorder, Tamper
from veilstat.testing.tables import small_schema, small_tables

SCHEMA, TABLES = small_schema(), small_tables()
SERVERS = ("compute1", "compute2", "compute3")


def study(*faults, tables=TABLES, schema=SCHEMA, policies=None, **options):
    return vs.simulate(tables, schema, vs.Sharing(**options), faults=faults, policies=policies)


def plain(names, column="bp"):
    return SCHEMA.quantise(pd.concat([TABLES[name] for name in names]))[column].mean()


@pytest.mark.parametrize("group", [Residues(Ring(32)), Residues(Ring(64)), Residues(Ring(192)), Field(89), Field(521)])
@pytest.mark.parametrize("servers", [2, 3, 7, "replicated"])
def test_components_add_up_and_all_but_the_last_are_seeds(group, servers):
    values = np.array([0, 1, -1, 2**31 - 1, -(2**30), *range(12345, 12360)], dtype=object)
    dealing = replicated(group) if servers == "replicated" else additive(group, servers)
    payloads = dealing.deal(values, os.urandom)
    held = {}
    for place, payload in enumerate(payloads):
        assert len(payload) == dealing.payload_bytes(place, len(values))
        for component, part in zip(dealing.held[place], dealing.components(place, payload, len(values)), strict=True):
            assert group.to_bytes(held.setdefault(component, part)) == group.to_bytes(part)
    total = dealing.zeros(len(values))
    for part in held.values():
        total = group.add(total, part)
    assert group.to_bytes(total) == group.to_bytes(group.encode(values))
    assert min(len(payload) for payload in payloads) == SEED_BYTES * (2 if servers == "replicated" else 1)


@pytest.mark.parametrize("bits", [32, 64, 128, 320])
def test_totals_of_every_width_come_out_exactly(bits):
    schema = vs.Schema(vs.Continuous("a", lower=0, upper=1, step=2.0**-20), max_rows=4)
    rows = pd.DataFrame({"a": [0.3, 1.0, 0.7]})
    result = vs.simulate({"x": rows, "y": rows}, schema, vs.Sharing(servers=2)).variance("a")
    assert np.isclose(result.estimate, schema.quantise(pd.concat([rows, rows]))["a"].var(), rtol=1e-12)
    ring, values = Residues(Ring(bits)), [3, -(2 ** (bits - 2)), 2 ** (bits - 2) - 1]
    parts = [additive(ring, 3).components(place, p, 3)[0] for place, p in enumerate(additive(ring, 3).deal(values, os.urandom))]
    total = ring.add(ring.add(parts[0], parts[1]), parts[2])
    assert Ring(bits).decode(total, -(2 ** (bits - 1))).tolist() == values


def test_three_owners_find_their_mean_without_any_other_party():
    tables = {name: pd.DataFrame({"income": [amount]}) for name, amount in (("ann", 40), ("ben", 50), ("cid", 90))}
    schema = vs.Schema(vs.Integer("income", lower=0, upper=1000), max_rows=1)
    among = vs.simulate(tables, schema, vs.Sharing(servers="owners"))
    assert among.mean("income").estimate == 60
    assert [name for name in among.observed if "compute" in name] == ["ann.compute", "ben.compute", "cid.compute"]


@pytest.mark.parametrize("round_name", ["approve", "tally", "result"])
@pytest.mark.parametrize("server", SERVERS)
def test_a_lost_server_ends_the_query_and_is_named(server, round_name):
    ended = study(Dropout(server, round_name))
    with pytest.raises(vs.QuorumLost) as error:
        ended.mean("bp")
    assert server in error.value.culprits
    assert not ended.observed["analyst"].opened


def test_the_next_query_works_when_the_server_is_back():
    whole = study(Dropout("compute2", "tally", after=0))
    with pytest.raises(vs.QuorumLost):
        whole.mean("bp")
    whole._backend.network.faults = ()
    assert np.isclose(whole.mean("bp").estimate, plain(TABLES))


@pytest.mark.parametrize("server", SERVERS)
def test_owners_whose_share_reached_some_servers_only_are_left_out(server):
    result = study(Loss("owner2", "share", server)).mean("bp")
    assert result.contributors == ("owner1", "owner3", "owner4", "owner5")
    assert np.isclose(result.estimate, plain(result.contributors), rtol=1e-12)


def test_owners_are_lost_down_to_the_threshold():
    two = [Loss("owner2", "share", "compute1"), Loss("owner4", "share", "compute3")]
    assert study(*two).mean("bp").contributors == ("owner1", "owner3", "owner5")
    with pytest.raises(vs.QuorumLost):
        study(*two, Loss("owner5", "share", "compute2")).mean("bp")
    with pytest.raises(vs.QuorumLost):
        study(*two, min_owners=4).mean("bp")


def test_an_owner_decides_how_many_owners_it_wants_beside_it():
    policies = {"owner1": vs.Policy(min_owners=5)}
    assert study(policies=policies).mean("bp").n > 0
    with pytest.raises(vs.QuorumLost):
        study(Dropout("owner3", "share"), policies=policies).mean("bp")


def test_servers_refuse_answers_whose_difference_is_one_owner():
    twice = study(Dropout("owner5", "share", after=1))
    assert len(twice.mean("bp").contributors) == 5
    with pytest.raises(vs.PolicyDenied) as error:
        twice.mean("bp")
    assert error.value.code == "isolating_difference"


def changed(kind, **fields):
    return lambda raw: msgspec.msgpack.encode(msgspec.structs.replace(msgspec.msgpack.decode(raw, type=kind), **fields))


@pytest.mark.parametrize(
    "lie",
    [
        Lie("owner1", "share", lambda raw: raw[:-1]),
        Lie("owner1", "share", lambda raw: b""),
        Lie("owner1", "share", lambda raw: bytes(len(raw))),
        Lie("compute2", "tally", lambda raw: b"\xc1"),
        Lie("compute2", "tally", changed(Tally, owners=["stranger"])),
        Lie("compute2", "tally", changed(Tally, key=b"short")),
        Lie("compute3", "result", changed(Part, owners=["owner1", "owner2", "owner3"])),
        Lie("compute3", "result", changed(Part, owners=["owner9"])),
        Lie("compute1", "result", changed(Part, sealed=b"")),
        Lie("compute1", "result", lambda raw: raw[: len(raw) // 2]),
    ],
    ids=range(10),
)
def test_liars_are_named(lie):
    with pytest.raises(vs.ProtocolViolation) as error:
        study(lie).mean("bp")
    assert lie.party in error.value.culprits


@pytest.mark.parametrize("round_name", ["tally", "result"])
@pytest.mark.parametrize("place", [0.3, 0.75, 0.99])
def test_altered_messages_of_servers_end_the_query(round_name, place):
    with pytest.raises((vs.ProtocolViolation, vs.QuorumLost)):
        study(Tamper("compute2", round_name, place)).mean("bp")


@pytest.mark.parametrize("seed", range(8))
def test_messages_may_arrive_before_the_request_that_they_answer(seed):
    assert study(Reorder(seed)).mean("bp").estimate == study().mean("bp").estimate


def test_a_share_opens_for_its_server_and_its_step_alone():
    seen = study()
    seen.mean("bp")
    [first, *_] = [e for e in seen.observed["compute1"].envelopes if e.round == "share" and e.sender == "owner1"]
    servers = {name: seen._backend.network.machines[name].identity for name in SERVERS}
    boxes = {name: KeyPair.from_secret(identity.sealing_secret) for name, identity in servers.items()}
    box = bytes(first.payload)
    assert unseal_with(boxes["compute1"], first.step, share_label("owner1", "compute1"), box) is not None
    assert unseal_with(boxes["compute2"], first.step, share_label("owner1", "compute1"), box) is None
    assert unseal_with(boxes["compute1"], first.step, share_label("owner2", "compute1"), box) is None
    assert unseal_with(boxes["compute1"], b"0" * 32, share_label("owner1", "compute1"), box) is None


def test_what_a_server_holds_is_uniform_whatever_the_data():
    """Chi-square on the bytes of the explicit component, for two very different tables."""
    for fill in (0, 120):
        schema = vs.Schema(vs.Integer("a", lower=0, upper=120), max_rows=10)
        frame = pd.DataFrame({"a": [fill] * 10})
        dealing = additive(Residues(Ring(64)), 3)
        seen = bytearray()
        values = [int(value) for value in frame["a"]] * 40
        for _ in range(40):
            seen += dealing.deal(values, os.urandom)[2]
        counts = np.bincount(np.frombuffer(bytes(seen), dtype=np.uint8), minlength=256)
        expected = len(seen) / 256
        assert ((counts - expected) ** 2 / expected).sum() < 255 + 6 * (2 * 255) ** 0.5
        assert schema.max_rows == 10


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"threat": "active"}, "not_available"),
        ({"threat": "malicious"}, "bad_configuration"),
        ({"servers": 1}, "bad_configuration"),
        ({"servers": 17}, "bad_configuration"),
        ({"servers": True}, "bad_configuration"),
        ({"servers": "clouds"}, "bad_configuration"),
        ({"open": "everything"}, "bad_configuration"),
        ({"entry": "files"}, "bad_configuration"),
        ({"colluding": -1}, "bad_configuration"),
        ({"colluding": 4}, "threshold_unreachable"),
        ({"min_owners": 6}, "threshold_unreachable"),
    ],
)
def test_configurations_that_cannot_hold_are_refused(options, code):
    with pytest.raises(vs.CapabilityError) as error:
        study(**options)
    assert error.value.code == code


def test_an_owner_cannot_have_the_name_of_a_server():
    with pytest.raises(vs.SchemaError) as error:
        study(tables={"compute1": TABLES["owner1"], "b": TABLES["owner2"]})
    assert error.value.code == "bad_owner"


@pytest.mark.parametrize("entry", ["totals", "rows"])
def test_owners_with_odd_names_run_the_servers_themselves(entry):
    tables = dict(zip(("../north", "a/b", "ü x"), TABLES.values(), strict=False))
    among = vs.simulate(tables, SCHEMA, vs.Sharing(servers="owners", entry=entry, open="estimate"))
    assert np.isclose(among.mean("bp").estimate, SCHEMA.quantise(pd.concat(tables.values()))["bp"].mean(), rtol=1e-9)
