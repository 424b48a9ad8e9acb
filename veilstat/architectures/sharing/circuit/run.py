"""One server's run of a circuit: what all tasks know, and the keys of tasks that are needed by others.

A task is found by its key, a kind of task and what it works on:

    ("node", place)                                 numerators of a node
    ("aligned", place, scale, denominators, shape)  the same on a finer scale and over multiples of its denominators
    ("denominators", numbers, shape)                values of denominators, and ("denominator", number) of one
    ("system", name)                                the solution of a linear system
    ("chosen", place)                               denominators of a SELECT between values with different ones
    ("flag", place)                                 whether an iteration ends
    ("opening", number)                             integers that are opened
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from veilstat.language.circuit import Node

from ..protocols.araki16 import Shares
from ..protocols.field import Field
from ..protocols.prss import Party
from .mixed import Value, as_shares
from .ranges import Ranges
from .rational import Places


@dataclass(frozen=True, slots=True)
class Run:
    """What a server's tasks know of one circuit; see ``execute`` for what is what.

    ``domain`` is the field of all shares: the circuit's own, or that of the circuit in which it is an iteration's body.
    """

    known: Ranges
    domain: Field
    leaves: Mapping[int, Value] = field(repr=False)
    public: Mapping[str, npt.NDArray[Any]] = field(repr=False)
    party: Party

    @property
    def nodes(self) -> tuple[Node, ...]:
        return self.known.circuit.nodes

    def shares(self, value: Value) -> Shares:
        """The value as a sharing."""
        return as_shares(self.party, self.domain, value)

    def on(self, place: int, scale: Fraction, common: Places) -> Hashable:
        """The task of a node's numerators on a finer scale and over multiples of its denominators."""
        return ("aligned", place, scale, common.tobytes(), common.shape)

    def uniform(self, place: int) -> Hashable:
        """The task of a node's numerators over one denominator for all elements."""
        form = self.known.forms[place]
        return self.on(place, form.scale, np.full(form.shape, self.known.denominators.common_of_all(form.denominators)))

    def below(self, numbers: Places) -> Hashable:
        """The task of values of denominators."""
        return ("denominators", numbers.tobytes(), numbers.shape)
