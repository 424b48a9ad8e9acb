"""What follows from what was opened: the public arithmetic behind the exit wall."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from .bounds import Objects, objects
from .cut import Cut
from .evaluate import NoRows, Solver, evaluate, no_solver
from .operations import Array


def answers(cut: Cut, opened: Objects, inputs: Mapping[str, Array], names: Iterable[str], solve: Solver = no_solver) -> dict[str, Objects]:
    """Answers of a step by name, as exact rationals.

    Args:
        opened: the opened numbers, in the cut's order. inputs: PUBLIC arrays, as integers on their scales.
        names: those of ``cut.answers`` that are wanted.

    Raises:
        SingularMatrix: a system among them has no unique solution. RangeError: a value left its declared range.
    """
    places = {name: cut.circuit.outputs[name].node for name in names}
    computed = evaluate(cut.circuit, tuple(places.values()), rows=NoRows(), inputs=inputs, known=cut.unflatten(opened), solve=solve)
    found = {}
    for name, place in places.items():
        scale, value = cut.circuit.nodes[place].scale, objects(computed[place])
        found[name] = value if scale in (None, 1) else np.asarray(scale * value, dtype=object)
    return found
