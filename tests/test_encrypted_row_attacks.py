"""Parties that misbehave in epochs and in queries over encrypted rows, and the honest ones that refuse."""

import msgspec
import numpy as np
import pytest

import veilstat as vs
from tests.altered import flipped, only
from tests.encrypted_rows import (
    NAMES,
    begin_epoch,
    begin_query,
    finished_query,
    make_epoch,
    released,
    tables,
    with_record,
    without,
)
from veilstat.architectures.homomorphic.messages import decode_parts, encode_parts
from veilstat.architectures.homomorphic.rows import epoch as epoch_rounds
from veilstat.architectures.homomorphic.rows.epoch import COMMIT, REVEAL, Commitment
from veilstat.architectures.homomorphic.rows.query import DECRYPT, REVEAL_ZERO
from veilstat.architectures.homomorphic.rows.query_owner import DecryptingOwner
from veilstat.arithmetic.agreement import unseal_with
from veilstat.protocol.faults import Fault, ProtocolError

QUERY = vs.Mean("x")
UPLOAD = f"{epoch_rounds.UPLOAD}/0"
"""The whole is one piece."""


def refused(run, code, culprit, **step):
    with pytest.raises(ProtocolError) as error:
        run.step(**step)
    assert error.value.fault.code == code
    assert error.value.fault.culprits == (culprit,)


def expected():
    x = np.concatenate([frame["x"].to_numpy() for frame in tables().values()])
    return {len(x), int(x.sum()), int((x * x).sum())}


def test_honest_parties_open_what_the_plan_says(parties, epoch):
    assert expected() == set(released(parties, finished_query(begin_query(parties, epoch, QUERY))))


def test_shares_that_the_cloud_swapped_or_made_itself_are_refused(parties, epoch):
    run = begin_query(parties, epoch, QUERY)
    run.step().step()
    mine, other = run.sent["o0", DECRYPT], run.sent["o1", DECRYPT]
    run.step(change=lambda sender, payload: {"o0": other, "o1": mine}.get(sender, payload))
    with pytest.raises(ProtocolError, match="not signed by it"):
        released(parties, run)


def test_a_share_that_was_not_sealed_to_the_analyst_is_refused(parties, epoch):
    run = begin_query(parties, epoch, QUERY)
    run.step().step()
    box = flipped(run.sent["o0", DECRYPT][:-64])
    signed = box + parties.identities["o0"].sign(run.query.share_statement(box))
    run.step(change=only("o0", lambda payload: signed))
    with pytest.raises(ProtocolError, match="not sealed to the analyst"):
        released(parties, run)


def test_a_cloud_that_moves_an_answer_is_found_out(parties, epoch):
    run = begin_query(parties, epoch, QUERY)
    run.step().step()
    run.collecting.known[0] += 7
    run.step()
    with pytest.raises(ProtocolError, match="different parts of the answers") as error:
        released(parties, run)
    assert "server" in error.value.fault.culprits


# the key of an epoch


def test_a_key_share_that_was_not_committed_is_refused_by_the_cloud_and_by_owners(parties):
    """The rogue key: the last owner waits for the others' shares and cancels them with its own."""
    refused(begin_epoch(parties).step(), "bad_share", "o2", change=only("o2", flipped))
    run = begin_epoch(parties).step()
    with pytest.raises(ProtocolError, match="not committed"):
        run.step(forge=only("o0", flipped))


def test_a_commitment_in_anothers_name_is_refused(parties):
    run = begin_epoch(parties)
    other = run.sent["o1", COMMIT]
    refused(run, "bad_commitment", "o0", change=only("o0", lambda payload: other))


def test_commitments_of_fewer_owners_are_refused(parties):
    run = begin_epoch(parties)
    with pytest.raises(ProtocolError) as error:
        run.step(forge=only("o0", lambda payload: _without_owner(payload, "o2")))
    assert (error.value.fault.code, error.value.fault.culprits) == ("bad_participants", ("server",))


def _without_owner(payload, name):
    parts = msgspec.msgpack.decode(payload)
    del parts[name]
    return msgspec.msgpack.encode(parts)


@pytest.mark.parametrize(
    ("changed", "code"), [(flipped, "bad_input"), (lambda raw: raw[:-6], "malformed"), (lambda raw: flipped(raw, 9), "bad_input")]
)
def test_corrupted_and_truncated_uploads_are_refused(parties, changed, code):
    refused(begin_epoch(parties).step().step(), code, "o1", change=only("o1", changed))


def test_uploads_that_the_cloud_changed_are_refused_by_owners(parties):
    run = begin_epoch(parties).step().step()
    other = run.sent["o2", UPLOAD]
    with pytest.raises(ProtocolError, match="did not sign"):
        run.step(forge=only("o0", lambda payload: payload.replace(other[-5000:], flipped(other[-5000:]))))


def test_an_owner_that_keeps_something_else_than_the_others_ends_the_epoch(parties):
    refused(begin_epoch(parties).step().step().step(), "epoch_differs", "o1", change=only("o1", flipped))


def test_what_the_cloud_forwards_has_the_length_that_was_agreed(parties):
    for rounds in (1, 2):
        for changed in (lambda payload: payload[:-1], lambda payload: payload + b"x"):
            run = begin_epoch(parties)
            for _ in range(rounds):
                run.step()
            refused(run, "malformed", "server", forge=only("o0", changed))


def test_an_upload_for_another_key_is_refused(parties):
    first, second = begin_epoch(parties).step().step(), begin_epoch(parties).step().step()
    replayed = first.sent["o1", UPLOAD]
    refused(second, "bad_input", "o1", change=only("o1", lambda payload: replayed))


def test_numbers_outside_the_ring_are_refused(parties):
    run = begin_epoch(parties).step()
    owner = run.waiting["o1"].owner
    terms = owner.terms
    raw = bytearray(run.sent["o1", REVEAL])
    raw[:6] = b"\xff" * 6
    commitment = run.waiting["o1"].agreed.commitments
    changed = type(commitment["o1"])(terms.committed("o1", bytes(raw)), 16, commitment["o1"].incomplete, b"")
    run.collecting.agreed.commitments["o1"] = changed
    refused(run, "malformed", "o1", change=only("o1", lambda payload: bytes(raw)))


# decryption


def test_the_same_circuit_decrypted_again_is_not_the_same_ciphertext(parties, epoch):
    """What the key is multiplied with differs from query to query, so shares cannot be averaged."""
    first, second = (finished_query(begin_query(parties, epoch, QUERY)) for _ in range(2))
    assert released(parties, first) == released(parties, second)
    halves = [b"".join(run.sent[name, REVEAL_ZERO] for name in NAMES) for run in (first, second)]
    assert halves[0] != halves[1]
    totals = [
        parties.rows.evaluation(epoch["o0"]).totals(run.query.answers(parties.rows.evaluation(epoch["o0"]))) for run in (first, second)
    ]
    assert all(np.array_equal(totals[0][pair], totals[1][pair]) for pair in totals[0])


def test_an_encryption_of_zero_that_was_not_committed_is_refused(parties, epoch):
    """Else the last owner would cancel the others', and the same numbers would be decrypted twice."""
    refused(begin_query(parties, epoch, QUERY).step(), "bad_zero", "o2", change=only("o2", flipped))
    with pytest.raises(ProtocolError, match="not committed"):
        begin_query(parties, epoch, QUERY).step().step(forge=only("o0", flipped))


def test_a_commitment_of_another_query_is_refused(parties, epoch):
    first, second = begin_query(parties, epoch, QUERY), begin_query(parties, epoch, QUERY)
    replayed = first.sent["o1", "commit_zero"]
    refused(second, "bad_commitment", "o1", change=only("o1", lambda payload: replayed))


def test_parties_of_different_epochs_do_not_decrypt_for_each_other(parties, epoch):
    other = make_epoch(parties)
    refused(begin_query(parties, {**epoch, "o1": other["o1"]}, QUERY), "epoch_differs", "o1")


def test_a_cloud_that_computes_on_one_owners_upload_alone_is_refused(parties, epoch):
    """Every owner computes the approved circuit over all uploads itself, and the digests differ."""
    record = epoch["server"].record
    alone = without(record, uploads={"o1": record.uploads["o1"]})
    run = begin_query(parties, {**epoch, "server": with_record(epoch["server"], alone)}, QUERY).step()
    refused(run, "bad_history", "server")


def test_a_cloud_that_lies_about_its_results_gets_no_share(parties, epoch):
    run = begin_query(parties, epoch, QUERY).step()
    refused(run, "bad_history", "server", forge=only("o0", lambda payload: flipped(payload, 0)))


def test_owners_ask_their_own_rules_before_any_share_exists(parties, epoch):
    def authorise(members):
        assert members == NAMES
        raise ProtocolError(Fault("PolicyDenied", "own_rules", "refused by its own rules"))

    run = begin_query(parties, epoch, QUERY, authorise=authorise).step()
    with pytest.raises(ProtocolError):
        run.step()
    assert not any(sent == DECRYPT for _, sent in run.sent)


def test_zeros_of_fewer_owners_are_refused(parties, epoch):
    run = begin_query(parties, epoch, QUERY).step()
    fewer = encode_parts({name: run.sent[name, REVEAL_ZERO] for name in NAMES[:2]})
    refused(run, "bad_participants", "server", forge=only("o0", lambda payload: payload[:32] + fewer))


def test_all_owners_but_one_decrypt_noise(parties, epoch):
    """Without one share what the analyst adds up is as wide as the modulus."""
    run = finished_query(begin_query(parties, epoch, QUERY))
    scheme, query = parties.rows.scheme, run.query
    raw = memoryview(bytes(run.told[-1].payload))
    body = raw[4 + int.from_bytes(raw[:4], "little") :]
    shares = decode_parts(body[query.answers_bytes :], query.share_bytes, "server")
    known = query.decode(body[: query.answers_bytes])
    opened = {
        name: query.decode(unseal_with(parties.analyst, query.context, query.label(name), bytes(box[:-64]))[32:])
        for name, box in shares.items()
    }
    for missing in NAMES:
        phases = [sum(parts) for parts in zip(known, *(opened[name] for name in NAMES if name != missing), strict=True)]
        modulus = scheme.ring.modulus
        assert max(min(phase % modulus, -phase % modulus) for phase in phases).bit_length() > modulus.bit_length() - 8


def test_a_wrong_share_shifts_the_answer_unnoticed(parties, epoch, monkeypatch):
    """The limit that SECURITY.md states: shares carry no proof."""
    honest = DecryptingOwner._flooding
    monkeypatch.setattr(DecryptingOwner, "_flooding", lambda its: honest(its) + 7 * (its.identity.name == "o1"))
    shifted = released(parties, finished_query(begin_query(parties, epoch, QUERY)))
    assert {number - 7 for number in shifted} == expected()


def test_smudging_is_as_wide_as_the_bound_says_and_a_multiple_of_the_plaintext_modulus(parties, epoch):
    run = begin_query(parties, epoch, QUERY)
    owner, parameters = run.waiting["o0"].owner, parties.rows.parameters
    drawn = [owner._flooding() for _ in range(400)]
    assert all(value % (1 << parameters.plaintext_bits) == 0 for value in drawn)
    scaled = [value >> parameters.plaintext_bits for value in drawn]
    assert all(-(1 << parameters.flooding_bits) <= value < 1 << parameters.flooding_bits for value in scaled)
    for ends in (min(scaled), max(scaled)):
        assert abs(ends).bit_length() == parameters.flooding_bits
    assert len(set(drawn)) == 400


def test_the_plan_knows_what_an_epoch_sends(parties):
    run = begin_epoch(parties).step().step()
    keys, ciphertexts = parties.rows.epoch_bytes(16, frozenset("y"))
    for name in NAMES:
        sent = {round_name: len(run.sent[name, round_name]) for round_name in (COMMIT, REVEAL, UPLOAD)}
        assert sent[REVEAL] + sent[UPLOAD] - 64 == keys + ciphertexts
        assert sent[COMMIT] < 200


def test_commitments_that_the_cloud_changed_are_refused_by_owners(parties):
    """Else it would choose the layout, or whose shares make the key."""

    def forged(payload):
        parts = msgspec.msgpack.decode(payload)
        parts["o1"][1] += 1
        return msgspec.msgpack.encode(parts)

    refused(begin_epoch(parties), "bad_commitment", "o1", forge=only("o0", forged))


def test_commitments_that_do_not_fit_the_schema_are_refused(parties):
    for rows, incomplete in ((17, []), (0, []), (16, ["z"]), (16, ["y", "x"])):
        run = begin_epoch(parties)
        owner = run.waiting["o1"].owner
        unsigned = Commitment(bytes(32), rows, incomplete, b"")
        signed = Commitment(bytes(32), rows, incomplete, owner.identity.sign(owner.terms.statement(unsigned)))
        refused(run, "bad_commitment", "o1", change=only("o1", lambda payload, signed=signed: msgspec.msgpack.encode(signed)))
