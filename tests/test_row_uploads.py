"""Owners upload their rows once: what is stored, who is refused, and what a withdrawal leaves behind."""

import numpy as np
import pytest

import veilstat as vs
from veilstat.platform.upload import padded
from veilstat.testing import Dropout, Duplicate, Lie, Reorder, Tamper
from veilstat.testing.tables import small_schema, small_tables

SERVERS = ("compute1", "compute2", "compute3")


def study(*faults, policies=None):
    return vs.simulate(small_tables(), small_schema(), vs.Sharing(entry="rows"), faults=faults, policies=policies)


def stores(whole):
    return [whole._backend.network.machines[name].store for name in SERVERS]


def test_every_server_holds_every_owners_rows_under_one_header():
    whole = study()
    for owner, table in small_tables().items():
        headers = {store.header(owner) for store in stores(whole)}
        [header] = headers
        assert (header.owner, header.version, header.rows) == (owner, 1, padded(len(table)))
        words = [store.rows(owner, 1).words for store in stores(whole)]
        total = words[0][:, 0].astype(object) + words[1][:, 0] + words[2][:, 0]
        assert int((total[0, 0] % 2**64).sum()) == len(table)
        for index in range(3):
            assert (words[index][:, 1] == words[index - 1][:, 0]).all()


def test_row_counts_are_padded_by_at_most_an_eighth():
    for count in (*range(200), 1000, 12345, 10**6):
        assert count <= padded(count) <= count + max(8, count / 8)


def test_a_new_upload_replaces_the_former_one():
    whole = study()
    whole.upload("owner2")
    assert [store.header("owner2").version for store in stores(whole)] == [2, 2, 2]
    assert [store.header("owner1").version for store in stores(whole)] == [1, 1, 1]


def test_a_withdrawn_upload_is_gone_and_its_replay_is_refused():
    whole = study()
    network = whole._backend.network
    offers = [e.frame for name in SERVERS for e in whole.observed[name].envelopes if e.round == "offer" and e.sender == "owner2"]
    whole.withdraw("owner2")
    assert [store.header("owner2") for store in stores(whole)] == [None] * 3
    for name, frame in zip(SERVERS, offers, strict=True):
        machine = network.machines[name]
        machine.receive(frame)
        assert all(b"upload_version" in event.frame for event in machine.events())
    whole.upload("owner2")
    assert [store.header("owner2").version for store in stores(whole)] == [2, 2, 2]
    withdrawals = [e.frame for e in whole.observed["compute1"].envelopes if e.round == "withdraw"]
    network.machines["compute1"].receive(withdrawals[0])
    assert stores(whole)[0].header("owner2").version == 2


def test_nothing_can_be_withdrawn_twice_or_by_nobody():
    whole = study()
    whole.withdraw("owner1")
    with pytest.raises(vs.SchemaError):
        whole.withdraw("owner1")
    with pytest.raises(vs.SchemaError):
        whole.withdraw("stranger")
    with pytest.raises(vs.CapabilityError):
        vs.simulate(small_tables(), small_schema(), "sharing").upload("owner1")


@pytest.mark.parametrize(
    "fault",
    [
        Lie("owner2", "offer"),
        Lie("owner2", "offer", lambda raw: raw.replace(b"owner2", b"owner1")),
        Lie("owner2", "offer", lambda raw: b""),
        Lie("owner2", "plane/3"),
        Lie("owner2", "plane/0", lambda raw: raw[:-1]),
        Tamper("owner2", "plane/1"),
        Tamper("compute1", "kept/2", 0.3),
        Dropout("owner2", "plane/2"),
        Dropout("compute3", "kept/4"),
    ],
    ids=range(9),
)
def test_an_upload_that_goes_wrong_is_an_error_and_leaves_no_server_with_half_of_it(fault):
    with pytest.raises(vs.VeilstatError):
        study(fault)


def test_duplicates_and_disorder_change_nothing():
    for fault in (Duplicate("owner2", "plane/1"), Duplicate("compute1", "kept/1"), Reorder(3)):
        whole = study(fault)
        assert [store.header("owner2").version for store in stores(whole)] == [1, 1, 1]


def test_the_policy_that_was_published_is_the_one_that_is_uploaded():
    whole = study(policies={"owner3": vs.Policy(statistics=("mean",), columns=("bp", "age"), most_openings=7, min_owners=3)})
    for store in stores(whole):
        assert vs.Policy.from_json(store.header("owner3").terms).digest == whole.definition.policies["owner3"]
    agent = whole._backend.agents["owner3"]
    agent.policy = vs.Policy()
    with pytest.raises(vs.ProtocolViolation) as error:
        whole.upload("owner3")
    assert error.value.code == "policy_differs"
    assert [store.header("owner3").version for store in stores(whole)] == [1, 1, 1]


def test_what_travels_is_uniform():
    whole = study()
    raw = np.concatenate([np.asarray(store.rows("owner1", 1).words).reshape(-1) for store in stores(whole)])
    counts = np.bincount(raw.view(np.uint8), minlength=256)
    expected = counts.sum() / 256
    assert ((counts - expected) ** 2 / expected).sum() < 255 + 6 * (2 * 255) ** 0.5 + 200
