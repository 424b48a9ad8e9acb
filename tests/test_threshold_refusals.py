"""Any t of n owners decrypt: what owners and the cloud alter, repeat, leave out or add is refused, by name, before a share is made."""

from os import urandom

import pytest

import veilstat as vs
from tests.altered import flipped, only
from tests.homomorphic import CONTEXT, FIVE, dealing, refused, rewritten
from veilstat.architectures.homomorphic.messages import encode_parts
from veilstat.architectures.homomorphic.totals import mouchet22
from veilstat.protocol.faults import ProtocolError
from veilstat.testing.tables import small_schema, small_tables

COMMIT, REVEAL, INPUT, READY, AGREE = range(5)


REFUSALS = {
    COMMIT: "without its signature",
    REVEAL: "had not committed",
    INPUT: "did not sign",
    READY: "another sum",
    AGREE: "did not sign the set",
}


@pytest.mark.parametrize(("rounds", "words"), list(REFUSALS.items()))
@pytest.mark.parametrize("repeated", [False, True])
def test_what_owners_alter_or_repeat_from_another_session_names_them(rounds, words, repeated):
    other, run = dealing(rounds), dealing(rounds)
    name = run.collecting.name
    refused(run, "o1", words, change=only("o1", lambda payload: other.sent["o1", name] if repeated else flipped(payload, 0)))


@pytest.mark.parametrize("rounds", range(6))
def test_messages_of_the_wrong_length_name_their_sender(rounds):
    for change in (lambda payload: payload[:-1], lambda payload: payload + b"\0", lambda payload: b""):
        run = dealing(rounds)
        refused(run, "o1", "were agreed", change=only("o1", change))


def test_a_dealt_share_that_cannot_be_opened_names_who_may_have_altered_it():
    run = dealing(REVEAL)
    with pytest.raises(ProtocolError, match="cannot be opened") as error:
        run.step(change=only("o1", flipped))
    assert error.value.fault.culprits == ("o1", "server")


def test_boxes_are_bound_to_session_dealer_and_holder():
    pairs = {name: mouchet22.agreement.KeyPair.generate(urandom) for name in ("a", "b")}
    box = memoryview(mouchet22.seal(pairs["a"], pairs["b"].public, CONTEXT, "a", "b", b"share"))

    def opened(holder, peer, context, dealer, reader):
        return mouchet22.unseal(pairs[holder], pairs[peer].public, context, dealer, reader, box)

    assert opened("b", "a", CONTEXT, "a", "b") == b"share"
    assert opened("b", "a", bytes(32), "a", "b") is None
    assert opened("a", "b", CONTEXT, "b", "a") is None


def named(names):
    return encode_parts(dict.fromkeys(names, b""))


@pytest.mark.parametrize("names", [FIVE[:2], FIVE[:4], ("o0", "o1", "zed"), ()])
def test_owners_sign_no_set_but_of_exactly_t_who_encrypted(names):
    run = dealing(READY)
    refused(run, "server", "were named to decrypt", forge=lambda recipient, payload: named(names))
    assert not any(round_name == "decrypt" for _, round_name in run.sent)


def test_a_cloud_that_proposes_different_sets_gets_no_share():
    run = dealing(READY)
    run.step(forge=lambda recipient, payload: named(FIVE[1:4]) if recipient == "o1" else payload)
    refused(run, "o1", "did not sign the set")


@pytest.mark.parametrize("change", [lambda me, parts: dict(list(parts.items())[:2]), lambda me, parts: {**parts, "o1": parts["o0"]}])
def test_no_share_is_made_before_all_of_the_set_have_signed_it(change):
    run = dealing(AGREE)
    refused(run, "server", "not all who are to decrypt", forge=rewritten(64, change))
    assert not any(round_name == "decrypt" for _, round_name in run.sent)


@pytest.mark.parametrize("rounds", [COMMIT, REVEAL, INPUT])
def test_owners_refuse_sets_without_them_or_below_the_threshold_or_with_strangers(rounds):
    for change in (
        lambda me, parts: dict(list(parts.items())[:1]),
        lambda me, parts: {**parts, "zed": next(iter(parts.values()))},
        lambda me, parts: {},
    ):
        run = dealing(rounds)
        share = run.scheme.parameters.share_bytes
        size = [mouchet22.COMMITMENT_BYTES, 2 * share + 16, run.scheme.parameters.vector_bytes + 64][rounds]
        refused(run, "server", "owner 'o", forge=rewritten(size, change))


@pytest.mark.parametrize(("colluding", "threshold"), [(1, 2), (2, 3), (1, 6), (1, 0), (1, 3.0), (1, True)])
def test_thresholds_that_leave_fewer_than_two_honest_owners_or_that_nobody_reaches_are_refused(colluding, threshold):
    words = rf"of 5 data owners is not possible: a whole number from .* = {colluding + 2}, .* to 5"
    with pytest.raises(vs.CapabilityError, match=words) as error:
        vs.simulate(small_tables(), small_schema(), vs.Homomorphic(colluding=colluding, threshold=threshold))
    assert error.value.code == "threshold_unreachable"
