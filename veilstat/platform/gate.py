"""The release gate: the only way to an opening. Every party keeps one per query and asks it before each step.

Before: is the opening in the plan, is it the next one, is it bound to the same participants? After: count it as
spent, whatever came of it. Owners also keep a record across queries, against differences of exact answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from veilstat.architectures.interface import StepBinding
from veilstat.language.cut import Cut
from veilstat.language.wording import express
from veilstat.protocol.context import Transcript, digest, step_context
from veilstat.protocol.faults import Fault, ProtocolError
from veilstat.protocol.identity import Identity, Roster

from . import messages
from .definition import ANALYST, SERVER
from .messages import StepRequest
from .opening_file import Entry, OpeningFile
from .plan import Plan, StepPlan


def denied(code: str, message: str) -> ProtocolError:
    """A refusal by a party's own rules."""
    return ProtocolError(Fault("PolicyDenied", code, message))


@dataclass(slots=True)
class ReleaseGate:
    """What one query may still open."""

    plan: Plan
    root: bytes
    participants: tuple[str, ...] = ()
    transcript: Transcript = field(init=False)
    openings: dict[str, int] = field(default_factory=dict)
    _heard: set[bytes] = field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        self.transcript = Transcript(self.root)

    def hears_again(self, frame: bytes) -> bool:
        """Whether this very request was heard before: whoever repeats a frame opens nothing, and ends nothing."""
        key = digest("veilstat/request/1", frame)
        repeated = key in self._heard
        self._heard.add(key)
        return repeated

    def authorise(self, label: str, index: int, participants: Iterable[str], public: bytes) -> tuple[StepPlan, bytes]:
        """Spend one opening of a step.

        Returns:
            The step's plan and the context that binds everything in it.

        Raises:
            ProtocolError: PolicyDenied for what the plan does not list, has spent, or lists otherwise.
        """
        step = next((entry for entry in self.plan.steps if entry.label == label), None)
        if step is None:
            raise denied("undeclared_opening", f"the plan has no step {label!r}; nothing was opened")
        spent = self.openings.get(label, 0)
        if index != spent:
            raise denied(
                "repeated_opening", f"step {label!r} was asked for opening {index + 1}, the next one is {spent + 1}; nothing was opened"
            )
        if spent >= step.at_most:
            raise denied("openings_spent", f"step {label!r} may be opened {step.at_most} times at most, and was; nothing more is opened")
        names = tuple(sorted(participants))
        if self.openings and names != self.participants:
            raise denied("participants_changed", "a query opens all its steps over the same owners; nothing more is opened, start it again")
        self.participants = names
        self.openings[label] = spent + 1
        context = step_context(self.root, label, index, public, names, self.transcript.value)
        self.transcript = self.transcript.after(context, names)
        return step, context

    def bind(self, request: StepRequest, identity: Identity, roster: Roster) -> tuple[StepPlan, StepBinding]:
        """Spend the opening that the analyst requests.

        Returns:
            The step's plan, and what the session of this party is bound to.

        Raises:
            ProtocolError: as ``authorise``, and for broadcast values that do not fit the step.
        """
        step, context = self.authorise(
            request.label, int.from_bytes(request.index, "little"), request.participants, messages.public_digest(request.public)
        )
        public = messages.decode_public(request.public, step.cut.broadcast(), step.types, ANALYST)
        return step, StepBinding(identity, roster, self.root, context, self.participants, SERVER, ANALYST, step.cut, public, request.key)


def in_memory_only(entry: Entry) -> None:
    """For parties that forget with their process what was opened."""


Explain = Callable[[str, frozenset[str], frozenset[str]], str]
"""From a sum, and over whom it was opened before and is asked for now, to why it is not opened again."""


def isolated_owners(expression: str, before: frozenset[str], now: frozenset[str]) -> str:
    """For sums over the same rows of other owners."""
    names = ", ".join(sorted(before ^ now))
    return f"{expression!r} was opened before over other owners, and the difference would be the data of {names}; ask when the same owners take part"


@dataclass(slots=True)
class OpeningRecord:
    """What was opened from this owner's data, over whom: an owner refuses a second exact answer whose difference
    from the first isolates fewer than ``fewest`` owners.

    Expressions are compared as they stand; linear combinations of different ones are not searched.

    Args:
        opened: the names that each expression was opened over. keep: makes an entry durable before it counts.
    """

    fewest: int
    opened: dict[bytes, list[frozenset[str]]] = field(default_factory=dict)
    keep: Callable[[Entry], None] = in_memory_only

    @staticmethod
    def on_disk(fewest: int, file: OpeningFile) -> OpeningRecord:
        """What was opened before a restart, and from now on; VeilstatError if the file was damaged."""
        record = OpeningRecord(fewest, keep=file.append)
        for entry in file.read():
            record._count(entry)
        return record

    def authorise(self, cut: Cut, public: bytes, survivors: Iterable[str], explain: Explain = isolated_owners) -> None:
        """Check against everything opened before, then count this as opened; ``explain`` says why not.

        Raises:
            ProtocolError: PolicyDenied, or the opening could not be recorded.
        """
        roster = frozenset(survivors)
        digests = cut.circuit.node_digests()
        keys = [digest("veilstat/opened/1", digests[opening.node], public) for opening in cut.openings]
        for opening, key in zip(cut.openings, keys, strict=True):
            for before in self.opened.get(key, ()):
                if any(0 < len(difference) < self.fewest for difference in (before - roster, roster - before)):
                    raise denied("isolating_difference", explain(express(cut.circuit, opening.node, {}), before, roster))
        unknown = [key for key in dict.fromkeys(keys) if roster not in self.opened.get(key, ())]
        if unknown:
            entry = Entry(unknown, sorted(roster))
            self.keep(entry)
            self._count(entry)

    def _count(self, entry: Entry) -> None:
        for key in entry.expressions:
            self.opened.setdefault(key, []).append(frozenset(entry.over))
