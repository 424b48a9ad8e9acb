"""How much servers send for a circuit, before there are data: lengths depend on nothing but the circuit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from veilstat.language.circuit import Circuit, Op

from ..protocols.araki16 import random_shares
from ..protocols.prss import KEY_BYTES, Party, Prss
from .analysis import LEAVES
from .execute import execute
from .ranges import Ranges


@dataclass(frozen=True, slots=True)
class Traffic:
    """What each server sends at most: messages, and their payload in bytes."""

    rounds: int
    payload: int


def traffic(known: Ranges) -> Traffic:
    """The traffic of ``execute``: one server runs on arbitrary shares, with arbitrary answers of the right lengths.

    An iteration then ends after its first round, so that everything counts as often as it may run.
    """
    party = Party(0, Prss(bytes(KEY_BYTES), bytes([1] * KEY_BYTES)))
    nodes = known.circuit.nodes
    leaves = {place: random_shares(party, known.field, nodes[place].shape) for place in known.forms if nodes[place].op in LEAVES}
    protocol, lengths = execute(known, leaves, _zeros(known.circuit), party), []
    try:
        payload = next(protocol)
        while True:
            lengths.append(len(payload))
            payload = protocol.send(bytes(len(payload)))
    except StopIteration:
        times = max((_times(known.circuit, place) for place in known.bodies), default=1)
        return Traffic(times * len(lengths), times * sum(lengths))


def _times(circuit: Circuit, place: int) -> int:
    loop = circuit.nodes[place].loop
    assert loop is not None
    return loop.times


def _zeros(circuit: Circuit) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.object_]]]:
    """Public values of the right shapes, in the circuit and in the bodies of its iterations."""
    found = {}
    for node in circuit.nodes:
        if node.op is Op.PUBLIC:
            found[node.name] = np.zeros(node.shape, dtype=object)
        if node.loop is not None:
            found |= _zeros(node.loop.body)
    return found
