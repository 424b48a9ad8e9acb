"""A coordinator that deviates: what owners and analyst detect has a name, and what the curious masking variant cannot stop is what the documents say."""

import os

import numpy as np
import pandas as pd
import pytest

import veilstat as vs
from tests.altered import flipped
from tests.deployments import OWNERS, TABLES
from tests.deviating import Head
from veilstat.architectures.channels import channel_nonce
from veilstat.architectures.masking import bonawitz17 as paper
from veilstat.arithmetic import agreement, shamir
from veilstat.arithmetic.agreement import KeyPair
from veilstat.arithmetic.keystream import Keystream, fastest_mode
from veilstat.arithmetic.rings import Ring
from veilstat.platform.messages import StepRequest
from veilstat.protocol.codec import decode
from veilstat.protocol.envelope import Envelope, seal

POOLED = pd.concat(TABLES.values())
STEP = 0.5
TOTALS = {"present": 0, "rows": 0, "sum": 100, "squares": 0}
"""The totals of a mean, in their order, and what a test adds to them, in steps of the column."""


@pytest.fixture(params=["masking", "homomorphic"])
def head(tmp_path, request):
    return Head(tmp_path, request.param)


@pytest.fixture
def masking(tmp_path):
    return Head(tmp_path)


def test_a_head_that_follows_the_protocol_gets_an_answer(head):
    assert head.ask(vs.Mean("bp")).estimate == pytest.approx(POOLED["bp"].mean(), rel=1e-14)
    assert not any(head.codes(name) for name in OWNERS)


@pytest.mark.parametrize("round_name", ["propose", "request"])
def test_another_plan_or_other_public_inputs_than_the_analyst_signed_are_refused(head, round_name):
    head.carry = lambda recipient, its: [flipped(its.frame) if its.round == round_name else its.frame]
    with pytest.raises(vs.VeilstatError) as error:
        head.ask(vs.Mean("bp"))
    assert error.value.code == ("quorum_lost" if round_name == "propose" else "altered")
    assert all("altered" in head.codes(name) for name in OWNERS)
    assert not {"masked_input", "unmasking", "encrypt", "decrypt"} & set(head.rounds("north"))


def test_one_owner_that_is_shown_another_plan_takes_no_part_and_the_others_answer(masking):
    masking.carry = lambda recipient, its: [flipped(its.frame) if (recipient, its.round) == ("west", "propose") else its.frame]
    masking.ask(vs.Mean("bp"))
    assert masking.contributors == ("north", "south")
    assert "altered" in masking.codes("west")


def test_a_head_that_speaks_for_the_analyst_is_not_heard(head):
    head.carry = lambda recipient, its: head.sign(its, its.payload) if its.round == "propose" else [its.frame]
    with pytest.raises(vs.QuorumLost):
        head.ask(vs.Mean("bp"))
    assert all(head.codes(name) == {"unexpected_sender"} for name in OWNERS)


def test_rounds_of_an_old_query_are_refused_and_do_not_disturb_the_one_that_runs(head):
    head.ask(vs.Mean("bp"))
    old = list(head.carried)
    head.carry = lambda recipient, its: [*(frame for to, frame in old if to == recipient), its.frame]
    assert head.ask(vs.Mean("age")).estimate == pytest.approx(POOLED["age"].mean(), rel=1e-14)
    assert all(head.codes(name) == {"already_answered", "unknown_session"} for name in OWNERS)


def test_a_query_is_not_answered_again_by_agents_that_were_started_anew(head):
    head.ask(vs.Mean("bp"))
    said = len(head.said)
    head.agents = {name: head.wake(name) for name in OWNERS}
    for recipient, frame in list(head.carried):
        if recipient != "analyst":
            head.deliver(recipient, frame)
    assert len(head.said) == said
    assert all(head.codes(name) == {"already_answered", "unknown_session"} for name in OWNERS)


def test_an_owner_that_is_dropped_between_two_steps_ends_the_query(masking):
    def carry(recipient, its):
        is_later = masking.rounds("west").count("unmasking") > 0
        return [] if recipient == "west" and is_later else [its.frame]

    masking.carry = carry
    with pytest.raises(vs.QuorumLost) as error:
        masking.ask(vs.Quantile("bp"))
    assert (error.value.code, error.value.culprits) == ("owner_lost", ("west",))


def test_participants_of_a_step_are_the_analyst_s_words_and_a_set_of_the_head_s_own_is_refused(masking):
    carried = masking.carry

    def leave_out_the_reader(recipient, its):
        if its.round != paper.SHARE_KEYS or recipient != "west":
            return carried(recipient, its)
        keys = paper.decode_keys(its.payload, "server")
        return masking.sign(its, paper.encode_keys({name: keys[name] for name in ("north", "south")}))

    masking.carry = leave_out_the_reader
    with pytest.raises(vs.ProtocolViolation) as error:
        masking.ask(vs.Mean("bp"))
    assert (error.value.code, error.value.culprits) == ("bad_participants", ("server",))


@pytest.mark.parametrize(
    ("round_name", "names"),
    [(paper.UNMASKING, ["west"]), (paper.UNMASKING, ["south", "west"]), (paper.UNMASKING, ["east", "north", "south"])],
)
def test_survivors_that_cannot_be_are_refused(masking, round_name, names):
    def carry(recipient, its):
        return masking.sign(its, paper.encode_names(names)) if (recipient, its.round) == ("north", round_name) else [its.frame]

    masking.carry = carry
    with pytest.raises(vs.ProtocolViolation) as error:
        masking.ask(vs.Mean("bp"))
    assert (error.value.code, error.value.culprits) == ("bad_survivors", ("server",))
    assert paper.UNMASKING not in masking.rounds("north")


def test_owners_that_are_shown_different_participants_add_up_to_garbage(masking):
    def carry(recipient, its):
        if (recipient, its.round) == ("west", paper.UNMASKING):
            return masking.sign(its, paper.encode_names(["south", "west"]))
        if (recipient, its.round) != ("west", paper.MASKED_INPUT):
            return [its.frame]
        records = paper.decode_records(its.payload, "server")
        return masking.sign(its, paper.encode_records({"south": bytes(records["south"])}))

    def hear(frame):
        # What west reveals, of two owners instead of three, would give the head away to its own honest part.
        its = Envelope.decode(frame)
        if (its.sender, its.round) != ("west", paper.UNMASKING):
            masking.coordinator.receive(frame)

    masking.carry, masking.hear = carry, hear
    with pytest.raises(vs.ProtocolViolation) as error:
        masking.ask(vs.Mean("bp"))
    assert error.value.code == "impossible_total"


def test_no_owner_unmasks_for_two_sets_of_survivors(masking):
    """The second request, over another set, is answered by nobody; so three owners never reveal both secrets of one of them."""

    def carry(recipient, its):
        if its.round != paper.UNMASKING:
            return [its.frame]
        others = [name for name in OWNERS if name != ("south" if recipient == "west" else "west")]
        return [its.frame, *masking.sign(its, paper.encode_names(others)), its.frame]

    masking.carry = carry
    masking.ask(vs.Mean("bp"))
    assert masking.contributors == OWNERS
    assert [masking.rounds(name).count(paper.UNMASKING) for name in OWNERS] == [1, 1, 1]


def test_owners_that_are_told_of_two_sets_of_survivors_give_no_answer(masking):
    def carry(recipient, its):
        return (
            masking.sign(its, paper.encode_names(["north", "south"]))
            if (recipient, its.round) == ("north", paper.UNMASKING)
            else [its.frame]
        )

    masking.carry = carry
    with pytest.raises(vs.VeilstatError) as error:
        masking.ask(vs.Mean("bp"))
    assert error.value.code in ("wrong_share", "wrong_dealing")
    masking.carry = lambda recipient, its: [its.frame]
    with pytest.raises(vs.PolicyDenied) as error:
        masking.ask(vs.Mean("bp"))
    assert error.value.code == "isolating_difference"


def test_an_answer_of_another_study_or_query_is_not_taken_for_this_one(tmp_path):
    heads = []
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
        heads.append(Head(tmp_path / name))
    mine, theirs = heads
    theirs.ask(vs.Mean("bp"))
    mine.ask(vs.Mean("bp"))
    stale = [frame for its in heads for recipient, frame in its.carried if recipient == "analyst"]
    mine.carry = lambda recipient, its: stale if recipient == "analyst" else [its.frame]
    with pytest.raises(vs.VeilstatError) as error:
        mine.ask(vs.Mean("age"))
    assert error.value.code == "no_answer"
    assert {fault.code for fault in mine.analyst.rejected} == {"bad_signature", "unknown_session"}


def test_a_relay_that_alters_what_its_owner_says_ends_the_query_and_is_named(head):
    def hear(frame):
        sender = Envelope.decode(frame).sender
        head.coordinator.receive(flipped(frame) if sender == "west" else frame, sender)

    head.hear = hear
    with pytest.raises(vs.ProtocolViolation) as error:
        head.ask(vs.Mean("bp"))
    assert (error.value.code, error.value.culprits) == ("altered", ("west",))


def test_a_relay_that_repeats_everything_changes_nothing(head):
    def hear(frame):
        for again in (frame, *(old for old in head.said if Envelope.decode(old).sender == "west")):
            head.coordinator.receive(again, "west")

    head.hear, head.carry = hear, lambda recipient, its: [its.frame, its.frame]
    assert head.ask(vs.Mean("bp")).estimate == pytest.approx(POOLED["bp"].mean(), rel=1e-14)


@pytest.mark.parametrize(
    ("change", "code"), [(flipped, "altered"), (lambda frame: frame[:50], "no_answer"), (lambda frame: b"", "no_answer")]
)
def test_a_gateway_that_alters_or_cuts_what_the_analyst_is_told_ends_the_query(head, change, code):
    head.carry = lambda recipient, its: [change(its.frame) if recipient == "analyst" else its.frame]
    with pytest.raises(vs.VeilstatError) as error:
        head.ask(vs.Mean("bp"))
    assert error.value.code == code


def test_a_gateway_that_keeps_the_answer_back_ends_the_query(head):
    head.carry = lambda recipient, its: [] if recipient == "analyst" and its.round != "approve" else [its.frame]
    with pytest.raises(vs.QuorumLost):
        head.ask(vs.Mean("bp"))


def test_a_claim_about_who_contributed_that_does_not_fit_the_pads_is_no_total(masking):
    def carry(recipient, its):
        if its.round != paper.RESULT:
            return [its.frame]
        channels, label, total = paper.decode_result(its.payload, "server")
        return masking.sign(its, paper.encode_result({name: channels[name] for name in ("north", "south")}, label, total))

    masking.carry = carry
    with pytest.raises(vs.ProtocolViolation) as error:
        masking.ask(vs.Mean("bp"))
    assert error.value.code == "impossible_total"


def test_not_defended_the_head_moves_the_total_by_what_it_likes(masking):
    """SECURITY.md, Masking, Not defended: a total within the agreed bounds is taken for one."""

    def carry(recipient, its):
        if its.round != paper.RESULT:
            return [its.frame]
        channels, label, total = paper.decode_result(its.payload, "server")
        moved = np.frombuffer(total, "<u4") + np.array([TOTALS[name] for name in TOTALS], "<u4")
        return masking.sign(its, paper.encode_result(channels, label, memoryview(moved.tobytes())))

    masking.carry = carry
    result = masking.ask(vs.Mean("bp"))
    assert result.estimate - POOLED["bp"].mean() == pytest.approx(100 * STEP / len(POOLED))


class KeysOfItsOwn:
    """Gives north other keys than those of south and west, plays these two from then on, and answers the analyst itself."""

    def __init__(self, head):
        self.head, self.padded = head, None
        self.played = {name: (KeyPair.generate(os.urandom), KeyPair.generate(os.urandom)) for name in OWNERS[1:]}
        head.carry, head.hear = self.carry, self.hear

    def carry(self, recipient, its):
        if its.round == "request":
            self.pad_key = decode(its.payload, StepRequest, "analyst").key
        if its.round != paper.SHARE_KEYS:
            return [its.frame]
        if recipient != "north":
            return []
        self.north = paper.decode_keys(its.payload, "server")["north"]
        false = {name: paper.PublicKeys(channel.public, mask.public) for name, (channel, mask) in self.played.items()}
        return self.head.sign(its, paper.encode_keys({"north": self.north, **false}))

    def hear(self, frame):
        its = Envelope.decode(frame)
        match its.round:
            case paper.SHARE_KEYS:
                self.say(its, paper.MASKED_INPUT, "north", self.records(its))
            case paper.MASKED_INPUT:
                self.unmask(its)
                self.say(its, paper.UNMASKING, "north", paper.encode_names(OWNERS))
            case paper.UNMASKING:
                self.say(its, paper.RESULT, "analyst", self.result)
            case _:
                self.head.coordinator.receive(frame)

    def say(self, its, round_name, recipient, payload):
        for frame in seal(self.head.identity, its.root, its.step, round_name, recipient, payload):
            self.head.deliver(recipient, frame)

    def records(self, its):
        """Opens what north dealt to those that the head plays, and deals north shares of nothing."""
        shares, records = [], {}
        for place, (peer, (channel, _)) in enumerate(self.played.items()):
            key = paper.channel_key(channel.exchange(self.north.channel), its.step)
            start = paper.COMMITMENT_BYTES + place * paper.SEALED_BYTES
            box = bytes(its.payload[start : start + paper.SEALED_BYTES])
            shares.append(np.frombuffer(agreement.unseal(key, channel_nonce("north", peer), box, its.step), "<u4"))
            halves = (bytes(shamir.SHARE_BYTES), bytes(shamir.SHARE_BYTES))
            sealed = agreement.seal(key, channel_nonce(peer, "north"), b"".join(halves), its.step)
            records[peer] = sealed + paper.share_digests(halves, its.step, peer, "north")
        self.secret, key = shamir.reconstruct([2, 3], np.stack(shares).reshape(2, 2, shamir.LIMBS))
        assert KeyPair.from_secret(key).public == self.north.mask
        return paper.encode_records(records)

    def unmask(self, its):
        """North's totals under the pad alone, and what the analyst takes for the total of all."""
        ring = Ring(8 * len(its.payload) // len(TOTALS))
        label = paper.mask_context(its.step, OWNERS)
        total, stream = ring.from_bytes(its.payload).copy(), Keystream(ring, fastest_mode())
        stream.subtract(total, paper.self_seed(self.secret, label))
        for _, mask in self.played.values():
            stream.add(total, paper.pair_seed(mask.exchange(self.north.mask), label))
        self.padded = [int(value) for value in total]
        for channel, _ in self.played.values():
            stream.add(total, paper.pad_seed(channel.exchange(self.pad_key), label))
        channels = {"north": self.north.channel, **{name: channel.public for name, (channel, _) in self.played.items()}}
        self.result = paper.encode_result(channels, label, memoryview(ring.to_bytes(total)))


def test_not_defended_with_keys_of_its_own_the_head_makes_one_owner_s_totals_the_answer_but_cannot_read_them_itself(masking):
    """SECURITY.md, Masking, Not defended: masks and seeds fall, the pad between owner and analyst does not."""
    attack = KeysOfItsOwn(masking)
    result = masking.ask(vs.Mean("bp"))
    assert (result.estimate, result.n) == (pytest.approx(TABLES["north"]["bp"].mean(), rel=1e-14), len(TABLES["north"]))
    assert masking.contributors == OWNERS
    assert len(TABLES["north"]) not in attack.padded
