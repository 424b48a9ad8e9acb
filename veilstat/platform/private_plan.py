"""The part of a plan that differential privacy adds: which form is run, how much noise, and what that does to the answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from veilstat.dp.mechanism import BEFORE_OPENING, Gaussian, NoiseShare, calibrate
from veilstat.dp.sensitivity import owner_blocks, row_blocks
from veilstat.language.circuit import Circuit, Op
from veilstat.language.cut import Cut
from veilstat.language.disclosure import NoiseSource
from veilstat.language.errors import CapabilityError
from veilstat.language.schema import Schema
from veilstat.language.step import Form, HasPrivateForm, Statistic

_NORMAL_95 = 1.959964


@dataclass(frozen=True, slots=True)
class Privacy:
    """What a release promises and what that costs in accuracy.

    Args:
        epsilon, delta, unit: the promise. mechanism: how it is kept.
        sigma: the noise's standard deviation for each unit of joint sensitivity, from as few honest parties as may add theirs.
        rho: what the release costs in zCDP, which ledgers add up.
        margins: for each opened number, in its own units (codes of columns): the noise's 95 % margin when all add theirs.
        placement: where noise enters.
    """

    epsilon: float
    delta: float
    unit: str
    mechanism: str
    sigma: float
    rho: Fraction
    margins: Mapping[str, float]
    placement: str = BEFORE_OPENING

    @property
    def promise(self) -> tuple[float, float]:
        """(epsilon, delta)."""
        return self.epsilon, self.delta


def private_form(statistic: Statistic[Any], schema: Schema) -> Form[Any]:
    """The form of a statistic that is run with noise.

    Raises:
        CapabilityError: the statistic cannot be private yet.
    """
    if not isinstance(statistic, HasPrivateForm):
        raise CapabilityError(
            f"{statistic.name} has no form yet whose errors account for noise; with privacy= there are count, sum, mean, histogram and crosstab",
            code="no_private_form",
        )
    return statistic.private(schema)


def calibrate_noise(cut: Cut, promise: Gaussian, source: NoiseSource, schema: Schema) -> NoiseShare:
    """Noise such that the honest parties who surely add theirs keep the promise without the others' shares."""
    _require_plain(cut.circuit, cut)
    blocks = row_blocks(cut) if promise.privacy_unit == "row" else owner_blocks(cut, schema.max_rows)
    return calibrate(promise, blocks, source.honest)


def describe_privacy(cut: Cut, promise: Gaussian, noise: NoiseShare, schema: Schema, source: NoiseSource) -> Privacy:
    """What a plan and a result say about a release."""
    names = [cut.circuit.express(opening.node, schema.level_names()) for opening in cut.openings]
    margins = {name: _NORMAL_95 * math.sqrt(share * source.count) for name, share in zip(names, noise.shares, strict=True)}
    return Privacy(
        promise.epsilon,
        promise.delta,
        promise.privacy_unit,
        noise.mechanism,
        math.sqrt(1 / (2 * noise.rho)),
        noise.rho,
        margins,
        promise.placement,
    )


def _require_plain(circuit: Circuit, cut: Cut) -> None:
    """Answers are what is opened, moved about and no more, so that the noise in them is known."""
    opened = frozenset(opening.node for opening in cut.openings)
    for place in circuit.needed(tuple(output.node for output in circuit.outputs.values()), stop=opened):
        node = circuit.nodes[place]
        if node.scale != 1 or (place not in opened and node.op not in (Op.INDEX, Op.CONCATENATE)):
            raise CapabilityError(
                "noise is calibrated for totals that are opened as they are; leave out min_cell= and its like", code="no_private_form"
            )
