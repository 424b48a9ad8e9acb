"""Draws the pictures of docs/architecture.md: rooms from the import graph, queries from what really travelled.

python docs/diagrams.py    writes docs/diagrams/*.svg; a test compares them, so that they cannot go stale
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import grimp

import veilstat as vs
from docs import deployment_walk
from docs.drawing import GREY, INK, RED, Drawing
from veilstat.protocol.envelope import Envelope
from veilstat.testing.tables import small_schema, small_tables
from veilstat.transports.memory import Fault, MemoryNetwork

FOLDER = Path(__file__).parent / "diagrams"
PACKAGE = Path(vs.__file__).parent
WITHIN = f"{PACKAGE}/"


# rooms


def room_imports() -> dict[str, frozenset[str]]:
    """Which rooms each room imports, from the import graph."""
    graph = grimp.build_graph("veilstat", cache_dir=None)
    found: dict[str, set[str]] = {}
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            below, above = _room(imported), _room(importer)
            if above and below and above != below:
                found.setdefault(above, set()).add(below)
                found.setdefault(below, set())
    return {room: frozenset(imports) for room, imports in sorted(found.items())}


def _room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else None


def levels(imports: Mapping[str, frozenset[str]]) -> list[list[str]]:
    """Rooms in rows: each stands above all that it imports."""
    height: dict[str, int] = {}

    def of(room: str) -> int:
        if room not in height:
            height[room] = max((1 + of(below) for below in imports[room]), default=0)
        return height[room]

    rows: list[list[str]] = [[] for _ in range(1 + max(map(of, imports)))]
    for room in imports:
        rows[height[room]].append(room)
    return rows[::-1]


PLACES = {
    "testing": (470, "conformance suite, faults"),
    "platform": (470, "studies, plans, gate, parties"),
    "statistics": (100, "what to compute"),
    "dp": (300, "what an answer may reveal"),
    "architectures": (500, "how to compute it unseen"),
    "transports": (835, "how bytes move"),
    "language": (200, "the waist: circuit, cut, step"),
    "schema": (150, "what the numbers are"),
    "arithmetic": (480, "rings, keys, shares"),
    "protocol": (760, "envelopes, identities, sessions"),
}
"""Where each room stands from left to right, and what is in it."""


def rooms() -> str:
    """Boxes for rooms, arrows to what each imports; what is reached through another room all the same is left out."""
    imports, width, height = room_imports(), 188, 52
    rows = levels(imports)
    drawing = Drawing(940, 118 * len(rows) - 26)
    place = {room: (PLACES[room][0], 20 + 118 * level) for level, row in enumerate(rows) for room in row}
    for room, below in imports.items():
        for other in sorted(below):
            if not any(other in imports[between] for between in below):
                drawing.arrow(place[room][0], place[room][1] + height, place[other][0], place[other][1] - 2, GREY)
    for room, (x, y) in place.items():
        drawing.box(x - width // 2, y, width, height)
        drawing.words(x, y + 22, room, 15, weight="bold")
        drawing.words(x, y + 41, PLACES[room][1], 12, GREY)
    return drawing.svg()


# queries


@dataclass(frozen=True, slots=True)
class Message:
    """What a party said to another, and the file and class that took it; or how a query ended, said by nobody."""

    sender: str
    recipient: str
    words: str
    taken_by: str


@dataclass(frozen=True, slots=True)
class Journey:
    """What travelled in one query, and the files of veilstat that it passed through, in order of first entry."""

    messages: tuple[Message, ...]
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Walk:
    """A query whose way through the code is written down."""

    name: str
    title: str
    architecture: Any
    statistic: str
    parameters: Mapping[str, Any]
    faults: tuple[Fault, ...] = ()

    def run(self) -> Journey:
        """Run the query, again where an owner was lost in it, and watch."""
        tables = dict(zip(OWNERS, small_tables().values(), strict=False))
        study = vs.simulate(tables, small_schema(), self.architecture, faults=list(self.faults))
        watch = Watch(study._backend.network)
        ask = getattr(study, self.statistic)
        sys.setprofile(watch.see)
        try:
            ask(**self.parameters)
        except vs.QuorumLost as error:
            watch.end(f"QuorumLost [{error.code}]")
            ask(**self.parameters)
        finally:
            sys.setprofile(None)
        watch.end("result")
        return Journey(tuple(watch.messages), tuple(file.removeprefix(WITHIN) for file in watch.files))


OWNERS = ("east", "north", "south", "west")
WALKS = (
    Walk("mean", 'study.mean("age") under masking', vs.Masking(), "mean", {"column": "age"}),
    Walk(
        "sealed",
        'study.linear_regression("bp ~ age + bmi"), sealed on three servers',
        vs.Sharing(servers=3, open="estimate"),
        "linear_regression",
        {"formula": "bp ~ age + bmi"},
    ),
    Walk(
        "descent",
        "a gradient descent under masking; south drops out",
        vs.Masking(),
        "linear_regression",
        {"formula": "bp ~ age", "method": "gradient_descent"},
        (vs.testing.Dropout("south", "masked_input"), vs.testing.Dropout("south", "approve", after=1)),
    ),
)


class Watch:
    """A profiler that notes who takes which message where: every round has ``take``, every party ``on_query``."""

    def __init__(self, network: MemoryNetwork) -> None:
        self.messages: list[Message] = []
        self.files: dict[str, None] = {}
        self.receiver = ""
        network.machines = {name: Listening(name, machine, self) for name, machine in network.machines.items()}

    def see(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(WITHIN):
            return
        self.files.setdefault(code.co_filename)
        if code.co_name == "take" and "sender" in frame.f_locals:
            waiting = frame.f_locals["self"]
            self._note(frame.f_locals["sender"], waiting.name.partition("/")[0], waiting)
        elif code.co_name == "on_query":
            self._hear(frame.f_locals["envelope"], frame.f_locals["self"])

    def _hear(self, envelope: Envelope, party: object) -> None:
        """Note what a party hears, once: a subclass may hand it on to its base."""
        last = self.messages[-1] if self.messages else Message("", "", "", "")
        if (last.sender, last.recipient, last.words) != (envelope.sender, self.receiver, envelope.round):
            self._note(envelope.sender, envelope.round, party)

    def _note(self, sender: str, words: str, by: object) -> None:
        place = f"{'/'.join(type(by).__module__.split('.')[-2:])}.py: {type(by).__name__}"
        self.messages.append(Message(sender, self.receiver, words, place))

    def end(self, words: str) -> None:
        self.messages.append(Message("", "", words, ""))


class Listening:
    """A party's machine, which says that it is the one that receives."""

    def __init__(self, name: str, machine: Any, watch: Watch) -> None:
        self._name, self._machine, self._watch = name, machine, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)

    def receive(self, frame: bytes, carrier: str) -> None:
        self._watch.receiver = self._name
        self._machine.receive(frame, carrier)


@dataclass(frozen=True, slots=True)
class Row:
    """Messages of one kind that follow each other, drawn as one arrow."""

    sender: str
    recipient: str
    words: str
    taken_by: str
    senders: frozenset[str]


def openings_of(messages: Iterable[Message]) -> list[tuple[int, list[Row]]]:
    """Rows of one opening after another, and how many that look the same follow each other."""
    parts: list[list[Message]] = [[]]
    for message in messages:
        if (message.words, message.recipient) in BEGIN or not message.sender:
            parts.append([])
        parts[-1].append(message)
    found: list[tuple[int, list[Row]]] = []
    for rows in (rows_of(part) for part in parts if part):
        if found and found[-1][1] == rows:
            found[-1] = (found[-1][0] + 1, rows)
        else:
            found.append((1, rows))
    return found


BEGIN = (("propose", "server"), ("request", "server"))


def rows_of(messages: Iterable[Message]) -> list[Row]:
    """Messages between the same lanes that the same code takes become one row, wherever it began."""
    rows: dict[tuple[str, str, str, str], Row] = {}
    for message in messages:
        words = message.words + (", forwarded" if message.sender == "analyst" and message.recipient != "server" else "")
        key = (lane(message.sender), lane(message.recipient), words, message.taken_by)
        row = rows.get(key, Row(*key, frozenset()))
        rows[key] = replace(row, senders=row.senders | {message.sender})
    return list(rows.values())


def lane(party: str) -> str:
    """The lane of a party: data owners share one, and compute servers do."""
    return "data owners" if party in OWNERS else "compute servers" if party.startswith("compute") else party


def sequence(walk: Walk, journey: Journey) -> str:
    """Lanes for kinds of parties, arrows for what they say, and below each the code that takes it."""
    spoken = {lane(message.sender) for message in journey.messages} | {lane(message.recipient) for message in journey.messages}
    lost = {fault.party for fault in walk.faults if isinstance(fault, vs.testing.Dropout)}
    across = {title: 130 + 260 * place for place, title in enumerate(title for title in LANES if title in spoken)}
    openings = openings_of(journey.messages)
    drawing = Drawing(
        260 * len(across) + (130 if "compute servers" in across else 0), 70 + 46 * (1 + sum(len(rows) for _, rows in openings))
    )
    drawing.words(16, 24, walk.title, 15, anchor="start", weight="bold")
    for title, x in across.items():
        drawing.line(x, 72, x, drawing.height - 14, GREY, "3 4")
        drawing.box(x - 75, 42, 150, 30)
        drawing.words(x, 62, title)
    y = 104
    for times, rows in openings:
        if times > 1:
            drawing.words(24, y + 4, f"× {times}", 15, weight="bold")
        for row in rows:
            _draw(drawing, row, y, across, lost)
            y += 46
    return drawing.svg()


LANES = ("analyst", "server", "data owners", "compute servers")


def _draw(drawing: Drawing, row: Row, y: int, across: Mapping[str, int], lost: set[str]) -> None:
    if not row.sender:
        drawing.words(across["analyst"], y, row.words, 14, RED if "[" in row.words else INK, weight="bold")
        return
    start, end = across[row.sender], across[row.recipient]
    silent = lost - row.senders if row.sender == "data owners" else set()
    words, colour = (f"{row.words}, not {' and '.join(sorted(silent))}", RED) if silent else (row.words, INK)
    if start == end:
        drawing.line(start, y, start + 46, y, INK)
        drawing.line(start + 46, y, start + 46, y + 16, INK)
        drawing.arrow(start + 46, y + 16, start + 2, y + 16)
        drawing.words(start + 54, y + 5, words, 13, colour, "start")
        drawing.words(start + 54, y + 20, row.taken_by, 10, GREY, "start")
        return
    drawing.arrow(start, y, end - 2 if end > start else end + 2, y)
    drawing.words((start + end) // 2, y - 6, words, 13, colour)
    drawing.words((start + end) // 2, y + 13, row.taken_by, 10, GREY)


def pictures() -> dict[str, str]:
    """Every picture by the name of its file."""
    deployed, _, _ = deployment_walk.run()
    walks = {f"{walk.name}.svg": sequence(walk, walk.run()) for walk in WALKS}
    return {"rooms.svg": rooms(), **walks, f"{deployment_walk.NAME}.svg": deployment_walk.picture(deployed)}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, picture in pictures().items():
        (FOLDER / name).write_text(picture, encoding="utf-8")
