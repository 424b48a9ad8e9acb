"""Parties against messages that were replayed, forged, misdirected or out of order."""

import os
from dataclasses import replace

import numpy as np
import pytest

import veilstat as vs
from veilstat.language.step import Request, Step
from veilstat.platform import messages
from veilstat.platform.definition import PARTIES
from veilstat.platform.driver import as_error
from veilstat.platform.gate import ReleaseGate
from veilstat.platform.opening_record import OpeningRecord
from veilstat.platform.plan import make_plan
from veilstat.platform.query import decode_query, encode_query, parse_query
from veilstat.protocol.codec import decode
from veilstat.protocol.context import proposal_message, session_root
from veilstat.protocol.envelope import NO_STEP, Envelope, seal
from veilstat.protocol.faults import Fault, ProtocolError
from veilstat.statistics.registry import registry
from veilstat.testing.tables import small_schema, small_tables


@pytest.fixture
def study():
    return vs.simulate(small_tables(), small_schema())


def parts(study):
    backend = study._backend
    return backend, backend.agents["owner1"], backend.analyst, backend.network.machines["server"]


def test_a_replayed_proposal_is_not_answered_again(study):
    backend, agent, _, _ = parts(study)
    study.mean("age")
    proposal = next(f for f in backend.network.traffic["server"].frames if Envelope.decode(f).round == messages.PROPOSE)
    agent.receive(proposal)
    assert list(agent.events()) == []
    assert agent.rejected[-1].code == "already_answered"


def test_replayed_messages_of_a_finished_step_are_not_answered(study):
    backend, agent, _, _ = parts(study)
    study.mean("age")
    before = len(agent.rejected)
    for frame in backend.network.traffic["server"].frames + backend.network.traffic["analyst"].frames:
        agent.receive(frame)
    assert not [event for event in agent.events() if Envelope.decode(event.frame).round != "abort"]
    assert len(agent.rejected) > before


def test_frames_of_an_earlier_query_do_not_end_the_one_that_runs(study):
    backend, agent, analyst, server = parts(study)
    study.count()
    old = [f for f in backend.network.traffic["server"].frames if Envelope.decode(f).round in (messages.APPROVE, messages.REQUEST)]
    analyst.propose(study.plan(vs.Mean("age")))
    backend.network.settle()
    for frame in old:
        server.receive(frame)
        agent.receive(frame)
    assert server.gate is not None
    assert agent.gate is not None
    assert {fault.code for fault in list(server.rejected)[-len(old) :]} == {"unknown_session"}


def test_a_query_that_the_server_cannot_plan_ends_and_the_next_one_works(study):
    backend, _, analyst, server = parts(study)
    for query in (b'{"statistic":"mean","parameters":{"column":"nothing"}}', b"[" * 100_000, b'{"statistic":[],"parameters":{}}'):
        server.receive(forged_proposal(study, analyst.identity, query))
        assert server.gate is None
    backend.network.settle()
    assert study.count().n == sum(map(len, small_tables().values()))


def test_a_request_that_is_repeated_within_its_query_is_refused(study):
    backend, agent, analyst, _ = parts(study)
    study.mean("age")
    request = next(f for f in backend.network.traffic["server"].frames if Envelope.decode(f).round == messages.REQUEST)
    agent.receive(request)
    assert not replies(agent)
    assert agent.rejected[-1].code == "already_answered"
    plain = decode(Envelope.decode(request).payload, messages.StepRequest, "analyst")
    other = messages.encode(messages.StepRequest(plain.label, plain.index, plain.participants, bytes(32), plain.public))
    [again] = seal(analyst.identity, agent.root, NO_STEP, messages.REQUEST, PARTIES, other)
    agent.receive(again)
    assert [reply.round for reply in replies(agent)] == ["abort"]


def forged_proposal(study, signer, query=b'{"statistic":"mean","parameters":{"column":"age"}}', plan=None):
    backend, _, analyst, _ = parts(study)
    digest = plan or bytes.fromhex(study.plan(vs.Mean("age")).digest)
    query_id = os.urandom(16)
    signature = signer.sign(proposal_message(digest, query_id, query))
    root = session_root(digest, query_id, backend.analyst.roster.digest, ("analyst",), signature)
    body = messages.encode(messages.Proposal(query, digest, query_id, signature))
    [frame] = seal(analyst.identity, root, NO_STEP, messages.PROPOSE, PARTIES, body)
    return frame


def replies(agent):
    return [Envelope.decode(event.frame) for event in agent.events()]


def test_a_query_that_the_analyst_did_not_sign_is_refused(study):
    _, agent, analyst, server = parts(study)
    agent.receive(forged_proposal(study, server.identity))
    assert not replies(agent)
    assert agent.rejected[-1].code == "bad_signature"
    agent.receive(forged_proposal(study, analyst.identity))
    assert [reply.round for reply in replies(agent)] == [messages.APPROVE]


def test_a_plan_that_differs_is_refused_with_what_to_do(study):
    _, agent, analyst, _ = parts(study)
    agent.receive(forged_proposal(study, analyst.identity, plan=b"x" * 32))
    [reply] = replies(agent)
    assert reply.round == "abort"
    assert b"another plan" in bytes(reply.payload)


@pytest.mark.parametrize(
    "query", [b"", b"[]", b'{"statistic":"os.system","parameters":{}}', b'{"statistic":"mean","parameters":{"code":"x"}}', b"\xff"]
)
def test_queries_that_are_no_statistic_are_refused(study, query):
    _, agent, analyst, _ = parts(study)
    agent.receive(forged_proposal(study, analyst.identity, query=query))
    [reply] = replies(agent)
    assert reply.round == "abort"


def test_garbage_and_misdirected_frames_are_noted_and_change_nothing(study):
    _, agent, _, server = parts(study)
    agent.receive(b"garbage")
    [frame] = seal(server.identity, b"r" * 32, NO_STEP, "x", "owner2", b"")
    agent.receive(frame)
    [frame] = seal(server.identity, b"r" * 32, b"s" * 32, "x", "owner1", b"")
    agent.receive(frame)
    assert [fault.code for fault in agent.rejected] == ["malformed", "misdirected", "unknown_session"]
    assert study.mean("age").n == sum(map(len, small_tables().values()))


def test_whoever_brought_an_unsigned_frame_is_named_and_not_whom_it_names(study):
    """Two of the parties relay frames of others; an altered one may name anybody, or somebody whom nobody knows."""
    _, agent, _, server = parts(study)
    [frame] = seal(server.identity, b"r" * 32, NO_STEP, "x", "owner1", b"body")
    for altered in (frame[:-1] + b"z", frame.replace(b"\xa6server", b"\xa6serves"), frame[:9], b""):
        agent.receive(altered, "owner3")
        assert agent.rejected[-1].culprits == ("owner3",)
        assert "serve" not in agent.rejected[-1].message
        agent.receive(altered)
        assert agent.rejected[-1].culprits == ()


@pytest.mark.parametrize("place", [0.02, 0.3, 0.33, 0.35, 0.36, 0.37, 0.38, 0.39, 0.4, 0.42, 0.45, 0.99])
def test_a_bit_that_flips_anywhere_blames_who_brought_the_message_or_nobody(place):
    with pytest.raises((vs.ProtocolViolation, vs.QuorumLost)) as error:
        vs.simulate(small_tables(), small_schema(), "sharing", faults=[vs.testing.Tamper("compute2", "result", place)]).mean("bp")
    assert set(error.value.culprits) <= {"compute2"}


def test_nobody_but_the_analyst_may_ask(study):
    _, agent, _, server = parts(study)
    [frame] = seal(server.identity, b"r" * 32, NO_STEP, messages.PROPOSE, PARTIES, b"")
    agent.receive(frame)
    assert agent.rejected[-1].code == "unexpected_sender"


class _Asks(vs.Mean):
    """A statistic whose run asks for what its steps do not list."""

    asks = ("moments", "moments")

    def run(self, schema):
        opened = None
        for label in self.asks:
            opened = yield Request(label)
        return opened


@pytest.mark.parametrize(("asks", "code"), [(("moments", "moments"), "openings_spent"), (("secret",), "undeclared_opening")])
def test_an_undeclared_or_repeated_opening_is_refused_at_run_time(study, asks, code):
    query = type("_Asking", (_Asks,), {"asks": asks})("age")
    with pytest.raises(vs.PolicyDenied, match="opened") as error:
        study.run(query)
    assert error.value.code == code
    assert len(study.observed["analyst"].opened) == len(asks) - 1


def test_a_gate_opens_each_step_in_order_and_over_the_same_owners(study):
    plan = study.plan(vs.LinearRegression("bp ~ age", method="gradient_descent", max_iterations=2))
    gate = ReleaseGate(plan, b"r" * 32)
    contexts = [gate.authorise("scaling", 0, ["a", "b"], b"")[1], gate.authorise("descend", 0, ["a", "b"], b"1")[1]]
    for label, index, names, code in [
        ("scaling", 1, "ab", "openings_spent"), ("descend", 0, "ab", "repeated_opening"), ("descend", 2, "ab", "repeated_opening"),
        ("descend", 1, "abc", "participants_changed"), ("other", 0, "ab", "undeclared_opening"),
    ]:  # fmt: skip
        with pytest.raises(ProtocolError) as error:
            gate.authorise(label, index, list(names), b"")
        assert error.value.fault.code == code
    contexts.append(gate.authorise("descend", 1, ["b", "a"], b"1")[1])
    assert len(set(contexts)) == 3


def test_a_record_compares_expressions_and_not_queries(study):
    record = OpeningRecord(3)
    mean, total, other = (study.plan(q).steps[0].cut for q in (vs.Mean("age"), vs.Sum("age"), vs.Histogram("bp", bins=[0, 300])))
    record.authorise(mean, b"", "abcdefg")
    record.authorise(mean, b"", "abcdefg")
    record.authorise(total, b"", "abcd")
    with pytest.raises(ProtocolError, match="data of g"):
        record.authorise(total, b"", "abcdef")
    with pytest.raises(ProtocolError):
        record.authorise(mean, b"", "abcdefgh")
    record.authorise(total, b"other public values", "abcdef")
    with pytest.raises(ProtocolError, match="data of a"):
        record.authorise(other, b"", "bcdefg")


def test_public_values_are_checked_by_who_receives_them(study):
    plan = study.plan(vs.LinearRegression("bp ~ age", method="gradient_descent"))
    step = plan.steps[1]
    names = step.cut.broadcast()
    assert names == ("lookahead",)
    wire = step.types["lookahead"]
    inside = {"lookahead": np.array([wire.interval.high, wire.interval.low], dtype=object)}
    raw = messages.encode_public(names, step.types, inside)
    assert messages.decode_public(raw, names, step.types, "analyst")["lookahead"].tolist() == inside["lookahead"].tolist()
    outside = messages.encode_public(names, step.types, {"lookahead": np.array([wire.interval.high + 1, 0], dtype=object)})
    with pytest.raises(ProtocolError, match="declared bounds"):
        messages.decode_public(outside, names, step.types, "analyst")
    with pytest.raises(ProtocolError, match="wrong length"):
        messages.decode_public(raw[:-1], names, step.types, "analyst")


def test_broadcast_values_travel_as_integers_on_a_lattice(study):
    study.linear_regression("bp ~ age", method="gradient_descent")
    requests = [e for e in study.observed["server"].envelopes if e.round == messages.REQUEST]
    bodies = [decode(e.payload, messages.StepRequest, "analyst") for e in requests]
    assert {len(body.public) for body in bodies if body.label == "descend"} == {2 * messages.public_width(study.plan(
        vs.LinearRegression("bp ~ age", method="gradient_descent")).steps[1].types["lookahead"])}  # fmt: skip


def test_queries_travel_as_names_and_plain_values():
    for text in (
        'mean("age")',
        'mean(["age", "bp"], missing="listwise")',
        'groupby("region").mean("bp")',
        'histogram("bp", bins=[1, 2.5])',
        "count()",
    ):
        query = parse_query(text, registry())
        assert decode_query(encode_query(query), registry()) == (query, None)
        assert make_plan(query, vs.simulate(small_tables(), small_schema()).definition).query == encode_query(query)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mean",
        "mean(",
        'mean("a").x()',
        "mean(open('f'))",
        "(lambda: 0)()",
        "1 + 1",
        'mean("a", "b", "c", "d")',
        'os("x")',
        'mean(colum="a")',
    ],
)
def test_bad_query_texts_are_refused(text):
    with pytest.raises(vs.SchemaError) as error:
        parse_query(text, registry())
    assert error.value.code in ("bad_query", "unknown_statistic", "unknown_option", "missing_option")


def test_unknown_kinds_of_fault_are_still_errors():
    assert type(as_error(Fault("os.system", "x", "m"))) is vs.VeilstatError
    assert as_error(Fault("QuorumLost", "x", "m", ("a",))).culprits == ("a",)


def test_every_statistic_is_registered_once():
    names = {kind.__name__ for kind in registry().values()}
    assert {
        "Count",
        "Sum",
        "Mean",
        "Variance",
        "Std",
        "Covariance",
        "Correlation",
        "Histogram",
        "Crosstab",
        "MeanBy",
        "LinearRegression",
    } <= names
    assert all(vs.__getattr__(name) is kind for name, kind in ((k.__name__, k) for k in registry().values()))


def test_steps_are_templates():
    step = Step("s", lambda rows, public: {"n": rows.ones.total()}, lambda totals, public: totals)
    schema = small_schema()
    assert step.digest(step.trace(schema, 3)) == step.digest(step.trace(schema, 3))
    assert step.digest(step.trace(schema, 3)) != replace(step, at_most=2).digest(step.trace(schema, 3))
