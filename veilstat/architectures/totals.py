"""An owner's side of the entry wall: the cut's totals over its own rows, with noise where it is due, checked against their bounds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from veilstat.errors import RangeError
from veilstat.language.cut import Cut
from veilstat.language.evaluate import evaluate

from .interface import Contribution, StepBinding


def owner_totals(binding: StepBinding, contribution: Contribution, cut: Cut) -> npt.NDArray[np.object_]:
    """What this owner adds to every number of ``cut`` (what is opened, or what servers go on from), in its order.

    Raises:
        RangeError: a number leaves this owner's part of the bounds that the plan's ring was computed from.
    """
    totals = cut.flatten(evaluate(cut.circuit, cut.nodes, rows=contribution.rows, inputs=binding.public, known={}))
    vector = np.asarray(totals + contribution.noise(cut.size), dtype=object)
    owners = len(binding.owners)
    low, high = np.array(cut.lower, dtype=object), np.array(cut.upper, dtype=object)
    if not ((low <= vector * owners) & (vector * owners <= high)).all():
        raise RangeError(
            "a total exceeds the bounds that the plan was computed from; check max_rows and the columns' bounds", code="overflow"
        )
    return vector
