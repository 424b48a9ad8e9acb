"""Faults anywhere: the answer over the survivors or an error that helps; never another number, never a hang."""

from random import Random

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
