"""docs/architecture.md tells of the code as it is: its pictures, and the files that each of its walks names."""

import re
from pathlib import Path

import pytest

import veilstat as vs
from docs import deployment_walk
from docs.diagrams import FOLDER, WALKS, levels, room_imports, rooms, sequence
from veilstat.testing.tables import small_schema, small_tables

PAGE = (Path(__file__).parent.parent / "docs/architecture.md").read_text()
STALE = "is stale; run python docs/diagrams.py and look at it"


def section(name):
    """What the page says about a walk: the section that shows its picture, up to what other queries do."""
    [text] = [part for part in PAGE.split("\n## ") if f"diagrams/{name}.svg" in part]
    return text


def named_files(name):
    """The files that a walk enters, as the page says."""
    named = re.findall(r"`((?:platform|statistics|architectures|language|schema|protocol|transports)/[\w/]+\.py)", section(name))
    assert len(named) >= 6
    return set(named)


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.name)
def test_a_walk_is_drawn_as_it_happens_and_enters_the_files_that_it_names(walk):
    journey = walk.run()
    assert sequence(walk, journey) == (FOLDER / f"{walk.name}.svg").read_text(), f"{walk.name}.svg {STALE}"
    assert named_files(walk.name) <= set(journey.files), "the page names a file that the query does not enter"


def test_the_deployed_walk_is_drawn_as_it_happens_and_ends_with_the_answer_of_the_first_one():
    passages, files, result = deployment_walk.run()
    assert deployment_walk.picture(passages) == (FOLDER / f"{deployment_walk.NAME}.svg").read_text(), f"{deployment_walk.NAME}.svg {STALE}"
    assert named_files(deployment_walk.NAME) <= set(files), "the page names a file that the query does not enter"
    tables = dict(zip(deployment_walk.OWNERS, small_tables().values(), strict=False))
    assert result.estimate == vs.simulate(tables, small_schema()).mean("age").estimate


def test_the_rooms_are_drawn_as_they_import():
    assert rooms() == (FOLDER / "rooms.svg").read_text(), f"rooms.svg {STALE}"


def test_no_room_imports_one_above_it():
    rows = levels(room_imports())
    height = {room: place for place, row in enumerate(rows) for room in row}
    assert all(height[room] < height[below] for room, imports in room_imports().items() for below in imports)
    assert rows[0] == ["testing"]
    assert "schema" in rows[-1]
