"""Owners upload, replace and withdraw rows while queries run: a query keeps what it began with, or ends with a reason."""

import numpy as np
import pytest

import veilstat as vs
from veilstat.platform.table import Table
from veilstat.testing import Loss, Reorder
from veilstat.testing.tables import small_schema, small_tables

SERVERS = ("compute1", "compute2", "compute3")
QUERY = vs.LinearRegression("bp ~ age", method="gradient_descent", tolerance=0.01)


def study(*faults, open="moments"):
    return vs.simulate(small_tables(), small_schema(), vs.Sharing(entry="rows", open=open), faults=faults)


def servers(whole):
    return [whole._backend.network.machines[name] for name in SERVERS]


def versions(whole, owner):
    return [server.store.largest_version(owner) for server in servers(whole)]


def with_other_rows(whole, owner):
    """The owner's table changes before it is uploaded again."""
    changed = small_tables()[owner].assign(bp=100.0)
    whole._backend.agents[owner].table = Table(owner, changed, small_schema())


@pytest.mark.parametrize("open", ["moments", "estimate"])
def test_a_query_goes_on_with_the_rows_that_it_began_with(open):
    whole = study(open=open)
    with_other_rows(whole, "owner2")
    began = []

    def upload_once(label, done, at_most):
        if not began:
            began.append(label)
            whole.upload("owner2")

    result = whole.run(QUERY, progress=upload_once)
    assert began == ["scaling"]
    assert versions(whole, "owner2") == [2, 2, 2]
    assert result.params.tolist() == study(open=open).run(QUERY).params.tolist()


def test_an_upload_and_a_query_at_the_same_time_do_not_disturb_each_other():
    whole = study()
    agent, network = whole._backend.agents["owner2"], whole._backend.network
    with_other_rows(whole, "owner2")
    agent.ask_versions()
    network.settle()
    agent.offer_rows()
    assert whole.mean("bp").estimate == study().mean("bp").estimate
    assert versions(whole, "owner2") == [2, 2, 2]
    assert agent.fault is None


@pytest.mark.parametrize("seed", range(4))
def test_a_query_that_meets_an_upload_halfway_is_answered_or_says_so(seed):
    whole = study(Reorder(seed))
    agent, network = whole._backend.agents["owner2"], whole._backend.network
    agent.ask_versions()
    network.settle()
    agent.offer_rows()
    try:
        outcome = whole.mean("bp").estimate
    except vs.ProtocolViolation as error:
        outcome = error.code
    assert outcome in (study().mean("bp").estimate, "uploads_differ")
    assert versions(whole, "owner2") == [2, 2, 2]


def test_a_withdrawal_ends_the_query_before_its_next_step():
    whole = study()
    with pytest.raises(vs.PolicyDenied, match="owner2") as error:
        whole.run(QUERY, progress=lambda label, done, at_most: whole.withdraw("owner2") if label == "scaling" else None)
    assert error.value.code == "upload_withdrawn"
    assert [label for label, _ in whole.observed["analyst"].opened] == ["scaling"]
    assert all("owner2" not in server.pinned for server in servers(whole))


def test_a_withdrawal_leaves_no_server_with_the_rows_of_a_query_that_has_ended():
    whole = study()
    whole.mean("bp")
    assert all("owner2" in server.pinned for server in servers(whole))
    whole.withdraw("owner2")
    assert all("owner2" not in server.pinned for server in servers(whole))


def test_after_one_owners_upload_the_refusal_says_whose_why_and_what_may_be_asked():
    whole = study()
    before = whole.mean("bp")
    whole.upload("owner2")
    for query in (vs.Mean("bp"), vs.Count(), vs.Variance("age")):
        with pytest.raises(vs.PolicyDenied) as error:
            whole.run(query)
        assert error.value.code == "isolating_difference"
        for words in ("'number of rows'", "owner2 replaced its rows", "none of the same sums", "3 owners"):
            assert words in error.value.message
        assert "owner1" not in error.value.message
    whole.upload("owner4")
    with pytest.raises(vs.PolicyDenied, match="owner2, owner4 replaced"):
        whole.mean("bp")
    whole.upload("owner1")
    assert whole.mean("bp").estimate == before.estimate
    assert whole.mean("bp").estimate == before.estimate


def test_a_server_that_is_lost_during_an_upload_does_not_end_the_query_that_runs():
    """Compute server 2 never gets owner2's last plane; the upload fails, and the query beside it is answered."""
    whole = study()
    network, agent = whole._backend.network, whole._backend.agents["owner2"]
    network.faults = (Loss("owner2", "plane/2", "compute2"),)
    agent.ask_versions()
    network.settle()
    agent.offer_rows()
    assert np.isfinite(whole.mean("bp").estimate)
    assert agent.fault is not None
    assert agent.fault.kind == "QuorumLost"
