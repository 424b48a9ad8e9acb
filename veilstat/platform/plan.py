"""The plan: what a query will reveal to whom and what it will cost, computed before anybody is contacted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from veilstat.architectures.interface import NoiseSite, NoiseSource, OpensMultiples, RoundCost, StepCost, Trust
from veilstat.arithmetic.rings import Ring
from veilstat.dp.mechanism import Gaussian, NoiseShare
from veilstat.errors import CapabilityError, SchemaError
from veilstat.language.cut import Cut, Entry, cut, cut_around
from veilstat.language.step import Step, WireType
from veilstat.protocol.envelope import frame_bytes
from veilstat.statistics.interface import Form, HasForms, Statistic

from . import messages
from .definition import ANALYST, PARTIES, SERVER, Definition
from .disclosure import Disclosure, disclosures
from .private_plan import Privacy, calibrate_noise, describe_privacy, noise_source, private_form
from .query import describe_query, encode_query


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step as an architecture will run it.

    ``held``: the iteration takes one opening: it runs behind the wall, or on totals that are opened once. ``noise``: what each
    party of ``source`` adds; the cut's bounds leave room for what is added before opening.
    """

    step: Step
    cut: Cut = field(repr=False)
    held: bool
    at_most: int
    cost: StepCost
    disclosures: tuple[Disclosure, ...]
    noise: NoiseShare | None = None
    source: NoiseSource | None = None

    @property
    def label(self) -> str:
        return self.step.label

    @property
    def types(self) -> Mapping[str, WireType]:
        """Types of what may be broadcast."""
        return self.step.types

    @property
    def site(self) -> NoiseSite:
        """Where noise enters."""
        return NoiseSite.NONE if self.source is None else self.source.site

    @property
    def opens_exactly(self) -> bool:
        """Whether exact numbers become clear to somebody."""
        return self.site in (NoiseSite.NONE, NoiseSite.RECIPIENT)

    def labelled(self) -> StepPlan:
        """The same, where what becomes clear says whether noise is in it."""
        if self.opens_exactly:
            return self
        return replace(self, disclosures=tuple(replace(entry, formula=f"{entry.formula} + noise") for entry in self.disclosures))

    def noise_of(self, site: NoiseSite) -> NoiseShare | None:
        """What a party at ``site`` adds, if anything."""
        return self.noise if self.site is site else None

    @property
    def ring_bits(self) -> int:
        """The ring that every total of the step fits in."""
        return Ring.for_bits(self.cut.bits).bits


@dataclass(frozen=True, slots=True)
class Plan:
    """What a query will reveal to whom, and what it will cost. Pure: nobody was contacted to make it.

    ``print(plan)`` shows it whole; ``digest`` names it, and every owner computes the same one before it agrees.
    ``statistic`` is what was asked, ``form`` how it is computed here.
    """

    statistic: Statistic[Any] = field(repr=False)
    form: Form[Any] = field(repr=False)
    definition: Definition = field(repr=False)
    query: bytes = field(repr=False)
    steps: tuple[StepPlan, ...] = field(repr=False)
    inferences: tuple[str, ...]
    privacy: Privacy | None = None

    @property
    def trust(self) -> Trust:
        """Whom the query trusts."""
        return self.definition.trust

    @property
    def disclosures(self) -> tuple[Disclosure, ...]:
        """Everything that becomes clear, in order of steps."""
        return tuple(entry for step in self.steps for entry in step.disclosures)

    @property
    def opens_exactly(self) -> bool:
        """Whether exact numbers become clear to somebody."""
        return any(step.opens_exactly for step in self.steps)

    @property
    def ring_bits(self) -> int:
        """Bits of the widest ring that the query uses."""
        return max(step.ring_bits for step in self.steps)

    @property
    def rounds(self) -> int:
        """Rounds in which owners speak, at most: one to approve, then those of every opening."""
        return 1 + sum(step.at_most * step.cost.rounds for step in self.steps)

    @property
    def openings(self) -> int:
        """Numbers that become clear, at most."""
        return sum(step.at_most * step.cut.size for step in self.steps)

    @property
    def bytes_per_owner(self) -> int:
        """Bytes on the wire that one owner sends and receives, at most; exact where nobody drops out."""
        return max(self.owner_bytes(owner, {step.label: step.at_most for step in self.steps}) for owner in self.definition.owners)

    def owner_bytes(self, owner: str, openings: Mapping[str, int]) -> int:
        """Bytes that ``owner`` sends and receives when each step is opened so many times; none where it may be offline."""
        owners = self.definition.owners
        if self.definition.keeps_rows:
            return 0
        total = frame_bytes(messages.PROPOSE, ANALYST, PARTIES, messages.proposal_bytes(self.query))
        total += frame_bytes(messages.APPROVE, owner, SERVER, messages.APPROVAL_BYTES)
        for step in self.steps:
            count = openings.get(step.label, 0)
            public = messages.public_bytes(step.cut.broadcast(), step.types)
            request = messages.request_bytes(step.label, owners, step.cost.analyst_sends, public)
            total += count * frame_bytes(messages.REQUEST, ANALYST, PARTIES, request)
            total += count * sum(_round_bytes(entry, owner) for entry in step.cost.owners[owner])
        return total

    @property
    def digest(self) -> str:
        """SHA-256 of query with its promise, step templates with what each opens and its noise, schema, architecture, roster,
        recipients, policies; of no words for people, which all follow from these.
        """
        state = hashlib.sha256(b"veilstat/plan/2")
        for part in (self.query, self.definition.digest, repr(self.trust.recipients).encode()):
            state.update(len(part).to_bytes(8, "little") + part)
        for step in self.steps:
            state.update(
                step.step.digest(step.cut.circuit) + repr((step.cut.openings, step.held, step.at_most, step.source, step.noise)).encode()
            )
        return state.hexdigest()

    def __str__(self) -> str:
        from .plan_text import plan_text

        return plan_text(self)

    def _repr_html_(self) -> str:
        from .plan_html import plan_html

        return plan_html(self)

    def with_privacy(self, promise: Gaussian) -> Plan:
        """The plan of the same query under a promise."""
        return make_plan(self.statistic, self.definition, promise)

    @property
    def title(self) -> str:
        """The query as a person would write it."""
        return describe_query(self.statistic)


def make_plan(statistic: Statistic[Any], definition: Definition, privacy: Gaussian | None = None) -> Plan:
    """Plan a query: trace its steps, cut them by what the architecture protects, calibrate noise, and cost them.

    Raises:
        SchemaError: the query does not fit the schema. CapabilityError: the architecture cannot run it.
        RangeError: numbers would not fit.
    """
    if isinstance(statistic, type) or not hasattr(statistic, "steps"):
        raise SchemaError("a query must be a statistic such as vs.Mean('age')", code="bad_query")
    schema = definition.schema
    statistic.columns(schema)
    if privacy is not None:
        return _plan_private(statistic, definition, privacy)
    if isinstance(statistic, HasForms):
        *others, last = statistic.forms(schema)
        for form in others:
            try:
                return _plan_form(form, definition)
            except CapabilityError:
                continue
        return _plan_form(last, definition)
    return _plan_form(statistic, definition)


def _plan_form(statistic: Statistic[Any], definition: Definition) -> Plan:
    schema = definition.schema
    steps = tuple(_plan_step(step, *_chosen(step, definition), definition) for step in statistic.steps(schema))
    return Plan(statistic, statistic, definition, encode_query(statistic), steps, statistic.inferences(schema))


def _plan_private(statistic: Statistic[Any], definition: Definition, promise: Gaussian) -> Plan:
    schema = definition.schema
    source = noise_source(promise, definition)
    form = private_form(statistic, schema)
    steps = form.steps(schema)
    chosen = [_chosen(step, definition) for step in steps]
    cuts = [exact for exact, _ in chosen]
    architecture = definition.architecture
    multiples = [architecture.multiples(exact) if isinstance(architecture, OpensMultiples) else () for exact in cuts]
    noises, rho = calibrate_noise(cuts, multiples, [step.at_most for step in steps], promise, source, schema)
    planned = []
    for step, (exact, held), noise in zip(steps, chosen, noises, strict=True):
        opened = exact if source.site is NoiseSite.RECIPIENT else exact.widened([source.count * tail for tail in noise.tails])
        planned.append(replace(_plan_step(step, opened, held, definition), noise=noise, source=source).labelled())
    privacy = describe_privacy(form, cuts, noises, rho, promise, schema, source)
    query = encode_query(statistic, promise)
    return Plan(statistic, form, definition, query, tuple(planned), form.inferences(schema), privacy)


def _chosen(step: Step, definition: Definition) -> tuple[Cut, bool]:
    """The cut of a step, and whether an iteration takes one opening."""
    schema, owners, architecture = definition.schema, definition.owners, definition.architecture
    if step.state:
        try:
            return cut(step.trace_held(schema, len(owners)), architecture.entry, architecture.supports), True
        except CapabilityError:
            if step.must_hold:
                raise
    try:
        return cut(step.trace(schema, len(owners)), architecture.entry, architecture.supports), False
    except CapabilityError as refusal:
        if not step.state or architecture.entry is not Entry.ROWS:
            raise
        # rows that cannot be combined with a state may still give the totals that an iteration needs
        try:
            return cut_around(step.trace_held(schema, len(owners)), architecture.entry, architecture.supports), True
        except CapabilityError:
            raise refusal from None


def _plan_step(step: Step, chosen: Cut, held: bool, definition: Definition) -> StepPlan:
    at_most, trust = 1 if held else step.at_most, definition.trust
    cost = definition.architecture.cost(chosen, definition.owners)
    levels = definition.schema.level_names()
    opened = disclosures(step.label, chosen, levels, trust.recipients, trust.computing, at_most)
    return StepPlan(step, chosen, held, at_most, cost, opened)


def _round_bytes(entry: RoundCost, owner: str) -> int:
    peer = entry.peer or SERVER
    received = frame_bytes(entry.name, peer, owner, entry.received) if entry.received else 0
    return frame_bytes(entry.name, owner, peer, entry.sent) + received
