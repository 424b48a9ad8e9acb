"""The release gate: the only way to an opening. Every party keeps one per query and asks it before each step.

Before: is the opening in the plan, is it the next one, is it bound to the same participants? After: count it as
spent, whatever came of it. What may be opened across queries is another question (``opening_record.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from veilstat.architectures.interface import StepBinding
from veilstat.protocol.context import Transcript, digest, step_context
from veilstat.protocol.faults import Fault, ProtocolError
from veilstat.protocol.member import Member

from . import messages
from .definition import ANALYST, SERVER
from .messages import StepRequest
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

    def bind(self, request: StepRequest, member: Member) -> tuple[StepPlan, StepBinding]:
        """Spend the opening that the analyst requests.

        Returns:
            The step's plan, and what this member's session is bound to.

        Raises:
            ProtocolError: as ``authorise``, and for broadcast values that do not fit the step.
        """
        step, context = self.authorise(
            request.label, int.from_bytes(request.index, "little"), request.participants, messages.public_digest(request.public)
        )
        public = messages.decode_public(request.public, step.cut.broadcast(), step.types, ANALYST)
        identity, roster, participants = member.identity, member.roster, self.participants
        return step, StepBinding(identity, roster, self.root, context, participants, SERVER, ANALYST, step.cut, public, request.key)
