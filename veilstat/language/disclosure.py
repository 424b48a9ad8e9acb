"""Disclosures: what becomes clear, to whom and how often, computed from the cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from .circuit import Op
from .cut import SEALING, Cut
from .wording import express


class NoiseSite(StrEnum):
    """Where noise enters, after clipping and the linear prefix: before anything is opened, but for the recipient's."""

    NONE = "none"
    OWNERS = "owners"
    SERVERS = "servers"
    RECIPIENT = "recipient"


@dataclass(frozen=True, slots=True)
class NoiseSource:
    """Who adds noise to what is opened, each on its own.

    Args:
        site: where they stand. count: how many they are at most.
        honest: how many of them add theirs for sure and tell nobody, whoever else pools what he knows.
    """

    site: NoiseSite
    count: int
    honest: int

    def __post_init__(self) -> None:
        if self.site is NoiseSite.NONE or not 1 <= self.honest <= self.count:
            raise ValueError("noise comes from somebody, of whom at least one is honest")

    def adding(self, contributors: int) -> int:
        """How many shares of noise are in a release over so many owners."""
        return contributors if self.site is NoiseSite.OWNERS else self.count


@dataclass(frozen=True, slots=True)
class Disclosure:
    """Numbers that become clear together.

    Args:
        step: the step that opens them. formula: what they are. count: how many numbers, per opening.
        bits: of the widest; lower, upper: bounds of the integers; resolution: of a rounded rational, else None.
        recipients: who learns them. at_most: how many times.
        control: they say how the computation went, and are not among the opened numbers of the step.
    """

    step: str
    formula: str
    count: int
    bits: int
    lower: int
    upper: int
    resolution: Fraction | None
    recipients: tuple[str, ...]
    at_most: int
    control: bool = False


def disclosures(
    step: str, cut: Cut, levels: Mapping[str, tuple[str, ...]], recipients: tuple[str, ...], computing: tuple[str, ...], at_most: int
) -> tuple[Disclosure, ...]:
    """One entry for every node of the cut; ``levels`` names the codes of categorical columns, ``computing`` are those
    who compute behind the wall and see how it goes.
    """
    found, start = [], 0
    for opening in cut.openings:
        stop = start + len(opening.elements)
        low, high = min(cut.lower[start:stop]), max(cut.upper[start:stop])
        formula = _named(cut, opening.node, express(cut.circuit, opening.node, levels))
        if opening.rooted:
            formula = f"signed root of {formula}"
        count = stop - start
        found.append(Disclosure(step, formula, count, (high - low).bit_length(), low, high, opening.resolution, recipients, at_most))
        start = stop
    everybody = (*recipients, *computing)
    if cut.solves:
        most = max(node.shape[0] for node in cut.circuit.nodes if node.op is Op.SOLVE)
        text = "whether the system has a unique solution, or else its rank"
        found.append(Disclosure(step, text, 1, most.bit_length(), 0, most, None, everybody, at_most, control=True))
    if cut.iterates and computing:
        found.append(Disclosure(step, "how many iterations ran", 1, 32, 0, (1 << 32) - 1, None, everybody, at_most, control=True))
    return tuple(found)


def _named(cut: Cut, place: int, formula: str) -> str:
    """An answer goes by its name where servers compute it, or where how it is computed is too long to be read."""
    node, names = cut.circuit.nodes[place], [name for name, output in cut.circuit.outputs.items() if output.node == place]
    is_total = node.op not in SEALING and node.scale is not None
    if not names or (is_total and "…" not in formula):
        return formula
    short = formula if len(formula) <= _LONGEST else formula[: _LONGEST - 1] + "…"
    return f"{names[0]}: {short}"


_LONGEST = 36
