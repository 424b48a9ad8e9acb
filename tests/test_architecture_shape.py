"""Architectures have one shape: the base says once what most have in common, and files are called alike."""

import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

import veilstat as vs
from veilstat.architectures.homomorphic.rows.architecture import EncryptedRows
from veilstat.architectures.interface import Architecture, StepBinding
from veilstat.architectures.registry import architectures
from veilstat.language.cut import Entry
from veilstat.protocol.identity import Identity, Roster
from veilstat.protocol.session import Turn
from veilstat.testing.toy import ToyArithmetic

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "veilstat/architectures"
PARTIES = {"server": "server", "analyst": "analyst", "north": "owner", "south": "owner", "east": "owner"}
COMPUTE = {"compute1": "compute", "compute2": "compute"}


def test_every_architecture_is_one():
    assert all(Architecture in kind.__mro__ for kind in (*architectures().values(), ToyArithmetic))


@pytest.mark.parametrize(
    "missing", ["name", "rounds", "input_round", "supports", "trust", "describe", "cost", "owner", "server", "analyst"]
)
def test_an_architecture_that_leaves_something_out_cannot_be_made(missing):
    kind = type(vs.Masking())
    members = {name: getattr(kind, name) for name in Architecture.__abstractmethods__ if name != missing}
    with pytest.raises(TypeError, match=missing):
        type("Partial", (Architecture,), members)()


@dataclass(frozen=True)
class Least(vs.Masking):
    name: ClassVar[str] = "least"
    announce = Architecture.announce


def test_totals_enter_and_nobody_else_computes_unless_it_is_said():
    least = Least()
    assert least.entry is Entry.TOTALS
    assert least.compute_servers(("a", "b")) == ()
    assert least.announce(None, ("a", "b"), None) == (b"", b"")
    with pytest.raises(vs.CapabilityError, match="'least' has no compute servers") as error:
        least.compute(None, None, None)
    assert error.value.code == "no_compute_servers"


def told(roles, me, participants=("north", "south")):
    """Whom a party's session tells of a fault."""
    identities = {name: Identity.from_seed(name, name.encode().ljust(32)) for name in roles}
    roster = Roster({name: its.public for name, its in identities.items()}, roles)
    binding = StepBinding(identities[me], roster, b"r", b"s", participants, "server", "analyst", SimpleNamespace(), {}, b"")
    return binding.session(("round",), Turn((), None)).binding.tell_on_abort


def test_faults_pass_through_the_server_where_no_server_computes():
    assert told(PARTIES, "north") == told(PARTIES, "analyst") == ("server",)
    assert set(told(PARTIES, "server")) == {"north", "south", "analyst"}


def test_compute_servers_and_the_analyst_are_told_by_everybody():
    roles = {**PARTIES, **COMPUTE}
    assert set(told(roles, "north")) == {"compute1", "compute2", "analyst", "server"}
    assert set(told(roles, "compute1")) == {"compute2", "analyst", "server"}
    assert set(told(roles, "analyst")) == {"compute1", "compute2", "server"}


def test_the_page_names_every_file_of_a_party():
    """The table of docs/architecture.md: each file stands in its column's folder, and no party's file is left out."""
    page = (ROOT / "docs/architecture.md").read_text()
    head, _, *rows = [line.strip("|").split("|") for line in page.split("\n## The architectures\n")[1].splitlines() if line.startswith("|")]
    folders = [FOLDER / title.replace(" ", "") for title in head[1:]]
    named = {
        (folder / file).resolve()
        for row in rows
        for folder, cell in zip(folders, row[1:], strict=True)
        for file in re.findall(r"`([\w./]+\.py)`", cell)
    }
    assert not [path for path in named if not path.exists()]
    parties = {path for folder in folders for path in folder.glob("*.py") if re.search(r"(owner|server|compute|analyst)\.py$", path.name)}
    assert parties <= named


def members(kind):
    """What a class says for itself, in order, as far as the base asks for it."""
    wanted = [name for name in vars(Architecture) if not name.startswith("_")]
    return [name for name in vars(kind) if name in wanted and callable(getattr(kind, name))], wanted


@pytest.mark.parametrize("kind", [*map(type, (vs.Clear(), vs.Masking(), vs.Sharing(), vs.Homomorphic())), EncryptedRows, ToyArithmetic])
def test_members_stand_in_the_order_of_the_base(kind):
    own, wanted = members(kind)
    assert own == sorted(own, key=wanted.index)
