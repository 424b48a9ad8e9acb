"""Keys of correlated randomness: agreed anew for every step, so that no two steps, sessions or restarts share one."""

from types import SimpleNamespace

import pytest

import veilstat as vs
from tests.test_sharing import SCHEMA, SERVERS, TABLES, study
from veilstat.architectures.sharing.compute import ComputeServer
from veilstat.architectures.sharing.messages import Tally
from veilstat.arithmetic.agreement import KeyPair


@pytest.fixture
def keys(monkeypatch):
    """(step context, server, its keys) of every step that servers begin."""
    found, place = [], ComputeServer.place

    def recorded(server, pair, tallies):
        stands = place(server, pair, tallies)
        found.append((server.binding.step, server.index, stands.own_key, stands.previous_key))
        return stands

    monkeypatch.setattr(ComputeServer, "place", recorded)
    return found


def test_steps_sessions_and_restarts_never_share_a_key(keys):
    for entry in ("totals", "rows"):
        running = study(entry=entry)
        for _ in range(2):
            running.linear_regression("bp ~ age + bmi")
            running.logistic_regression("smoker ~ age", max_iterations=3, method="gradient_descent", tolerance=0.5)
    restarted = vs.simulate(TABLES, SCHEMA, vs.Sharing())
    restarted.mean("bp")
    steps = {step for step, *_ in keys}
    assert len(keys) == 3 * len(steps) > 30
    assert len({key for _, _, key, _ in keys}) == len(keys)
    own = {(step, index): key for step, index, key, _ in keys}
    assert all(previous == own[step, (index - 1) % 3] for step, index, _, previous in keys)


def place_of(step, pairs, index):
    """Where a server stands that has just these key pairs, as one would whose memory was restored."""
    identity = SimpleNamespace(name=SERVERS[index])
    server = ComputeServer(SimpleNamespace(identity=identity, servers=SERVERS, step=step), None, 3, None, None)
    tallies = {name: Tally([], pair.public, b"") for name, pair in zip(SERVERS, pairs, strict=True)}
    return server.place(pairs[index], tallies)


def test_even_the_same_key_pairs_give_other_keys_in_another_step():
    pairs = [KeyPair.from_secret(bytes([7 + index] * 32)) for index in range(3)]
    found = [place_of(step, pairs, index) for step in (b"one", b"other") for index in range(3)]
    assert len({place.own_key for place in found}) == 6
    again = place_of(b"one", pairs, 0)
    assert again == found[0]


def test_one_fresh_key_pair_is_enough_for_both_keys_of_its_server_to_be_new():
    pairs = [KeyPair.from_secret(bytes([7 + index] * 32)) for index in range(3)]
    fresh = [KeyPair.from_secret(bytes([99] * 32)), *pairs[1:]]
    before, after = (place_of(b"one", chosen, 0) for chosen in (pairs, fresh))
    assert not {before.own_key, before.previous_key} & {after.own_key, after.previous_key}
