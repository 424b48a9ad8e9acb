"""How much servers take from each other: in every round of a computation exactly what they send themselves."""

import pytest

import veilstat as vs
from veilstat.testing import Lie
from veilstat.testing.tables import small_schema, small_tables


@pytest.mark.parametrize("layer", [1, 4])
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda payload: payload + b"\0", "too_large"),
        (lambda payload: payload * 3, "too_large"),
        (lambda payload: payload[:-1], "malformed"),
    ],
    ids=["one_byte_more", "three_times", "one_byte_less"],
)
def test_a_message_of_another_length_than_ones_own_is_refused_and_its_sender_named(layer, change, code):
    lie = Lie("compute2", f"compute/{layer}", change)
    with pytest.raises(vs.ProtocolViolation) as error:
        vs.simulate(small_tables(), small_schema(), vs.Sharing(open="estimate"), faults=[lie]).mean("bp")
    assert (error.value.code, error.value.culprits) == (code, ("compute2",))


def test_blocks_beyond_a_messages_length_are_refused_before_they_are_kept():
    """Two megabytes where some hundred bytes are due: the first block's head already says too much."""
    lie = Lie("compute3", "compute/2", lambda payload: payload + bytes(1 << 21))
    study = vs.simulate(small_tables(), small_schema(), vs.Sharing(open="estimate"), faults=[lie])
    with pytest.raises(vs.ProtocolViolation, match="announced") as error:
        study.mean("bp")
    assert (error.value.code, error.value.culprits) == ("too_large", ("compute3",))
