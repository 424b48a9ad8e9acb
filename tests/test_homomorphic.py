"""Threshold homomorphic encryption: keys that nobody chooses, sums that are exact, noise as predicted, and misbehaving parties."""

import os
from dataclasses import replace
from functools import reduce

import numpy as np
import pytest

import veilstat as vs
from tests.homomorphic import CONTEXT, SIZE, Run, flipped, noise, refused
from veilstat.architectures.homomorphic import ring as rings
from veilstat.architectures.homomorphic import sampling
from veilstat.architectures.homomorphic.messages import decode_parts, encode_parts, read_ciphertexts, read_share
from veilstat.architectures.homomorphic.totals import mouchet21 as paper
from veilstat.architectures.homomorphic.totals import parameters as table
from veilstat.architectures.homomorphic.totals.bfv import scheme
from veilstat.architectures.homomorphic.totals.parameters import Parameters, choose_parameters
from veilstat.protocol.faults import ProtocolError
from veilstat.testing.tables import small_schema, small_tables


@pytest.mark.parametrize("bits", [8, 31, 40, 59, 60, 61, 100, 128, 200])
def test_sums_are_those_of_the_integers(bits):
    run = Run(bits)
    for _ in range(4):
        run.step()
    expected = [sum(int(run.vectors[name][place]) for name in run.names) for place in range(SIZE)]
    assert run.total().tolist() == expected


def test_more_numbers_than_slots():
    its = scheme(choose_parameters(18, 9000, 2, 40))
    assert its.parameters.degree == 8192
    assert its.parameters.blocks == 2
    secret = its.ring.from_integers(its.secret(os.urandom))
    common = its.ring.uniform(b"")
    key = np.stack([its.public_share(common, secret, os.urandom), common])
    vector = np.random.default_rng(1).integers(-(2**17), 2**17, 9000).astype(object)
    found = its.decrypt_vector(its.encrypt_vector(key, vector, os.urandom), secret, [-(2**17)] * 9000)
    assert found.tolist() == vector.tolist()


def test_ring_arithmetic_is_that_of_polynomials():
    """Against schoolbook multiplication of Python integers modulo X^n + 1 and Q."""
    ring = rings.cyclotomic_ring(4096, 2)
    sparse = {0: 5, 7: -3, 4095: 1 << 90}
    dense = [int.from_bytes(os.urandom(12), "little") % ring.modulus for _ in range(4096)]
    first = np.zeros(4096, dtype=object)
    for power, coefficient in sparse.items():
        first[power] = coefficient
    expected = [0] * 4096
    for power, coefficient in sparse.items():
        for place, other in enumerate(dense):
            sign = 1 if power + place < 4096 else -1
            expected[(power + place) % 4096] += sign * coefficient * other
    a, b = ring.from_integers(first), ring.from_integers(np.array(dense, dtype=object))
    assert ring.to_integers(ring.multiply(a, b)).tolist() == [value % ring.modulus for value in expected]
    assert ring.to_integers(ring.add(b, ring.negate(b))).tolist() == [0] * 4096
    assert (ring.from_bytes(ring.to_bytes(a))[0] == a).all()


def test_products_of_the_largest_residues():
    ring = rings.cyclotomic_ring(8192, 4)
    top = np.array(ring.moduli, dtype=np.uint64)[:, None] - np.arange(1, 8193, dtype=np.uint64)
    expected = [[int(x) * int(y) % prime for x, y in zip(row, row[::-1], strict=True)] for row, prime in zip(top, ring.moduli, strict=True)]
    assert ring.multiply(top, top[:, ::-1]).tolist() == expected


def test_the_table_of_secure_moduli_is_seals():
    seal = rings.seal()
    for degree, bits in table.SECURE_BITS.items():
        assert seal.CoeffModulus.MaxBitCount(degree, seal.SEC_LEVEL_TYPE.TC128) == bits
        primes = rings.cyclotomic_ring(degree, bits // rings.PRIME_BITS).moduli
        assert max(primes) < 1 << rings.PRIME_BITS
        assert sum(prime.bit_length() for prime in primes) <= bits
        for count in (1, 2, 3, 4, 7, 8, 15):
            assert len(rings.batching_primes(degree, table.narrowest_plaintext(degree, count), count)) == count


def test_draws_have_their_distributions():
    degree = 1 << 15
    small, secret = sampling.error(degree, os.urandom), sampling.ternary(degree, os.urandom)
    assert abs(small).max() <= sampling.ERROR_BOUND
    assert abs(small.std() - 10.5**0.5) < 0.06
    assert abs(small.mean()) < 6 * 3.24 / degree**0.5
    counts = np.bincount(secret + 1, minlength=3)
    assert ((counts - degree / 3) ** 2 / (degree / 3)).sum() < 30
    ring = rings.cyclotomic_ring(32768, 3)

    def flooded(bits):
        values = ring.to_integers(ring.transform(sampling.flooding(ring, bits, os.urandom)))
        return [value - ring.modulus if 2 * value > ring.modulus else value for value in values]

    wide = flooded(101)
    assert min(wide) < -0.999 * 2**101 < 0.999 * 2**101 < max(wide)
    assert -(2**101) <= min(wide) <= max(wide) < 2**101
    assert sorted(set(flooded(1))) == [-2, -1, 0, 1]
    assert -(2**48) <= min(flooded(48)) < -0.999 * 2**48 < 0.999 * 2**48 < max(flooded(48)) < 2**48


def scaled(its, vector):
    """round(Q m / t), for the plaintext polynomials of a vector that fits one block, in Python integers."""
    messages = []
    for transform in its.plaintexts:
        slots = np.zeros(its.parameters.degree, dtype=np.uint64)
        slots[: len(vector)] = [int(value) % transform.prime for value in vector]
        plain = [int(value) for value in transform.inverse(slots)]
        messages.append(np.array([(value * its.ring.modulus + transform.prime // 2) // transform.prime for value in plain], dtype=object))
    return messages


def test_messages_are_scaled_exactly():
    its = scheme(choose_parameters(100, SIZE, 3, 64))
    vector = np.array([0, 1, -1, 2**99, 3**60], dtype=object)
    for ours, expected in zip(its.scaled(vector), scaled(its, vector), strict=True):
        assert its.ring.to_integers(its.ring.transform(ours)).tolist() == expected.tolist()


@pytest.mark.parametrize(("bits", "owners", "smudging"), [(18, 2, 40), (40, 3, 64), (60, 10, 64), (60, 100, 64), (150, 5, 90)])
def test_noise_stays_within_its_prediction_and_not_far_below(bits, owners, smudging):
    its = scheme(choose_parameters(bits, SIZE, owners, smudging))
    ring, parameters = its.ring, its.parameters
    common = ring.uniform(b"common")
    holders = min(owners, 10)
    secrets = [ring.from_integers(its.secret(os.urandom)) for _ in range(holders)]
    key = np.stack([reduce(ring.add, (its.public_share(common, secret, os.urandom) for secret in secrets)), common])
    zero = np.zeros(parameters.degree, dtype=object)
    total = reduce(ring.add, (its.encrypt(key, ring.reduce(zero), os.urandom) for _ in range(holders)))
    together = reduce(ring.add, secrets)
    measured = noise(its, total, together, zero)
    bound = replace(parameters, owners=holders).sum_noise
    assert 2**-12 * bound < measured <= bound <= parameters.sum_noise
    flooded = ring.transform(sampling.flooding(ring, parameters.flooding_bits, os.urandom))
    final = noise(its, np.stack([ring.add(total[0], flooded), total[1]]), together, zero)
    assert final <= parameters.final_noise
    assert final > parameters.final_noise / (4 * owners)
    assert final >= measured << (smudging - 1)
    assert 2 * parameters.final_noise * max(transform.prime for transform in its.plaintexts) < ring.modulus


@pytest.mark.parametrize(("bits", "smudging"), [(18, 40), (60, 64)])
def test_every_share_of_a_decryption_is_smudged_and_what_the_analyst_meets_is_as_predicted(bits, smudging):
    run = Run(bits, smudging=smudging)
    for _ in range(2):
        run.step()
    secrets = {name: waiting.secret for name, waiting in run.waiting.items()}
    fresh = {name: read_share(run.scheme.ring, memoryview(run.sent[name, paper.REVEAL_KEY]), name) for name in run.names}
    run.step()
    its, ring = run.scheme, run.scheme.ring
    size, flooding = its.parameters.vector_bytes, its.parameters.flooding_bits
    nothing = np.zeros(its.parameters.degree, dtype=object)
    common = ring.uniform(paper.common_label(CONTEXT))
    for name, secret in secrets.items():
        key_error = noise(its, np.stack([fresh[name], common]), secret, nothing)
        assert 5 < key_error <= sampling.ERROR_BOUND
        share = read_ciphertexts(ring, memoryview(run.sent[name, paper.DECRYPT]), size, name)
        bare = ring.multiply(run.collecting.total[:, 1], secret)
        for part, product in zip(share, bare, strict=True):
            assert (
                1 << (flooding - 1)
                < noise(its, part, run.analyst, ring.to_integers(product))
                <= (1 << flooding) + its.parameters.fresh_noise(1)
            )
    run.step()
    switched = read_ciphertexts(ring, memoryview(run.result)[-size:], size, "server")
    total = np.array([sum(run.vectors[name][place] for name in run.names) for place in range(SIZE)], dtype=object)
    for ciphertext, message in zip(switched, scaled(its, total), strict=True):
        assert 1 << flooding < noise(its, ciphertext, run.analyst, message) <= its.parameters.final_noise


def test_what_the_bound_permits_is_decrypted_and_what_exceeds_the_modulus_is_not():
    its = scheme(choose_parameters(40, SIZE, 3, 64))
    secret = its.ring.from_integers(its.secret(os.urandom))
    vector = np.array([1, 2, 3, 2**39, 0], dtype=object)
    [message] = scaled(its, vector)

    def decrypted(height):
        ciphertext = np.stack([its.ring.from_integers(message + height), its.ring.from_integers(np.zeros(8192, dtype=object))])
        return its.decrypt_vector(ciphertext[None], secret, [0] * SIZE).tolist()

    assert decrypted(its.parameters.final_noise) == decrypted(-its.parameters.final_noise) == vector.tolist()
    assert decrypted(its.ring.modulus // its.plaintexts[0].prime) != vector.tolist()


@pytest.mark.parametrize(
    ("bits", "size", "owners", "smudging"), [(8, 3, 2, 40), (60, 18, 3, 64), (60, 18, 1000, 64), (200, 30, 10, 64), (64, 20_000, 10, 128)]
)
def test_chosen_parameters_keep_the_rules(bits, size, owners, smudging):
    chosen = choose_parameters(bits, size, owners, smudging)
    assert 48 * chosen.primes <= table.SECURE_BITS[chosen.degree]
    assert chosen.blocks * chosen.degree >= size
    assert chosen.plaintexts * (chosen.plaintext_bits - 1) >= bits
    hidden = chosen.degree * chosen.ciphertexts * chosen.sum_noise
    assert hidden << smudging <= 1 << chosen.flooding_bits < hidden << (smudging + 1)


@pytest.mark.parametrize("unsafe", [{"primes": 5}, {"degree": 4096}, {"degree": 1000}, {"smudging_bits": 39}])
def test_parameters_below_128_bits_or_40_bits_cannot_be_built(unsafe):
    with pytest.raises(ValueError, match="is not secure"):
        replace(Parameters(8192, 4, 1, 30, 5, 3, 64), **unsafe)


def test_what_does_not_fit_is_refused_with_the_numbers():
    with pytest.raises(vs.CapabilityError, match=r"60 bits over 10 owners with smudging_bits=400 need a modulus of \d+ bits") as error:
        choose_parameters(60, SIZE, 10, 400)
    assert error.value.code == "noise_too_large"
    with pytest.raises(vs.CapabilityError, match="smudging_bits=400"):
        vs.simulate(small_tables(), small_schema(), vs.Homomorphic(smudging_bits=400)).plan(vs.Mean("age"))


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
    run = Run()
    for _ in range(3):
        run.step()
    scheme_, ring = run.scheme, run.scheme.ring
    size = scheme_.parameters.vector_bytes
    shares = {name: read_ciphertexts(ring, memoryview(run.sent[name, paper.DECRYPT]), size, name) for name in run.names}
    total = run.collecting.total
    for missing in run.names:
        partial = reduce(ring.add, (shares[name] for name in run.names if name != missing))
        partial[:, 0] = ring.add(partial[:, 0], total[:, 0])
        phase = scheme_.phase(partial[0], run.analyst)
        spread = [min(value, ring.modulus - value) for value in phase]
        assert abs(sum(spread) / len(spread) / (ring.modulus / 4) - 1) < 0.1
        found = scheme_.decrypt_vector(partial, run.analyst, [run.low] * SIZE)
        assert not set(found) & {int(sum(run.vectors[name][place] for name in run.names)) for place in range(SIZE)}


def test_the_clouds_view_holds_no_result():
    """Everything that reaches the cloud, decrypted with the key of one owner, and with none, is wide noise."""
    run = Run()
    for _ in range(4):
        run.step()
    its, ring = run.scheme, run.scheme.ring
    size = its.parameters.vector_bytes
    switched = read_ciphertexts(ring, memoryview(run.result)[-size:], size, "server")
    nobody = ring.from_integers(np.zeros(its.parameters.degree, dtype=object))
    for secret in (nobody, ring.from_integers(its.secret(os.urandom))):
        assert its.decrypt_vector(switched, secret, [run.low] * SIZE).tolist() != run.total().tolist()
        spread = [min(value, ring.modulus - value) for value in its.phase(switched[0], secret)]
        assert abs(sum(spread) / len(spread) / (ring.modulus / 4) - 1) < 0.1


def test_a_key_share_that_cancels_the_others_is_refused():
    """The rogue last share: with it, the last owner would alone hold the collective key."""
    run = Run()
    run.step()
    ring = run.scheme.ring
    others = [read_share(ring, memoryview(run.sent[name, paper.REVEAL_KEY]), name) for name in ("o0", "o1")]
    own = read_share(ring, memoryview(run.sent["o2", paper.REVEAL_KEY]), "o2")
    rogue = ring.to_bytes(ring.add(own, ring.negate(reduce(ring.add, others))))
    refused(run, "o2", "had not committed", change=lambda sender, payload: rogue if sender == "o2" else payload)


def test_a_cloud_that_passes_on_another_key_share_is_named():
    run = Run()
    run.step()

    def forge(recipient, payload):
        parts = {name: bytes(raw) for name, raw in decode_parts(memoryview(payload), run.scheme.ring.element_bytes, "server").items()}
        return encode_parts({**parts, "o1": parts["o2"]})

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
        run = Run(18, smudging=40)
        for _ in range(rounds):
            run.step()
        refused(run, "o1", "were agreed", change=lambda sender, payload, change=change: change(payload) if sender == "o1" else payload)


@pytest.mark.parametrize(("rounds", "words"), [(0, "without its signature"), (1, "had not committed"), (2, "did not sign")])
@pytest.mark.parametrize("place", [0, -1])
def test_altered_messages_name_their_sender(rounds, words, place):
    run = Run(18, smudging=40)
    for _ in range(rounds):
        run.step()
    refused(run, "o1", words, change=lambda sender, payload: flipped(payload, place) if sender == "o1" else payload)


def test_numbers_outside_the_ring_name_their_sender():
    run = Run(18, smudging=40)
    for _ in range(3):
        run.step()
    refused(run, "o1", "outside the ciphertexts' ring", change=lambda sender, raw: b"\xff" * len(raw) if sender == "o1" else raw)


@pytest.mark.parametrize(
    ("rounds", "part", "words"),
    [(0, paper.COMMITMENT_BYTES, "is not signed by"), (1, None, "not the one that"), (2, None, "are not signed by")],
)
def test_a_cloud_that_alters_what_it_passes_on_is_named(rounds, part, words):
    run = Run(18, smudging=40)
    for _ in range(rounds):
        run.step()
    refused(run, "server", words, forge=lambda recipient, payload: flipped(payload))


def forging(run, size, change):
    def forge(recipient, payload):
        parts = {name: bytes(raw) for name, raw in decode_parts(memoryview(payload), size, "server").items()}
        return encode_parts(change(recipient, parts))

    return forge


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
        run = Run(18, smudging=40)
        for _ in range(rounds):
            run.step()
        refused(run, "server", "owner 'o", forge=forging(run, sizes(run)[rounds], change))


def test_the_upload_of_one_owner_alone_is_never_decrypted():
    """A cloud that repeats one owner's ciphertexts in the place of the others', or names that owner only."""
    for change in (lambda me, parts: dict.fromkeys(parts, parts["o1"]), lambda me, parts: {"o1": parts["o1"]}):
        run = Run(18, smudging=40)
        for _ in range(2):
            run.step()
        refused(run, "server", "not signed by|was fixed", forge=forging(run, sizes(run)[2], change))
        assert not any(round_name == paper.DECRYPT for _, round_name in run.sent)


def test_ciphertexts_of_another_session_are_refused():
    other = Run(18, smudging=40)
    for _ in range(2):
        other.step()
    run = Run(18, smudging=40)
    for _ in range(2):
        run.step()
    refused(run, "o1", "did not sign", change=lambda sender, payload: other.sent["o1", paper.INPUT] if sender == "o1" else payload)


def test_owners_that_were_shown_different_sets_do_not_decrypt():
    run = Run(18, smudging=40)
    run.step()

    def fewer_for_o0(recipient, payload):
        parts = {name: bytes(raw) for name, raw in decode_parts(memoryview(payload), sizes(run)[1], "server").items()}
        return encode_parts({name: raw for name, raw in parts.items() if recipient != "o0" or name != "o2"})

    run.step(forge=fewer_for_o0)
    refused(run, "o0", "did not sign")


def test_the_owner_that_is_lost_before_the_set_is_fixed_is_left_out():
    run = Run(18, smudging=40)
    run.step()
    run.step(lost=("o2",))
    for _ in range(2):
        run.step()
    assert run.total().tolist() == (run.vectors["o0"] + run.vectors["o1"]).tolist()


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
    run = Run(18, smudging=40)
    for _ in range(3):
        run.step()
    assert all(waiting is None for waiting in run.waiting.values())


def test_keys_and_ciphertexts_are_fresh_in_every_session():
    first, second = Run(18, smudging=40), Run(18, smudging=40)
    for _ in range(4):
        first.step()
        second.step()
    for key, payload in first.sent.items():
        assert payload != second.sent[key], key
    assert first.total().tolist() == second.total().tolist()


def test_an_owner_may_refuse_the_set_before_it_helps_to_decrypt():
    def never(members):
        assert members == ("o0", "o1", "o2")
        raise ProtocolError(vs_fault)

    from veilstat.protocol.faults import Fault

    vs_fault = Fault("PolicyDenied", "no", "no", ())
    run = Run(18, never, smudging=40)
    for _ in range(2):
        run.step()
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


def test_parameters_grow_with_what_is_asked():
    small = Parameters(8192, 3, 1, 30, 5, 3, 64)
    assert replace(small, owners=30).final_noise > 90 * small.final_noise
    assert replace(small, smudging_bits=65).final_noise > 1.9 * small.final_noise
    assert replace(small, size=8193).flooding_bits == small.flooding_bits + 1
