"""A coordinator that deviates while compute servers hold the shares: whatever it does to frames, no wrong answer and nobody's own totals come of it."""

import pandas as pd
import pytest

import veilstat as vs
from tests.deployments import OWNERS, TABLES, Deployment
from tests.wires import Wires
from veilstat.architectures.sharing.messages import RESULT, SHARE, Part, result_label, share_label
from veilstat.arithmetic.agreement import KeyPair, unseal_with
from veilstat.platform.messages import Approval, encode
from veilstat.protocol.codec import decode
from veilstat.protocol.faults import Fault
from veilstat.protocol.session import ABORT, encode_fault

KINDS = {
    "totals": 'open = "moments"\ncolluding = 0',
    "estimate": 'open = "estimate"\ncolluding = 0',
    "rows": 'entry = "rows"\nopen = "moments"\ncolluding = 0',
}


@pytest.fixture
def wires(tmp_path):
    return Wires(Deployment(tmp_path, "sharing", KINDS["totals"]))


def flipped(frame):
    return frame[:-1] + bytes((frame[-1] ^ 1,))


def asked(wires, query):
    """Who is in the answer, which is right for them, or the code of the error."""
    try:
        result = wires.ask(query)
    except vs.VeilstatError as error:
        return error.code
    pooled = pd.concat([TABLES[name] for name in wires.contributors])
    assert (result.estimate, result.n) == (pytest.approx(pooled[query.column].mean(), rel=1e-14), len(pooled))
    return wires.contributors


class Attack:
    """What a head does to the frame at one place of those that it passes on; it has all frames of an earlier query."""

    def __init__(self, wires, earlier):
        self.wires, self.earlier, self.seen, self.place = wires, earlier, [], -1
        wires.carry = self.carry

    def carry(self, origin, target, envelope):
        if origin != "server":
            return [envelope.frame]
        self.seen.append((target, envelope))
        return self.act(target, envelope) if len(self.seen) == self.place + 1 else [envelope.frame]

    def act(self, target, envelope):
        return [envelope.frame]


class Drops(Attack):
    def act(self, target, envelope):
        return []


class Delays(Attack):
    """Until somebody has waited in vain."""

    def act(self, target, envelope):
        self.wires.late.append(("server", target, envelope.frame))
        return []


class Repeats(Attack):
    """With all that was said to anybody before."""

    def act(self, target, envelope):
        return [envelope.frame, *(its.frame for _, its in self.seen)]


class Alters(Attack):
    def act(self, target, envelope):
        return [flipped(envelope.frame)]


class Misdelivers(Attack):
    """To everybody else."""

    def act(self, target, envelope):
        for name in self.wires.parties:
            if name != target:
                self.wires.deliver("server", name, envelope.frame)
        return []


class Replays(Attack):
    """What stood in this place in an earlier query, before it or in its stead."""

    def act(self, target, envelope):
        return [its.frame for name, its in self.earlier if name == target and its.round == envelope.round]


class Aborts(Attack):
    """Tells the recipient that the query is over."""

    def act(self, target, envelope):
        return [*self.wires.sign(envelope, ABORT, encode_fault(Fault("QuorumLost", "quorum_lost", "it is over"))), envelope.frame]


ATTACKS = [Drops, Delays, Repeats, Alters, Misdelivers, Replays, Aborts]
REFUSED = {"quorum_lost", "no_answer", "altered", "misdirected", "party_lost"}
MOST_WAITS = 3


@pytest.mark.parametrize("stride", [pytest.param(13, id="some"), pytest.param(1, id="every", marks=pytest.mark.long)])
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("kind", ["totals", "rows", pytest.param("estimate", marks=pytest.mark.long)])
def test_whatever_is_done_to_a_frame_the_answer_is_right_or_refused_and_the_next_query_works(tmp_path, kind, attack, stride):
    deployment = Deployment(tmp_path, "sharing", KINDS[kind])
    if kind == "rows":
        Wires(deployment).share_rows()
    undisturbed = Attack(Wires(deployment), [])
    assert asked(undisturbed.wires, vs.Mean("bp")) == OWNERS
    for place in range(0, len(undisturbed.seen), stride):
        for path in tmp_path.glob("compute*.openings"):
            path.unlink()
        its = attack(Wires(deployment), undisturbed.seen)
        its.place = place
        outcome = asked(its.wires, vs.Mean("age"))
        assert its.wires.expired <= MOST_WAITS, place
        its.place = -1
        following = asked(its.wires, vs.Mean("age"))
        is_partial = isinstance(outcome, tuple) and outcome != OWNERS
        assert isinstance(outcome, tuple) or outcome in REFUSED, place
        assert following == ("isolating_difference" if is_partial else OWNERS), place


def approvals(wires, *names):
    """The head's own word on who agreed."""
    return lambda origin, target, its: (
        wires.sign(its, "approve", encode(Approval(list(names)))) if (target, its.round) == ("analyst", "approve") else [its.frame]
    )


def test_owners_that_a_head_leaves_out_are_not_in_the_answer_which_says_so_and_does_not_isolate_them(wires):
    wires.carry = approvals(wires, "north", "west")
    assert asked(wires, vs.Mean("bp")) == ("north", "west")
    wires.carry = lambda origin, target, its: [its.frame]
    assert asked(wires, vs.Mean("bp")) == "isolating_difference"
    assert all("isolating_difference" in wires.codes(name) for name in wires.definition.servers) or "isolating_difference" in wires.codes(
        "analyst"
    )


@pytest.mark.parametrize(
    ("names", "code"), [(["north"], "bad_participants"), (["north", "east"], "bad_participants"), ([], "bad_participants")]
)
def test_nobody_computes_over_fewer_owners_than_the_threshold_or_over_others(wires, names, code):
    wires.carry = approvals(wires, *names)
    assert asked(wires, vs.Mean("bp")) == code


def test_owners_and_servers_that_are_asked_by_the_head_itself_answer_nothing(wires):
    """Not even with a key of its own to which the answer would be sealed."""

    def carry(origin, target, its):
        return wires.sign(its, its.round, its.payload) if origin == "server" and its.round in ("propose", "request") else [its.frame]

    wires.carry = carry
    assert asked(wires, vs.Mean("bp")) == "quorum_lost"
    assert all("unexpected_sender" in wires.codes(name) for name in OWNERS)


def test_what_a_head_sees_has_the_same_sizes_whatever_the_rows_are(tmp_path):
    sizes = []
    for name, scale in (("ones", 0), ("others", 1)):
        folder = tmp_path / name
        folder.mkdir()
        deployment = Deployment(folder, "sharing", KINDS["estimate"])
        for owner, rows in TABLES.items():
            (rows.assign(bp=rows["bp"] * scale + 40 * (1 - scale))).to_csv(folder / f"{owner}.csv", index=False)
        its = Attack(Wires(deployment), [])
        its.wires.ask(vs.Mean("bp"))
        sizes.append([(target, envelope.round, len(envelope.frame)) for target, envelope in its.seen])
    assert sizes[0] == sizes[1]


def test_the_key_of_the_coordinator_opens_no_share_and_no_part_of_an_answer(wires):
    sealed = []

    def carry(origin, target, its):
        if origin == "server" and its.round in (SHARE, RESULT):
            sealed.append((its, bytes(its.payload)))
        return [its.frame]

    wires.carry = carry
    assert asked(wires, vs.Mean("bp")) == OWNERS
    assert len(sealed) == 3 * 3 + 3
    own = KeyPair.from_secret(wires.identity.sealing_secret)
    servers = {
        name: KeyPair.from_secret(its.identity.sealing_secret) for name, its in wires.parties.items() if name in wires.definition.servers
    }
    for its, payload in sealed:
        if its.round == SHARE:
            label = share_label(its.sender, its.recipient)
            assert unseal_with(servers[its.recipient], its.step, label, payload) is not None
        else:
            payload, label = decode(payload, Part, its.sender, "a result").sealed, result_label(its.sender)
        assert unseal_with(own, its.step, label, payload) is None
