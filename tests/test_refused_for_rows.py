"""An owner whose rows do not fit says one code to others and why to its own log, with the agents' files, in one process."""

import json
import re

import pandas as pd
import pytest

import veilstat as vs
from tests.deployments import SECRET, TABLES
from tests.deviating import Head

WRONG = SECRET + 100
"""A value above the schema's bound."""


@pytest.fixture
def head(tmp_path):
    its = Head(tmp_path)
    give(its, pd.concat([TABLES["west"], pd.DataFrame({"bp": [WRONG], "age": [30]})]))
    return its


def give(head, rows):
    """West's agent starts anew over other rows."""
    rows.to_csv(head.folder / "west.csv", index=False)
    head.agents["west"] = head.wake("west")


def test_a_value_out_of_bounds_leaves_as_one_code_and_stands_in_no_message_and_no_log(head):
    with pytest.raises(vs.VeilstatError) as error:
        head.ask(vs.Mean("bp"))
    assert error.value.code == "owner_refused"
    assert "west" in error.value.message
    assert not re.search("bp|bound|outside", error.value.message)
    logged = [json.loads(line) for line in (head.folder / "west/owner.log").read_text().splitlines()]
    (entry,) = [entry for entry in logged if entry["event"] == "refused_for_rows"]
    assert "bp" in entry["detail"]
    assert str(WRONG) not in entry["detail"]


def test_a_row_that_is_removed_again_is_not_told_by_a_difference(head):
    assert head.ask(vs.Mean("age")).n == 94
    give(head, TABLES["west"])
    with pytest.raises(vs.PolicyDenied) as error:
        head.ask(vs.Mean("age"))
    assert error.value.code == "isolating_difference"
