"""Whoever is lost before whichever frame: the answer over who was there, or an error; never another number, never a hang, and the next query works."""

import shutil

import pandas as pd
import pytest

import veilstat as vs
from tests.deployments import OWNERS, TABLES, Deployment
from tests.wires import Wires

KINDS = {
    "masking": ("masking", "colluding = 0"),
    "totals": ("sharing", 'open = "moments"'),
    "estimate": ("sharing", 'open = "estimate"'),
    "rows": ("sharing", 'entry = "rows"\nopen = "moments"'),
    "homomorphic": ("homomorphic", "colluding = 0\nthreshold = 2"),
}
QUERY = vs.Mean("bp")
ENDED = {"quorum_lost", "party_lost", "gateway_lost"}


def fresh(deployment):
    """All parties anew, with no memory of any query."""
    for name in OWNERS:
        shutil.rmtree(deployment.folder / name)
        (deployment.folder / name).mkdir(mode=0o700)
    for path in deployment.folder.glob("compute*.openings"):
        path.unlink()
    return Wires(deployment)


def killed(wires, victim):
    if victim == "server":
        wires.kill_coordinator()
    wires.kill(victim)


def cut(wires, victim):
    wires.lose_line(victim)


def comes_back(wires, victim):
    if victim in wires.parties:
        wires.plug(victim)
    elif victim != "server":
        wires.start(victim)


def asked(wires, harm=None, victim="", place=0):
    """Who is in the answer, which is checked, or the code of the error; the victim is harmed before the frame at this place moves."""

    def carry(origin, target, envelope):
        if harm is None or wires.moved < place:
            return [envelope.frame]
        wires.carry = lambda origin, target, envelope: [envelope.frame]
        harm(wires, victim)
        return [] if victim in (origin, target) else [envelope.frame]

    wires.carry = carry
    try:
        result = wires.ask(QUERY)
    except vs.VeilstatError as error:
        return error.code
    pooled = pd.concat([TABLES[name] for name in wires.contributors])
    assert (result.estimate, result.n) == (pytest.approx(pooled["bp"].mean(), rel=1e-14), len(pooled))
    return wires.contributors


def check(folder, kind, harm, victim, stride, most_waits=0):
    """The outcomes of queries in which a victim is lost at another place each; ``most_waits`` rounds may end by their time limit."""
    deployment = Deployment(folder, *KINDS[kind])
    if kind == "rows":
        Wires(deployment).share_rows()
    undisturbed = fresh(deployment)
    assert asked(undisturbed) == OWNERS
    outcomes = set()
    for place in range(0, undisturbed.moved, stride):
        wires = fresh(deployment)
        outcome = asked(wires, harm, victim, place)
        assert wires.expired <= most_waits, place
        comes_back(wires, victim)
        following = asked(wires)
        without = tuple(name for name in OWNERS if name != victim)
        # An exact answer with the victim would, beside the one without it, tell the victim's own sum.
        assert following == ("isolating_difference" if outcome == without != OWNERS else OWNERS), place
        assert outcome in {OWNERS, without} | ENDED, place
        outcomes.add(outcome)
    return outcomes


ROUNDS = [pytest.param(17, id="some"), pytest.param(1, id="every", marks=pytest.mark.long)]


@pytest.mark.parametrize("stride", ROUNDS)
@pytest.mark.parametrize("harm", [killed, cut])
@pytest.mark.parametrize("kind", ["masking", "homomorphic"])
def test_an_owner_that_is_lost_before_any_frame_is_left_out_or_in_the_answer(tmp_path, kind, harm, stride):
    assert check(tmp_path, kind, harm, "west", stride) == {OWNERS, ("north", "south")}


@pytest.mark.parametrize("stride", ROUNDS)
@pytest.mark.parametrize("harm", [killed, cut])
@pytest.mark.parametrize("kind", ["totals", pytest.param("estimate", marks=pytest.mark.long)])
def test_an_owner_that_is_lost_before_any_frame_while_rows_are_shared_ends_the_query_or_is_in_the_answer(tmp_path, kind, harm, stride):
    """Three owners are the fewest here. Servers wait for shares of an owner that is lost between its approval and them."""
    assert check(tmp_path, kind, harm, "west", stride, most_waits=1) > {OWNERS}


@pytest.mark.parametrize("stride", ROUNDS)
@pytest.mark.parametrize("harm", [killed, cut])
def test_an_owner_that_has_shared_its_rows_may_be_lost_before_any_frame(tmp_path, harm, stride):
    assert check(tmp_path, "rows", harm, "west", stride) == {OWNERS}


@pytest.mark.parametrize("stride", ROUNDS)
@pytest.mark.parametrize("harm", [killed, cut])
@pytest.mark.parametrize("victim", ["compute1", pytest.param("compute3", marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", ["totals", "rows", pytest.param("estimate", marks=pytest.mark.long)])
def test_a_compute_server_that_is_lost_before_any_frame_ends_the_query(tmp_path, kind, harm, victim, stride):
    assert "party_lost" in check(tmp_path, kind, harm, victim, stride)


@pytest.mark.parametrize("stride", ROUNDS)
@pytest.mark.parametrize("kind", ["masking", "homomorphic", "totals", "rows", pytest.param("estimate", marks=pytest.mark.long)])
def test_a_coordinator_that_is_killed_before_any_frame_ends_the_query(tmp_path, kind, stride):
    assert check(tmp_path, kind, killed, "server", stride) == {"gateway_lost"}
