"""Text that is no UTF-8 ends a query with the name of its sender, whoever sent it and in whatever round."""

import pytest

import veilstat as vs
from veilstat.protocol.codec import decode
from veilstat.protocol.faults import ProtocolError
from veilstat.protocol.session import decode_fault
from veilstat.testing.tables import small_schema, small_tables


def without_letters(payload):
    """Owners' names in a message become bytes that no text has."""
    return payload.replace(b"owner", b"\xff\xfe\xff\xfe\xff")


@pytest.mark.parametrize(
    ("architecture", "party", "round_name"),
    [
        ("clear", "server", "result"),
        ("masking", "server", "share_keys"),
        ("masking", "server", "result"),
        ("sharing", "compute2", "tally"),
        ("sharing", "compute2", "result"),
        ("homomorphic", "server", "result"),
        ("masking", "server", "approve"),
    ],
)
def test_names_that_are_no_text_are_a_violation(architecture, party, round_name):
    study = vs.simulate(small_tables(), small_schema(), architecture, faults=[vs.testing.Lie(party, round_name, without_letters)])
    with pytest.raises(vs.ProtocolViolation, match="could not be read") as error:
        study.mean("bp")
    assert error.value.culprits == (party,)


@pytest.mark.parametrize("payload", [b"", b"\x91", b"\x91\xa1\xff", b"\x91" * 5000, b"\xc1", b"\x91\x01"])
def test_what_cannot_be_read_names_its_sender(payload):
    with pytest.raises(ProtocolError, match="'north' sent names that could not be read"):
        decode(payload, list[str], "north", "names")
    with pytest.raises(ProtocolError, match="'north' sent a report"):
        decode_fault(payload, "north")
