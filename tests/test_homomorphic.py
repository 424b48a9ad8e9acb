"""Encrypted totals of all owners: sums that are exact, keys that nobody chooses, smudged shares, and misbehaving parties."""

import os
from functools import reduce

import numpy as np
import pytest

import veilstat as vs
from tests.altered import flipped, only
from tests.homomorphic import CONTEXT, SIZE, Run, noise, refused, rewritten, scaled, width
from veilstat.architectures.homomorphic import sampling
from veilstat.architectures.homomorphic.messages import read_share
from veilstat.architectures.homomorphic.totals import mouchet21 as paper
from veilstat.protocol.faults import Fault, ProtocolError
from veilstat.testing.tables import small_schema, small_tables


@pytest.mark.parametrize("bits", [8, 31, 40, 59, 60, 61, 100, 128, 200])
def test_sums_are_those_of_the_integers(bits):
    run = Run(bits, smudging=64).steps(4)
    assert run.total() == run.sum_of(run.names)


@pytest.mark.parametrize(("bits", "smudging"), [(18, 40), (60, 64)])
def test_every_share_of_a_decryption_is_smudged_and_what_the_analyst_meets_is_as_predicted(bits, smudging):
    run = Run(bits, smudging=smudging).steps(2)
    secrets = {name: waiting.secret for name, waiting in run.waiting.items()}
    fresh = {name: read_share(run.scheme.ring, memoryview(run.sent[name, paper.REVEAL_KEY]), name) for name in run.names}
    run.step()
    its, ring, flooding = run.scheme, run.scheme.ring, run.scheme.parameters.flooding_bits
    shares, widest = run.shares(run.names), (1 << flooding) + its.parameters.fresh_noise(1)
    nothing = np.zeros(its.parameters.degree, dtype=object)
    common = ring.uniform(paper.common_label(CONTEXT))
    for name, secret in secrets.items():
        key_error = noise(its, np.stack([fresh[name], common]), secret, nothing)
        assert 5 < key_error <= sampling.ERROR_BOUND
        bare = ring.multiply(run.collecting.total[:, 1], secret)
        for part, product in zip(shares[name], bare, strict=True):
            assert 1 << (flooding - 1) < noise(its, part, run.analyst, ring.to_integers(product)) <= widest
    run.step()
    for ciphertext, message in zip(run.switched(), scaled(its, run.sum_of(run.names)), strict=True):
        assert 1 << flooding < noise(its, ciphertext, run.analyst, message) <= its.parameters.final_noise


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"threat": "active"}, "not_available"),
        ({"threat": "nice"}, "bad_configuration"),
        ({"entry": "cells"}, "bad_configuration"),
        ({"entry": "rows", "threshold": 2}, "bad_configuration"),
        ({"smudging_bits": 39}, "bad_configuration"),
        ({"smudging_bits": 64.0}, "bad_configuration"),
    ],
)
def test_configurations_that_cannot_hold_are_refused(options, code):
    with pytest.raises(vs.CapabilityError) as error:
        vs.Homomorphic(**options)
    assert error.value.code == code


def test_all_shares_but_one_decrypt_nothing():
    """The analyst and all owners but one, with the cloud: what is missing is as wide as the modulus."""
    run = Run(40, smudging=64).steps(3)
    its, ring, shares = run.scheme, run.scheme.ring, run.shares(run.names)
    for missing in run.names:
        partial = reduce(ring.add, (shares[name] for name in run.names if name != missing))
        partial[:, 0] = ring.add(partial[:, 0], run.collecting.total[:, 0])
        assert abs(width(ring, its.phase(partial[0], run.analyst)) - 1) < 0.1
        assert not set(its.decrypt_vector(partial, run.analyst, [run.low] * SIZE)) & set(run.sum_of(run.names))


def test_the_clouds_view_holds_no_result():
    """Everything that reaches the cloud, decrypted with the key of one owner, and with none, is wide noise."""
    run = Run(40, smudging=64).steps(4)
    its, ring = run.scheme, run.scheme.ring
    nobody = ring.from_integers(np.zeros(its.parameters.degree, dtype=object))
    for secret in (nobody, ring.from_integers(its.secret(os.urandom))):
        assert its.decrypt_vector(run.switched(), secret, [run.low] * SIZE).tolist() != run.total()
        assert abs(width(ring, its.phase(run.switched()[0], secret)) - 1) < 0.1


def test_a_key_share_that_cancels_the_others_is_refused():
    """The rogue last share: with it, the last owner would alone hold the collective key."""
    run = Run().steps(1)
    ring = run.scheme.ring
    others = [read_share(ring, memoryview(run.sent[name, paper.REVEAL_KEY]), name) for name in ("o0", "o1")]
    own = read_share(ring, memoryview(run.sent["o2", paper.REVEAL_KEY]), "o2")
    rogue = ring.to_bytes(ring.add(own, ring.negate(reduce(ring.add, others))))
    refused(run, "o2", "had not committed", change=lambda sender, payload: rogue if sender == "o2" else payload)


def test_a_cloud_that_passes_on_another_key_share_is_named():
    run = Run().steps(1)
    forge = rewritten(run.scheme.ring.element_bytes, lambda me, parts: {**parts, "o1": parts["o2"]})
    refused(run, "server", "not the one that it committed to", forge=forge)


def test_what_is_committed_and_signed_belongs_to_one_owner_session_and_set():
    share, members = b"share", {"a": b"1" * 32, "b": b"2" * 32}
    committed = {paper.commitment(context, owner, share) for context in (CONTEXT, bytes(32)) for owner in ("a", "b")}
    assert len(committed) == 4
    signed = {paper.commitment_statement(context, value) for context in (CONTEXT, bytes(32)) for value in committed}
    assert len(signed) == 8
    sets = (members, {"a": b"1" * 32}, {"a": b"2" * 32, "b": b"1" * 32})
    assert len({paper.input_statement(context, its, raw) for context in (CONTEXT, bytes(32)) for its in sets for raw in (b"x", b"y")}) == 12


@pytest.mark.parametrize("rounds", range(4))
def test_messages_of_the_wrong_length_name_their_sender(rounds):
    for change in (lambda payload: payload[:-1], lambda payload: payload + b"\0", lambda payload: b""):
        run = Run().steps(rounds)
        refused(run, "o1", "were agreed", change=only("o1", change))


@pytest.mark.parametrize(("rounds", "words"), [(0, "without its signature"), (1, "had not committed"), (2, "did not sign")])
@pytest.mark.parametrize("place", [0, -1])
def test_altered_messages_name_their_sender(rounds, words, place):
    run = Run().steps(rounds)
    refused(run, "o1", words, change=only("o1", lambda payload: flipped(payload, place)))


def test_numbers_outside_the_ring_name_their_sender():
    run = Run().steps(3)
    refused(run, "o1", "outside the ciphertexts' ring", change=only("o1", lambda payload: b"\xff" * len(payload)))


@pytest.mark.parametrize(("rounds", "words"), [(0, "is not signed by"), (1, "not the one that"), (2, "are not signed by")])
def test_a_cloud_that_alters_what_it_passes_on_is_named(rounds, words):
    run = Run().steps(rounds)
    refused(run, "server", words, forge=lambda recipient, payload: flipped(payload))


def sizes(run):
    parameters = run.scheme.parameters
    return [paper.COMMITMENT_BYTES, parameters.share_bytes, parameters.vector_bytes + 64]


@pytest.mark.parametrize("rounds", range(3))
def test_owners_refuse_sets_without_them_or_below_the_threshold_or_with_strangers(rounds):
    for change in (
        lambda me, parts: {name: raw for name, raw in parts.items() if name != me},
        lambda me, parts: {me: parts[me]},
        lambda me, parts: {**parts, "zed": parts[me]},
        lambda me, parts: {},
    ):
        run = Run().steps(rounds)
        refused(run, "server", "owner 'o", forge=rewritten(sizes(run)[rounds], change))


def test_the_upload_of_one_owner_alone_is_never_decrypted():
    """A cloud that repeats one owner's ciphertexts in the place of the others', or names that owner only."""
    for change in (lambda me, parts: dict.fromkeys(parts, parts["o1"]), lambda me, parts: {"o1": parts["o1"]}):
        run = Run().steps(2)
        refused(run, "server", "not signed by|was fixed", forge=rewritten(sizes(run)[2], change))
        assert not any(round_name == paper.DECRYPT for _, round_name in run.sent)


def test_ciphertexts_of_another_session_are_refused():
    other = Run().steps(2)
    run = Run().steps(2)
    refused(run, "o1", "did not sign", change=only("o1", lambda payload: other.sent["o1", paper.INPUT]))


def test_owners_that_were_shown_different_sets_do_not_decrypt():
    run = Run().steps(1)
    fewer_for_o0 = rewritten(sizes(run)[1], lambda me, parts: {name: raw for name, raw in parts.items() if me != "o0" or name != "o2"})
    run.step(forge=fewer_for_o0)
    refused(run, "o0", "did not sign")


def test_the_owner_that_is_lost_before_the_set_is_fixed_is_left_out():
    run = Run().steps(1).step(lost=("o2",)).steps(2)
    assert run.total() == run.sum_of(("o0", "o1"))


def losing_owner2(round_name):
    """owner2 is lost in a round of the first query, and does not approve the second."""
    faults = [vs.testing.Dropout("owner2", round_name), vs.testing.Dropout("owner2", "approve", after=1)]
    study = vs.simulate(small_tables(), small_schema(), "homomorphic", faults=faults)
    with pytest.raises(vs.QuorumLost, match="missing: owner2"):
        study.mean("bp")
    assert not study.observed["analyst"].opened
    return study


def test_an_owner_that_is_lost_before_any_decryption_ends_the_query_and_it_runs_again_without_it():
    assert losing_owner2("input").mean("bp").contributors == ("owner1", "owner3", "owner4", "owner5")


def test_once_shares_of_a_decryption_were_sent_the_same_sum_is_not_decrypted_without_the_lost_owner():
    with pytest.raises(vs.PolicyDenied, match="the difference would be the data of owner2"):
        losing_owner2("decrypt").mean("bp")


def test_a_session_decrypts_once():
    run = Run().steps(3)
    assert all(waiting is None for waiting in run.waiting.values())


def test_keys_and_ciphertexts_are_fresh_in_every_session():
    first, second = Run().steps(4), Run().steps(4)
    for key, payload in first.sent.items():
        assert payload != second.sent[key], key
    assert first.total() == second.total()


def test_an_owner_may_refuse_the_set_before_it_helps_to_decrypt():
    def never(members):
        assert members == ("o0", "o1", "o2")
        raise ProtocolError(Fault("PolicyDenied", "no", "no", ()))

    run = Run(authorise=never).steps(2)
    with pytest.raises(ProtocolError, match="no"):
        run.step()
    assert not any(round_name == paper.DECRYPT for _, round_name in run.sent)


def test_the_cloud_is_no_recipient_and_the_plan_says_what_protects():
    study = vs.simulate(small_tables(), small_schema(), vs.Homomorphic(colluding=2))
    plan = study.plan(vs.Mean("bp"))
    assert plan.trust.recipients == ("analyst",)
    assert plan.trust.threshold == 4
    text = " ".join(str(plan).split())
    assert "nobody holds it whole" in text
    assert "128-bit security" in text
    assert "64 bits more than hides noise" in text
