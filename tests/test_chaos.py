"""Faults anywhere: the answer over the survivors or an error that helps; never another number, never a hang."""

from random import Random

import msgspec
import numpy as np
import pandas as pd
import pytest

import veilstat as vs
from veilstat.testing import Delay, Dropout, Duplicate, Lie, Reorder, Tamper
from veilstat.testing.tables import small_schema, small_tables

SCHEMA, TABLES = small_schema(), small_tables()
OWNERS = tuple(TABLES)
ROUNDS = ("propose", "approve", "request", "advertise_keys", "share_keys", "masked_input", "unmasking", "result")


def expected(names):
    rows = SCHEMA.quantise(pd.concat([TABLES[name] for name in names]))
    return rows["bp"].mean()


def ask(faults, architecture="masking"):
    study = vs.simulate(TABLES, SCHEMA, architecture, faults=faults)
    try:
        result = study.mean("bp")
    except vs.VeilstatError as error:
        assert len(study.observed["analyst"].opened) == 0
        return error
    assert np.isclose(result.estimate, expected(result.contributors), rtol=1e-12)
    assert len(result.contributors) >= result.plan.trust.threshold
    return result


@pytest.mark.parametrize("round_name", ROUNDS)
@pytest.mark.parametrize("party", ["owner2", "server", "analyst"])
def test_a_message_altered_anywhere_ends_the_query_and_names_its_sender(party, round_name):
    for place in (0.05, 0.5, 0.99):
        outcome = ask([Tamper(party, round_name, place)])
        if isinstance(outcome, vs.ProtocolViolation):
            assert outcome.culprits == (party,)
        elif not isinstance(outcome, vs.QuorumLost):
            assert party not in outcome.contributors or round_name in ("propose", "result", "request") or party == "server" or outcome.n > 0


@pytest.mark.parametrize("round_name", ROUNDS)
@pytest.mark.parametrize("party", ["server", "analyst"])
def test_a_server_or_analyst_that_vanishes_ends_the_query(party, round_name):
    outcome = ask([Dropout(party, round_name)])
    speaks = {"server": set(ROUNDS) - {"propose", "request", "advertise_keys"}, "analyst": {"propose", "request"}}[party]
    if round_name in speaks:
        assert isinstance(outcome, vs.QuorumLost)


def some_faults(random):
    faults = [Reorder(random.randrange(1000))]
    for _ in range(random.randrange(1, 4)):
        kind = random.choice([Dropout, Dropout, Delay, Duplicate, Tamper, Lie])
        party = random.choice([*OWNERS, "server"] if kind is not Lie else OWNERS)
        faults.append(kind(party, random.choice(ROUNDS[1:])))
    return faults


def lied_about_its_data(faults):
    return any(isinstance(fault, Lie) and fault.round == "masked_input" for fault in faults)


def run_chaos(seeds):
    kinds = set()
    for seed in seeds:
        faults = some_faults(Random(seed))
        if not lied_about_its_data(faults):
            kinds.add(type(ask(faults)).__name__)
    return kinds


def test_random_faults_never_give_a_wrong_number():
    assert {"EstimateWithError", "QuorumLost", "ProtocolViolation"} <= run_chaos(range(40))


@pytest.mark.long
def test_many_random_faults_never_give_a_wrong_number():
    run_chaos(range(100, 3000))


def test_a_query_after_chaos_works():
    for seed in range(10):
        random = Random(seed)
        faults = [
            Tamper(random.choice(OWNERS), random.choice(["approve", "advertise_keys", "share_keys", "masked_input"])),
            Dropout(random.choice(OWNERS), "unmasking"),
        ]
        study = vs.simulate(TABLES, SCHEMA, faults=faults)
        with pytest.raises(vs.ProtocolViolation):
            study.mean("bp")
        study._backend.network.faults = ()
        assert study.mean("age").contributors == OWNERS


def zeros_for_keys(payload):
    """Every key in a message becomes the point of order one."""
    plain = msgspec.msgpack.decode(payload)
    return msgspec.msgpack.encode([bytes(32) if isinstance(part, bytes) and len(part) == 32 else part for part in plain])


def no_key(payload):
    plain = msgspec.msgpack.decode(payload)
    return msgspec.msgpack.encode([*plain[:3], b"", *plain[4:]])


def small_result(payload):
    end = 4 + int.from_bytes(payload[:4], "little")
    channels, label = msgspec.msgpack.decode(payload[4:end])
    head = msgspec.msgpack.encode(({name: bytes(32) for name in channels}, label))
    return len(head).to_bytes(4, "little") + head + payload[end:]


@pytest.mark.parametrize(
    ("party", "round_name", "change", "code"),
    [
        ("owner2", "advertise_keys", lambda payload: bytes(32) + payload[32:], "bad_key"),
        ("analyst", "request", zeros_for_keys, "bad_key"),
        ("analyst", "request", no_key, "bad_key"),
        ("server", "result", small_result, "bad_key"),
        ("owner2", "masked_input", lambda payload: b"\xff" * len(payload), "impossible_total"),
        ("server", "result", lambda payload: payload[:-1] + bytes((payload[-1] ^ 0x40,)), "impossible_total"),
    ],
)
def test_a_party_that_signs_nonsense_is_refused_with_a_code(party, round_name, change, code):
    study = vs.simulate(small_tables(), small_schema(), faults=[Lie(party, round_name, change)])
    with pytest.raises(vs.ProtocolViolation) as error:
        study.sum("age")
    assert error.value.code == code
    assert error.value.culprits == ((party,) if code == "bad_key" else ())


@pytest.mark.parametrize("change", [lambda payload: payload[:-1], lambda payload: b"\0\0\0\0" + payload[4:]])
def test_a_clear_total_of_the_wrong_length_is_refused(change):
    study = vs.simulate(small_tables(), small_schema(), "clear", faults=[Lie("server", "result", change)])
    with pytest.raises(vs.ProtocolViolation) as error:
        study.sum("age")
    assert error.value.culprits == ("server",)


@pytest.mark.parametrize("round_name", ["propose", "request"])
@pytest.mark.parametrize("party", ["analyst", "server"])
@pytest.mark.parametrize(
    "architecture", ["masking", "sharing", vs.Sharing(entry="rows", open="estimate")], ids=["masking", "totals", "rows"]
)
def test_what_the_analyst_says_twice_is_heard_once(party, round_name, architecture):
    result = ask([Duplicate(party, round_name), Reorder(1)], architecture)
    assert not isinstance(result, vs.VeilstatError)


@pytest.mark.parametrize("architecture", ["masking", "sharing"])
def test_a_request_of_an_earlier_opening_ends_nothing(architecture):
    study = vs.simulate(TABLES, SCHEMA, architecture)
    network, replayed = study._backend.network, []
    query = vs.LinearRegression("bp ~ age", method="gradient_descent", max_iterations=5, tolerance=0.5)

    def replay(label, done, at_most):
        frames = [envelope.frame for envelope in study.observed["server"].envelopes if envelope.round in ("propose", "request")]
        for frame in frames:
            network.machines["server"].receive(frame)
            replayed.append(frame)

    study.run(query, progress=replay)
    assert len(replayed) > 3
    faults = network.machines["server"].rejected
    assert {fault.code for fault in faults} == {"already_answered"}
