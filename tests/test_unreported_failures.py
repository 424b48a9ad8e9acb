"""What fails at the analyst once everything has reached it is told to nobody: neither bytes nor messages differ from a success."""

import pytest

import veilstat as vs
from tests.encrypted_rows import SCHEMA as SMALL
from tests.encrypted_rows import tables
from veilstat.platform.analyst import Analyst
from veilstat.protocol.envelope import Envelope
from veilstat.transports.memory import Lie

ARCHITECTURES = {
    "masking": vs.Masking(),
    "masking to the server": vs.Masking(recipient="server"),
    "two servers": vs.Sharing(servers=2),
    "sealed": vs.Sharing(open="estimate"),
    "rows": vs.Sharing(servers=3, entry="rows"),
    "homomorphic": vs.Homomorphic(),
    "some decrypt": vs.Homomorphic(threshold=3),
    "encrypted rows": vs.Homomorphic(entry="rows", smudging_bits=40),
    "clear": "clear",
}


class Wire:
    """Who sent what to whom, and how long it was, of every frame of a study's next queries."""

    def __init__(self, study):
        self.study, self.sent = study, []
        network = study._backend.network
        send = network._send

        def listening(sender, event):
            envelope = Envelope.decode(event.frame)
            self.sent.append((sender, event.recipient, envelope.round, len(event.frame)))
            send(sender, event)

        network._send = listening

    def count(self):
        """The error's code, if there is one, and what was sent for one count; nobody but the analyst knows of any fault."""
        self.sent.clear()
        code = ""
        try:
            self.study.count()
        except vs.VeilstatError as error:
            code = error.code
        others = [machine for name, machine in self.study._backend.network.machines.items() if name != "analyst"]
        assert not any(getattr(machine, "fault", None) for machine in others)
        return code, sorted(self.sent)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_impossible_total_leaves_the_analyst_silent(name, monkeypatch):
    study = vs.simulate(tables(), SMALL, ARCHITECTURES[name])
    wire = Wire(study)
    code, usual = wire.count()
    assert (code, {entry[2] for entry in usual} & {"abort"}) == ("", set())
    with monkeypatch.context() as patched:
        patched.setattr(Analyst, "_is_possible", staticmethod(lambda values, cut: False))
        assert wire.count() == ("impossible_total", usual)
    assert wire.count() == ("", usual)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_a_result_that_does_not_fit_leaves_the_analyst_silent(name):
    """The last message has as many bytes as ever, and those at its end are others."""
    party = {"two servers": "compute1", "sealed": "compute1", "rows": "compute1"}.get(name, "server")
    study = vs.simulate(tables(), SMALL, ARCHITECTURES[name])
    wire = Wire(study)
    _, usual = wire.count()
    study._backend.network.faults = (Lie(party, "result", lambda payload: payload[:-1] + bytes((payload[-1] ^ 0x40,))),)
    code, failed = wire.count()
    assert code in ("impossible_total", "malformed", "not_decrypted", "bad_share")
    assert failed == usual
