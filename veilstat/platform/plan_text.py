"""A plan in words and numbers, for analysts and data stewards."""

from __future__ import annotations

import math
import textwrap
from fractions import Fraction
from itertools import chain

from veilstat.architectures.interface import NoiseSite, NoiseSource
from veilstat.dp.mechanism import LOCAL
from veilstat.dp.sensitivity import ADD_REMOVE
from veilstat.language.wording import written
from veilstat.statistics.table import Table

from .disclosure import Disclosure, behind, is_sealed
from .plan import Plan, StepPlan
from .private_plan import Privacy

WIDTH = 112
NEGLIGIBLE_PERCENT = 0.001


def plan_text(plan: Plan) -> str:
    """The whole plan as text."""
    parts = [f"Plan of {plan.title}", f"digest {plan.digest}", ""]
    for title, lines in sections(plan):
        parts.append(title)
        wrapped = [textwrap.wrap(line, WIDTH, initial_indent="  ", subsequent_indent="    ") for line in lines]
        if title == OPENS:
            wrapped.insert(1, ["", textwrap.indent(disclosure_table(plan).text(), "  "), ""])
        parts += [*chain(*wrapped), *([""] if wrapped[-1][-1] else [])]
    return "\n".join(parts).rstrip()


OPENS = "What becomes clear, and to whom"


def sections(plan: Plan) -> list[tuple[str, list[str]]]:
    """Titles and sentences of a plan."""
    architecture, owners = plan.definition.architecture, plan.definition.owners
    return [
        ("Who computes", [f"{architecture.name}, with {len(owners)} data owners: {', '.join(owners)}", *plan.trust.words]),
        (OPENS, _opens(plan)),
        (
            "What can be inferred besides",
            [
                *_inferences(plan),
                "who contributed, when, and the sizes of messages"
                + ("; no differential privacy is applied" if plan.privacy is None else ""),
            ],
        ),
        *([] if plan.privacy is None else [("What is promised about one " + plan.privacy.unit, _promise(plan, plan.privacy))]),
        ("What it costs", _costs(plan)),
        ("What the resolution costs", _resolution(plan) or ["nothing: the columns used are whole numbers or levels"]),
    ]


def disclosure_table(plan: Plan) -> Table:
    """One line for every kind of number that becomes clear."""
    rows = []
    for entry in plan.disclosures:
        times = "once" if entry.at_most == 1 else f"at most {entry.at_most:,}"
        rows.append([entry.formula, entry.step, f"{entry.count:,}", _precision(entry), times, " and ".join(entry.recipients)])
    return Table("", ["what", "step", "numbers", "precision", "times", "learnt by"], rows)


def _precision(entry: Disclosure) -> str:
    """Totals are exact, in so many bits; what is computed behind the wall is rounded."""
    if entry.resolution is None:
        return f"{entry.bits} bit{'s' * (entry.bits != 1)}"
    return "whole" if entry.resolution == 1 else f"to {float(entry.resolution):.0e}"


def _opens(plan: Plan) -> list[str]:
    total, most = plan.openings, max((step.at_most for step in plan.steps), default=1)
    recipients = " and ".join(f"the {name}" for name in plan.trust.recipients)
    verb = "learns" if len(plan.trust.recipients) == 1 else "learn"
    count = f"{'at most ' if most > 1 else ''}{total:,} number{'s' * (total != 1)}"
    what = (
        "computed over the owners who contribute"
        if any(is_sealed(step.cut) for step in plan.steps)
        else "totals over the owners who contribute"
    )
    return [f"{recipients} {verb} {count}, {what}, and nothing else:", *_unopened(plan), *_whole_numbers(plan)]


def _whole_numbers(plan: Plan) -> list[str]:
    """What the table's columns are summed as."""
    schema = plan.definition.schema
    columns = [schema[name] for name in plan.statistic.columns(schema)]
    lattices: dict[tuple[Fraction, Fraction], list[str]] = {}
    for column in columns:
        if column.is_numeric and (column.origin != 0 or column.lattice_step != 1):
            lattices.setdefault((column.lattice_step, column.origin), []).append(written(column.name))
    counted = [f"{' and '.join(names)} in steps of {_plain(step)} from {_plain(origin)}" for (step, origin), names in lattices.items()]
    lines = [f"columns are summed as whole numbers: {', '.join(counted)}"] if counted else []
    if any(", rescaled" in entry.formula for entry in plan.disclosures):
        lines.append("rescaled: columns are multiplied and shifted by public numbers first")
    return lines


def _unopened(plan: Plan) -> list[str]:
    """The totals behind what is computed."""
    levels = plan.definition.schema.level_names()
    totals = dict.fromkeys(total for step in plan.steps for total in behind(step.cut, levels))
    return [f"computed from totals that are opened to nobody: {'; '.join(totals)}"] if totals else []


def _promise(plan: Plan, privacy: Privacy) -> list[str]:
    source = next(step.source for step in plan.steps if step.source is not None)
    margins = [f"{name}: noise within {margin:,.4g} in 95 of 100 releases" for name, margin in privacy.margins.items()]
    for name, expected in privacy.expected.items():
        over = " / (number of rows)" if expected.over_rows else ""
        what = name if name.startswith("each ") else f"the {name}"
        margins.append(f"so noise moves {what} by at most {expected.value:,.4g}{over} in 95 of 100 releases")
    if any(step.at_most > 1 for step in plan.steps):
        margins.append(f"all {sum(step.at_most for step in plan.steps):,} openings together cost that, and keep the promise together")
    change = "more or less" if privacy.neighbours == ADD_REMOVE else "in place of another"
    return [
        f"(epsilon {privacy.epsilon:g}, delta {privacy.delta:g})-differential privacy: one {privacy.unit} {change} hardly changes what is opened",
        _placement(privacy.placement, source),
        privacy.mechanism,
        f"it costs rho = {float(privacy.rho):.4g} (zCDP) of each owner's budget; sigma {privacy.sigma:.4g} for each unit of sensitivity",
        *margins,
    ]


def _placement(placement: str, source: NoiseSource) -> str:
    """Who adds noise, and against whom the promise holds."""
    if source.site is NoiseSite.RECIPIENT:
        return (
            "weaker: noise enters after opening. Whoever is named above learns the exact totals and adds the noise itself; "
            "the promise holds for what is passed on, and not against whoever opened it"
        )
    if placement == LOCAL:
        return (
            "local: every owner adds noise that keeps the promise alone, whoever else colludes; "
            f"with all {source.count} the error is sqrt({source.count}) = {math.sqrt(source.count):.3g} times that of a single noise"
        )
    who = "owner" if source.site is NoiseSite.OWNERS else "compute server"
    excess = source.count / source.honest
    return (
        f"every {who} adds its own noise before anything is opened, enough that {source.honest} honest ones keep the promise; nobody ever holds "
        f"an exact total. With all {source.count} the error is sqrt({source.count}/{source.honest}) = {math.sqrt(excess):.3g} times that of a single noise"
    )


def _inferences(plan: Plan) -> tuple[str, ...]:
    sealed = [step for step in plan.steps if is_sealed(step.cut)]
    if not sealed:
        return plan.inferences
    # a statistic speaks of its totals, where it can be answered by opening them
    known = plan.inferences if all(step.at_most > 1 or _is_never_open(step) for step in sealed) else ()
    between = (
        ("two iterations, one after the other, give away the totals between them",) if any(step.at_most > 1 for step in sealed) else ()
    )
    return ("what follows from these numbers", *between, *known)


def _is_never_open(step: StepPlan) -> bool:
    """Whether the step is refused wherever totals would be opened in its place."""
    return step.step.must_hold or any(output.guarded for output in step.cut.circuit.outputs.values())


def _costs(plan: Plan) -> list[str]:
    bound = "at most " if any(step.at_most > 1 for step in plan.steps) else ""
    lines = [f"{bound}{plan.rounds:,} round{'s' * (plan.rounds != 1)}; {bound}{size(plan.bytes_per_owner)} sent and received by each owner"]
    if plan.definition.keeps_rows:
        lines = ["owners uploaded their rows before and may be offline"]
    said: dict[str, list[str]] = {}
    for step in plan.steps:
        for words in step.cost.passage() or (_ring_reason(step, plan),):
            said.setdefault(words, []).append(step.label)
    return lines + [f"step{'s' * (len(labels) > 1)} {', '.join(labels)}: {words}" for words, labels in said.items()]


def _ring_reason(step: StepPlan, plan: Plan) -> str:
    widest = max(step.disclosures, key=lambda entry: entry.bits, default=None)
    if widest is None:
        return "nothing private is opened"
    if widest.resolution is not None:
        return "results are rounded to the stated resolution before they are opened"
    rows = plan.definition.schema.max_rows * len(plan.definition.owners)
    noise = 0 if step.opens_exactly or step.noise is None or step.source is None else max(step.noise.tails) * step.source.count
    per_row = (max(abs(widest.lower), abs(widest.upper)) - noise) // rows
    reason = f"{len(plan.definition.owners)} owners x {plan.definition.schema.max_rows:,} rows x {_large(per_row)} per row"
    reason += ", and noise" if noise else ""
    return f"{widest.bits} bits hold the widest total ({reason}), so numbers travel modulo 2^{step.ring_bits}"


def _large(value: int) -> str:
    return f"{value:,}" if value < 10**9 else f"2^{math.log2(value):.1f}"


def _resolution(plan: Plan) -> list[str]:
    lines, negligible = [], []
    schema = plan.definition.schema
    for name in plan.statistic.columns(schema):
        column = schema[name]
        if column.kind not in ("continuous", "derived"):
            continue
        step, width = column.lattice_step, column.lattice_step * column.top
        share = 100 * float(step / width) / math.sqrt(12)
        if share < NEGLIGIBLE_PERCENT:
            negligible.append(written(name))
            continue
        lines.append(
            f"{written(name)} is rounded to {_plain(step)}: adds step^2/12 = {float(step**2 / 12):.2g} to its variance, "
            f"an error of {float(step) / math.sqrt(12):.2g} per value, {share:.2g} % of its range"
        )
    if negligible:
        lines.append(f"{', '.join(negligible)}: an error per value (step / sqrt(12)) of less than {NEGLIGIBLE_PERCENT} % of the range")
    return lines


def _plain(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{float(value):g}"


def size(count: int) -> str:
    """Bytes, for people."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count} bytes"
