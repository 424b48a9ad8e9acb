"""The rounds of Bonawitz et al. (CCS'17), fed directly: sums, dropouts, and parties that misbehave in every round."""

import os
from itertools import combinations

import numpy as np
import pytest

import veilstat as vs
from veilstat.architectures.masking import bonawitz17 as paper
from veilstat.architectures.masking.bonawitz17_analyst import AwaitResult
from veilstat.architectures.masking.bonawitz17_owner import Owner
from veilstat.architectures.masking.bonawitz17_server import Server
from veilstat.architectures.threshold import Threshold
from veilstat.arithmetic import shamir
from veilstat.arithmetic.agreement import KeyPair
from veilstat.arithmetic.executor import SERIAL
from veilstat.arithmetic.rings import Ring
from veilstat.protocol.faults import ProtocolError

CONTEXT = b"c" * 32
LENGTH = 6


class Run:
    """All parties of one session, round by round; ``lost`` says who is silent from which round on."""

    def __init__(self, owners=5, threshold=3, bits=64, padded=True, lost=None, authorise=lambda survivors: None, executor=SERIAL):
        self.ring, self.lost = Ring(bits), lost or {}
        self.names = tuple(f"o{place}" for place in range(owners))
        self.pair = KeyPair.generate(os.urandom) if padded else None
        self.inputs = {name: np.arange(LENGTH, dtype=object) * (place + 1) - 3 for place, name in enumerate(self.names)}
        self.parties = {
            name: Owner(
                name, "server", "analyst", self.names, threshold, CONTEXT, self.ring, self.ring.encode(self.inputs[name]), self.pair and self.pair.public, os.urandom, authorise
            )
            for name in self.names
        }  # fmt: skip
        self.server = Server("server", "analyst", self.names, threshold, CONTEXT, self.ring, LENGTH, executor=executor)
        self.waiting, self.collecting, self.answers, self.sent = {}, self.server.start().following, [], {}
        for name, party in self.parties.items():
            self._after(name, party.start())

    def _after(self, name, turn):
        round_name = turn.send[0].round
        self.waiting[name] = turn.following
        self.sent[name, round_name] = turn.send[0].payload
        if self.lost.get(name) != round_name and self.waiting.get(name, 0) != "gone":
            self.collecting.take(name, memoryview(bytes(turn.send[0].payload)))
        else:
            self.waiting[name] = "gone"

    def step(self, change=lambda recipient, payload: payload):
        """Close the server's round and let every recipient answer."""
        turn = self.collecting.close()
        self.collecting = turn.following
        self.asked = {message.recipient: message.payload for message in turn.send}
        for message in turn.send:
            if message.recipient == "analyst":
                self.answers.append(message.payload)
                continue
            waiting = self.waiting[message.recipient]
            if waiting == "gone":
                continue
            waiting.take("server", memoryview(bytes(change(message.recipient, message.payload))))
            self._after(message.recipient, waiting.close())
        return turn.result

    def finish(self):
        for _ in range(3):
            self.step()
        survivors = self.step()
        waiting = AwaitResult("server", self.names, 2, self.ring, (-(10**6),) * LENGTH, self.pair)
        waiting.take("server", memoryview(self.answers[0]))
        return survivors, waiting.close().result

    def expected(self, survivors):
        return sum(self.inputs[name] for name in survivors).tolist()


@pytest.mark.parametrize("bits", [32, 64, 128])
@pytest.mark.parametrize("padded", [True, False])
def test_the_analyst_learns_the_sum(bits, padded):
    run = Run(bits=bits, padded=padded)
    survivors, released = run.finish()
    assert survivors == released.survivors == run.names
    assert released.values.tolist() == run.expected(run.names)


@pytest.mark.parametrize("round_name", paper.ROUNDS)
@pytest.mark.parametrize("count", [1, 2])
def test_any_owners_may_drop_out_in_any_round_down_to_the_threshold(round_name, count):
    for lost in combinations(range(5), count):
        run = Run(lost={f"o{place}": round_name for place in lost})
        survivors, released = run.finish()
        expected = run.names if round_name == paper.UNMASKING else tuple(name for name in run.names if name not in run.lost)
        assert survivors == released.survivors == expected
        assert released.values.tolist() == run.expected(expected)


def test_dropouts_in_different_rounds_add_up():
    run = Run(owners=7, lost={"o0": "advertise_keys", "o1": "share_keys", "o2": "masked_input", "o3": "unmasking"})
    survivors, released = run.finish()
    assert survivors == ("o3", "o4", "o5", "o6")
    assert released.values.tolist() == run.expected(survivors)


def test_the_server_sees_a_padded_sum_and_without_the_pad_the_sum():
    for padded in (True, False):
        run = Run(padded=padded)
        run.finish()
        _, _, raw = paper.decode_result(memoryview(run.answers[0]), "server")
        seen = run.ring.decode(run.ring.from_bytes(raw), -(10**6)).tolist()
        assert (seen == run.expected(run.names)) is not padded


def test_keys_and_masks_are_fresh_in_every_session():
    first, second = Run(), Run()
    first.finish(), second.finish()
    for key, payload in first.sent.items():
        assert bytes(payload) != bytes(second.sent[key])


def refused(run, rounds, change, match):
    for _ in range(rounds):
        run.step()
    with pytest.raises(ProtocolError, match=match) as error:
        run.step(change)
    assert error.value.fault.kind == "ProtocolViolation"
    return error.value.fault.culprits


def without(names):
    def change(recipient, payload):
        keys = paper.decode_keys(memoryview(payload), "server")
        return paper.encode_keys({name: pair for name, pair in keys.items() if name not in names})

    return change


def test_an_owner_refuses_too_few_keys_missing_keys_and_strangers():
    assert refused(Run(), 0, without(("o1", "o2", "o3")), "at least 3") == ("server",)
    assert refused(Run(), 0, without(("o0",)), "left out or replaced its keys") == ("server",)

    def stranger(recipient, payload):
        keys = paper.decode_keys(memoryview(payload), "server")
        return paper.encode_keys({**keys, "zed": paper.PublicKeys(b"1" * 32, b"2" * 32)})

    assert refused(Run(), 0, stranger, "of the roster") == ("server",)


def test_an_owner_refuses_replaced_and_repeated_keys():
    def replaced(recipient, payload):
        keys = paper.decode_keys(memoryview(payload), "server")
        return paper.encode_keys({**keys, recipient: paper.PublicKeys(b"1" * 32, b"2" * 32)})

    def repeated(recipient, payload):
        keys = paper.decode_keys(memoryview(payload), "server")
        return paper.encode_keys({**keys, "o1": paper.PublicKeys(keys["o2"].channel, keys["o1"].mask)})

    assert refused(Run(), 0, replaced, "replaced its keys") == ("server",)
    assert refused(Run(), 0, repeated, "same key") == ("server",)


def test_a_share_that_was_altered_names_its_dealer():
    def altered(recipient, payload):
        records = {name: bytes(record) for name, record in paper.decode_records(memoryview(payload), "server").items()}
        first = min(records)
        records[first] = bytes((records[first][0] ^ 1,)) + records[first][1:]
        return paper.encode_records(records)

    assert refused(Run(), 1, altered, "could not open the share") == ("o1",)


def test_a_share_that_does_not_match_its_digest_names_its_dealer():
    def altered(recipient, payload):
        records = {name: bytes(record) for name, record in paper.decode_records(memoryview(payload), "server").items()}
        first = min(records)
        records[first] = records[first][:-1] + bytes((records[first][-1] ^ 1,))
        return paper.encode_records(records)

    assert refused(Run(), 1, altered, "does not match its digest") == ("o1",)


@pytest.mark.parametrize("survivors", [["o0"], ["o0", "o1"], ["o1", "o2", "o3"], ["o0", "o1", "o2", "zed"], []])
def test_an_owner_reveals_nothing_for_a_bad_list_of_survivors(survivors):
    assert refused(Run(), 2, lambda recipient, payload: paper.encode_names(survivors), "survivors were named") == ("server",)


def test_an_owner_reveals_for_each_peer_one_share_and_never_the_other():
    run = Run(lost={"o4": "masked_input"})
    for _ in range(2):
        run.step()
    held = run.waiting["o0"].held
    run.step()
    half = shamir.SHARE_BYTES
    expected = [held[name][half:] if name == "o4" else held[name][:half] for name in run.names]
    assert bytes(run.sent["o0", "unmasking"]) == b"".join(expected)
    assert run.waiting["o0"] is None  # no round is left that could reveal the other half


def test_an_owner_may_refuse_the_survivors():
    asked = []
    run = Run(authorise=asked.append, lost={"o4": "masked_input"})
    run.finish()
    assert asked == [("o0", "o1", "o2", "o3")] * 4


def test_a_holder_that_lies_about_a_share_is_named():
    for lost, liar in (({}, "o1"), ({"o4": "masked_input"}, "o0")):
        run = Run(lost=lost)
        for _ in range(3):
            run.step()
        run.collecting.revealed[liar] = run.collecting.revealed[liar].copy()
        run.collecting.revealed[liar][4, 3] ^= 1
        with pytest.raises(ProtocolError, match="differs from the one") as error:
            run.step()
        assert error.value.fault.culprits == (liar,)


def test_a_dealer_that_dealt_wrong_shares_is_named():
    run = Run()
    for _ in range(3):
        run.step()
    dealt = run.collecting.dealt["o2"]
    run.collecting.dealt["o2"] = type(dealt)(b"x" * 32, dealt.sealed, dealt.digests)
    with pytest.raises(ProtocolError, match="do not belong") as error:
        run.step()
    assert error.value.fault.culprits == ("o2",)


def test_parties_that_saw_different_participants_get_garbage_and_not_a_sum():
    run = Run()
    run.step()

    def fewer(recipient, payload):
        records = {name: bytes(record) for name, record in paper.decode_records(memoryview(payload), "server").items()}
        if recipient == "o0":
            records.pop("o4")
        return paper.encode_records(records)

    run.step(fewer)
    totals = run.collecting.vectors.total().copy()
    assert run.ring.decode(totals, -(10**6)).tolist() != run.expected(run.names)


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x90", b"\x81\xa2o0\xc4\x01x", bytes(range(50))])
def test_malformed_messages_are_violations(payload):
    for rounds in range(3):
        run = Run()
        for _ in range(rounds):
            run.step()
        with pytest.raises(ProtocolError) as error:
            run.step(lambda recipient, original: payload)
        assert error.value.fault.kind == "ProtocolViolation"


@pytest.mark.parametrize("rounds", [0, 1, 2, 3])
def test_the_server_refuses_messages_of_the_wrong_length(rounds):
    run = Run()
    for _ in range(rounds):
        run.step()
    with pytest.raises(ProtocolError) as error:
        run.collecting.take("o0", memoryview(b"x" * 7))
    assert error.value.fault.culprits == ("o0",)


def test_shares_outside_the_field_are_refused():
    run = Run()
    for _ in range(3):
        run.step()
    with pytest.raises(ProtocolError, match="outside the field"):
        run.collecting.take("o0", memoryview(b"\xff" * (5 * shamir.SHARE_BYTES)))


def test_a_result_over_the_wrong_owners_is_refused():
    run = Run()
    run.finish()
    waiting = AwaitResult("server", ("o0", "o1"), 2, run.ring, (0,) * LENGTH, run.pair)
    waiting.take("server", memoryview(run.answers[0]))
    with pytest.raises(ProtocolError, match="wrong owners"):
        waiting.close()


@pytest.mark.parametrize(
    ("owners", "colluding", "minimum", "threshold"),
    [(2, 0, None, 2), (3, 1, None, 3), (3, 0, None, 2), (5, 1, None, 3), (5, 1, 4, 4), (9, 4, 2, 6), (100, 98, None, 100)],
)
def test_thresholds_are_computed(owners, colluding, minimum, threshold):
    assert Threshold(owners, colluding, minimum).count == threshold


@pytest.mark.parametrize(
    ("owners", "colluding", "minimum"), [(1, 0, None), (0, 0, None), (2, 1, None), (3, 2, None), (4, 0, 5), (4, -1, None), (4, 1, 0)]
)
def test_configurations_that_cannot_hold_are_refused_with_the_numbers(owners, colluding, minimum):
    with pytest.raises(vs.CapabilityError) as error:
        Threshold(owners, colluding, minimum)
    assert error.value.code in ("too_few_owners", "threshold_unreachable", "bad_configuration")


def test_the_default_leaves_two_honest_owners():
    assert [Threshold.of(owners, None).colluding for owners in (2, 3, 4, 50)] == [0, 1, 1, 1]


def test_an_owner_sends_no_total_beyond_the_bounds_that_the_ring_was_computed_from():
    from veilstat.architectures.interface import Contribution, StepBinding
    from veilstat.architectures.masking import Masking
    from veilstat.language.cut import cut
    from veilstat.language.step import Step
    from veilstat.platform.table import EncodedRows
    from veilstat.protocol.identity import Identity, Roster

    step = Step("sum", lambda rows, public: {"x": rows.column("x").total()}, lambda totals, public: totals)
    architecture = Masking()
    chosen = cut(step.trace(vs.Schema(vs.Binary("x"), max_rows=2), 3), architecture.entry, architecture.supports)
    identities = {name: Identity.from_seed(name, os.urandom(32)) for name in ("a", "b", "c", "server", "analyst")}
    roster = Roster({n: i.public for n, i in identities.items()}, {n: n if n in ("server", "analyst") else "owner" for n in identities})
    binding = StepBinding(
        identities["a"], roster, bytes(32), bytes(32), ("a", "b", "c"), "server", "analyst", chosen, {}, KeyPair.generate(os.urandom).public
    )

    def session(count):
        return architecture.owner(binding, Contribution(EncodedRows({"x": (np.ones(count, int), np.ones(count, bool))}, count)), os.urandom)

    assert session(2).waiting_for == paper.SHARE_KEYS
    with pytest.raises(vs.RangeError, match="exceeds the bounds"):
        session(3)
