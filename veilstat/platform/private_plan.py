"""The part of a plan that differential privacy adds: which form is run, who adds how much noise, and what that does to the answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from veilstat.architectures.interface import NoiseSite, NoiseSource
from veilstat.dp.mechanism import AFTER_OPENING, LOCAL, Gaussian, NoiseShare, calibrate, calibrate_openings
from veilstat.dp.sensitivity import Block, owner_blocks, row_blocks
from veilstat.errors import CapabilityError, SchemaError
from veilstat.language.answers import answers
from veilstat.language.circuit import Circuit, Op
from veilstat.language.cut import Cut
from veilstat.schema.schema import Schema
from veilstat.statistics.interface import Form, HasExpectedErrors, HasPrivateForm, Statistic

from .definition import Definition
from .disclosure import describe

_NORMAL_95 = 1.959964


@dataclass(frozen=True, slots=True)
class Privacy:
    """What a release promises and what that costs in accuracy.

    Args:
        epsilon, delta, unit, neighbours: the promise. mechanism: how it is kept.
        sigma: the noise's standard deviation for each unit of joint sensitivity, from as few honest parties as may add theirs.
        rho: what all openings of the release cost in zCDP, which ledgers add up.
        margins: for each opened number by its words, in its own units (codes of columns): the noise's 95 % margin when all add
            theirs; the widest of those that have the same words.
        expected: for each released number in its units: the 95 % margin that noise gives it then, at most; empty where that
            depends on the data in more ways than by the number of rows.
        placement: where noise enters.
    """

    epsilon: float
    delta: float
    unit: str
    neighbours: str
    mechanism: str
    sigma: float
    rho: Fraction
    margins: Mapping[str, float]
    expected: Mapping[str, Margin]
    placement: str

    @property
    def promise(self) -> tuple[float, float]:
        """(epsilon, delta)."""
        return self.epsilon, self.delta

    def margin(self, rows: int | None = None) -> float:
        """The largest expected margin; ``rows``: how many are thought to enter, where margins are divided by them.

        Raises:
            CapabilityError: it depends on the data in more ways. SchemaError: it depends on ``rows``.
        """
        if not self.expected:
            raise CapabilityError("how far noise moves this answer depends on the data, and is not known before release", code="no_margin")
        if rows is None and any(margin.over_rows for margin in self.expected.values()):
            raise SchemaError(
                "noise in this answer is divided by the number of rows; say how many you expect: rows=1000", code="needs_rows"
            )
        return max(margin.value / (rows or 1) if margin.over_rows else margin.value for margin in self.expected.values())


@dataclass(frozen=True, slots=True)
class Margin:
    """How far noise moves a released number in 95 of 100 releases; ``over_rows``: divided by the number of rows that enter."""

    value: float
    over_rows: bool


def private_form(statistic: Statistic[Any], schema: Schema) -> Form[Any]:
    """The form of a statistic that is run with noise.

    Raises:
        CapabilityError: the statistic cannot be private yet.
    """
    if not isinstance(statistic, HasPrivateForm):
        raise CapabilityError(
            f"{statistic.name} has no private form yet, one whose errors account for noise; ask without privacy=, or for another statistic",
            code="no_private_form",
        )
    return statistic.private(schema)


def noise_source(promise: Gaussian, definition: Definition) -> NoiseSource:
    """Who adds noise where a promise has it enter, and how many of them surely do: the architecture's choice, every owner alone, or the recipient.

    Raises:
        CapabilityError: the architecture has nobody who could add it there.
    """
    if promise.placement == AFTER_OPENING:
        return NoiseSource(NoiseSite.RECIPIENT, 1, 1)
    source = definition.trust.noise
    if promise.placement == LOCAL:
        if source is not None and source.site is NoiseSite.SERVERS:
            raise CapabilityError(
                "owners whose rows are with the compute servers add no noise of their own (placement='local'); leave placement out, "
                "or let owners send totals (entry='totals')",
                code="no_local_noise",
            )
        return NoiseSource(NoiseSite.OWNERS, len(definition.owners), 1)
    if source is None:
        raise CapabilityError(
            f"on the architecture {definition.architecture.name!r} as it is configured, nobody is sure to add noise before anything is opened; "
            "use another one, or placement='local' or 'after_opening'",
            code="no_noise_site",
        )
    return source


def calibrate_noise(
    cuts: Sequence[Cut],
    multiples: Sequence[tuple[int, ...]],
    times: Sequence[int],
    promise: Gaussian,
    source: NoiseSource,
    schema: Schema,
) -> tuple[tuple[NoiseShare, ...], Fraction]:
    """Noise such that the honest parties who surely add theirs keep the promise without the others' shares.

    Args:
        cuts: what each step opens. multiples: for each of its numbers an integer that it is known to be a multiple of, and its
            noise is to be; empty where there is none but 1. times: how often each is opened; all openings together keep the
            promise, as they compose in zCDP even where a later one depends on an earlier one.

    Returns:
        The noise of one opening of each step, and what all of them cost.
    """
    blocks = []
    for cut, steps in zip(cuts, multiples, strict=True):
        _require_plain(cut.circuit, cut)
        by_row = promise.privacy_unit == "row"
        found = row_blocks(cut, promise.neighbours) if by_row else owner_blocks(cut, schema.max_rows, promise.neighbours)
        blocks.append(_with_steps(found, steps))
    whole = [block for part, count in zip(blocks, times, strict=True) for _ in range(count) for block in part]
    noise = (calibrate if sum(times) == 1 else calibrate_openings)(promise, whole, source.honest)
    rest = noise.rho - sum(_rho(noise, place) for place in range(len(whole)))
    noises, start = [], 0
    for part, count in zip(blocks, times, strict=True):
        places = range(start, start + len(part))
        share = Fraction(sum(block.size for block in part), sum(block.size for block in whole))
        cost = sum((_rho(noise, place) for place in places), rest * share)
        noises.append(replace(noise, blocks=part, shares=noise.shares[places.start : places.stop], rho=cost))
        start += count * len(part)
    return tuple(noises), noise.rho


def _with_steps(blocks: tuple[Block, ...], steps: tuple[int, ...]) -> tuple[Block, ...]:
    """Blocks whose numbers are multiples of ``steps``, which are in the order in which they travel."""
    if not steps:
        return blocks
    starts = accumulate((block.size for block in blocks), initial=0)
    parts = [steps[start : start + block.size] for start, block in zip(starts, blocks, strict=False)]
    return tuple(replace(block, steps=part if max(part) > 1 else ()) for block, part in zip(blocks, parts, strict=True))


def _rho(noise: NoiseShare, place: int) -> Fraction:
    """What one block costs in zCDP, but for the distance of a sum of discrete Gaussians from one."""
    return noise.blocks[place].squared_sensitivity / (2 * noise.honest * noise.shares[place])


def answer_noise(cut: Cut, noise: NoiseShare | None, shares: int) -> dict[str, npt.NDArray[np.object_]]:
    """Variances of the noise in each answer: answers are opened numbers, moved about, each with so many shares of noise."""
    if noise is None:
        return {}
    moved = answers(cut, np.arange(cut.size).astype(object), {}, cut.answers)
    variances = np.array([share * shares for share in noise.variances], dtype=object)
    return {name: variances[places.reshape(-1).astype(np.int64)].reshape(places.shape) for name, places in moved.items()}


def describe_privacy(
    form: Form[Any],
    cuts: Sequence[Cut],
    noises: Sequence[NoiseShare],
    rho: Fraction,
    promise: Gaussian,
    schema: Schema,
    source: NoiseSource,
) -> Privacy:
    """What a plan and a result say about a release."""
    margins: dict[str, float] = {}
    variances: dict[str, npt.NDArray[np.object_]] = {}
    for cut, noise in zip(cuts, noises, strict=True):
        names = [describe(cut, opening, schema.level_names()) for opening in cut.openings]
        for name, share in zip(names, noise.shares, strict=True):
            margins[name] = max(margins.get(name, 0.0), _NORMAL_95 * math.sqrt(share * source.count))
        variances |= answer_noise(cut, noise, source.count)
    errors = form.expected(schema, variances) if isinstance(form, HasExpectedErrors) else {}
    expected = {name: Margin(_NORMAL_95 * noise.error, noise.over_rows) for name, noise in errors.items()}
    sigma, mechanism = math.sqrt(1 / (2 * rho)), noises[0].mechanism
    return Privacy(
        promise.epsilon, promise.delta, promise.privacy_unit, promise.neighbours, mechanism, sigma, rho, margins, expected, promise.placement
    )  # fmt: skip


def _require_plain(circuit: Circuit, cut: Cut) -> None:
    """Answers are what is opened, moved about and no more, so that the noise in them is known."""
    opened = frozenset(cut.nodes)
    for place in circuit.needed(tuple(output.node for output in circuit.outputs.values()), stop=opened):
        node = circuit.nodes[place]
        if node.scale != 1 or (place not in opened and node.op not in (Op.INDEX, Op.CONCATENATE)):
            raise CapabilityError(
                "noise is calibrated for totals that are opened as they are, and this query computes with them first; ask for the totals",
                code="no_private_form",
            )
