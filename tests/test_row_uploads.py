"""Owners upload their rows once: what is stored, who is refused, and what a withdrawal leaves behind."""

import os
from pathlib import Path

import numpy as np
import pytest

import veilstat as vs
from veilstat.architectures.sharing.uploads import planes
from veilstat.platform.compute_hosts import LocalServers
from veilstat.platform.simulation import Simulation
from veilstat.platform.study import Study
from veilstat.platform.upload import HELD, WITHDRAWN, padded
from veilstat.platform.upload_store import UploadStore
from veilstat.protocol.envelope import NO_STEP, seal
from veilstat.testing import Dropout, Duplicate, Lie, Loss, Reorder, Tamper
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


class KeptServers(LocalServers):
    """With stores that outlive them."""

    def __init__(self, definition, folder):
        super().__init__(definition, os.urandom)
        self.folder = folder

    def _stores(self):
        places = {name: self.folder / name for name in SERVERS}
        for place in places.values():
            place.mkdir(exist_ok=True)
        return {name: UploadStore(place, self.definition.schema, index) for index, (name, place) in enumerate(places.items())}


def process(folder):
    """A study as a new process sees it: its own keys and counters, the servers' disks as they were left."""
    definition = study().definition
    return Study(definition, Simulation(definition, small_tables(), {}, (), os.urandom, KeptServers(definition, folder)))


def versions(whole, owner="owner2"):
    return [store.largest_version(owner) for store in stores(whole)]


def test_a_second_process_continues_the_versions_that_servers_know(tmp_path):
    first = process(tmp_path)
    first.upload("owner2")
    first.withdraw("owner3")
    second = process(tmp_path)
    assert (versions(second), versions(second, "owner3"), versions(second, "owner1")) == ([3] * 3, [2] * 3, [2] * 3)
    assert second.count().n == sum(map(len, small_tables().values()))
    second.withdraw("owner2")
    assert [store.header("owner2") for store in stores(second)] == [None] * 3


def test_servers_that_were_killed_between_their_commits_are_mended_by_an_upload(tmp_path):
    """One server keeps version 1 where the others have version 2."""
    whole = process(tmp_path)
    network = whole._backend.network
    network.faults = (Loss("owner2", "commit", "compute2"),)
    with pytest.raises(vs.QuorumLost):
        whole.upload("owner2")
    network.faults = ()
    assert versions(whole) == [2, 1, 2]
    with pytest.raises(vs.ProtocolViolation) as error:
        whole.count()
    assert error.value.code == "uploads_differ"
    whole.upload("owner2")
    assert versions(whole) == [3] * 3
    assert whole.count().n == sum(map(len, small_tables().values()))


def test_a_withdrawal_removes_different_versions_and_may_be_repeated():
    whole = study()
    network = whole._backend.network
    network.faults = (Loss("owner2", "commit", "compute2"),)
    with pytest.raises(vs.QuorumLost):
        whole.upload("owner2")
    network.faults = (Loss("owner2", "withdraw", "compute3"),)
    with pytest.raises(vs.QuorumLost, match="compute3"):
        whole.withdraw("owner2")
    assert [store.header("owner2") is None for store in stores(whole)] == [True, True, False]
    network.faults = ()
    whole.withdraw("owner2")
    assert [store.header("owner2") for store in stores(whole)] == [None] * 3
    assert versions(whole) == [2] * 3


def test_an_owner_asks_without_ending_what_runs_and_servers_answer_for_it_alone():
    whole = study()
    network, agent = whole._backend.network, whole._backend.agents["owner1"]
    server = network.machines["compute1"]
    server.root, server.gate = b"r" * 32, "a query's"
    agent.ask_versions()
    network.settle()
    assert (agent.fault, server.root, server.gate) == (None, b"r" * 32, "a query's")
    assert {(held.stored, held.largest) for held in agent.held.values()} == {(1, 1)}


@pytest.mark.parametrize(
    "lie", [b"", b"\x92\x01", b"\x92\x02\x01", b"\x92\xff\x01", b"\x92\x00\xcf" + b"\xff" * 8, b"\x92\x00\xcf\x40" + bytes(7)]
)
def test_versions_that_cannot_be_are_refused(lie):
    with pytest.raises(vs.ProtocolViolation) as error:
        study(Lie("compute2", "held", lambda raw: lie))
    assert error.value.culprits == ("compute2",)


def test_an_offer_that_cannot_be_read_names_its_owner():
    with pytest.raises(vs.ProtocolViolation) as error:
        study(Lie("owner2", "offer", lambda raw: b"{}"))
    assert (error.value.code, error.value.culprits) == ("upload_header", ("owner2",))


def test_a_server_that_does_not_say_what_it_holds_is_named():
    with pytest.raises(vs.QuorumLost, match="compute3 did not answer"):
        study(Dropout("compute3", "held"))


def test_a_server_that_answers_something_else_than_it_was_asked_has_not_answered():
    whole = study()
    agent, hosts = whole._backend.agents["owner1"], whole._backend.hosts

    def answered(round_name, payload):
        for server in SERVERS:
            [frame] = seal(hosts.identities[server], agent.root or b"", NO_STEP, round_name, "owner1", payload)
            agent.receive(frame)
        fault, _ = agent.fault, list(agent.events())
        return fault

    agent.ask_versions()
    assert answered(WITHDRAWN, b"").culprits == ("compute1",)
    agent.ask_versions()
    assert answered(HELD, b"\x92\x01\x01") is None
    agent.withdraw_rows()
    assert answered(HELD, b"\x92\x00\x01").culprits == ("compute1",)


def test_an_upload_that_a_server_leaves_speaks_of_no_opening():
    with pytest.raises(vs.QuorumLost, match="This attempt has ended; try again"):
        study(Dropout("compute3", "kept/4"))


def test_an_upload_that_cannot_be_removed_is_an_error_that_its_owner_understands(monkeypatch):
    whole = study()
    monkeypatch.setattr(Path, "unlink", read_only)
    with pytest.raises(vs.VeilstatError, match=r"compute server .* Read-only file system") as error:
        whole.withdraw("owner1")
    assert error.value.code == "disk_failed"


def read_only(place, missing_ok):
    raise OSError(30, "Read-only file system")


LAST = len(planes(small_schema(), ())) - 1


@pytest.mark.parametrize(
    "fault",
    [
        Lie("owner2", "offer"),
        Lie("owner2", "offer", lambda raw: raw.replace(b"owner2", b"owner1")),
        Lie("owner2", "offer", lambda raw: b""),
        Lie("owner2", "plane/3"),
        Lie("owner2", "plane/0", lambda raw: raw[:-1]),
        Tamper("owner2", "plane/1"),
        Lie("owner2", "commit", lambda raw: b"now"),
        Tamper("compute1", "kept/2", 0.3),
        Dropout("owner2", "plane/2"),
        Dropout("compute3", "kept/4"),
        Dropout("owner2", f"plane/{LAST}"),
        Loss("owner2", f"plane/{LAST}", "compute2"),
    ],
    ids=range(12),
)
def test_an_upload_that_goes_wrong_is_an_error_and_leaves_no_server_with_half_of_it(fault):
    with pytest.raises(vs.VeilstatError):
        study(fault)


def test_duplicates_and_disorder_change_nothing():
    for fault in (
        Duplicate("owner2", "offer"),
        Duplicate("owner2", "ask"),
        Duplicate("owner2", "plane/1"),
        Duplicate("owner2", "commit"),
        Duplicate("compute1", "kept/1"),
        Reorder(3),
    ):
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


def test_rows_are_not_asked_about_under_another_policy_than_they_came_with():
    whole = study()
    whole.definition.policies["owner3"] = vs.Policy(min_owners=3).digest
    with pytest.raises(vs.PolicyDenied, match="data owner 'owner3': its rows came with another policy") as error:
        whole.count()
    assert error.value.code == "policy_differs"
    whole._backend.agents["owner3"].policy = vs.Policy(min_owners=3)
    whole.upload("owner3")
    assert whole.count().n == sum(map(len, small_tables().values()))


def test_what_one_server_holds_is_uniform():
    """Its two components are; over all servers every component would stand twice, and chi-squared would double."""
    whole = study()
    for store in stores(whole):
        raw = np.asarray(store.rows("owner1", 1).words).reshape(-1)
        counts = np.bincount(raw.view(np.uint8), minlength=256)
        expected = counts.sum() / 256
        assert ((counts - expected) ** 2 / expected).sum() < 255 + 6 * (2 * 255) ** 0.5
