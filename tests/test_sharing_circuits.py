"""Random circuits on shares against exact evaluation: every operation, with zeros, negatives, undefined values."""

import random
from fractions import Fraction

import numpy as np
import pytest

import veilstat as vs
from tests.sharing import integers
from tests.test_sharing_execute import agree
from veilstat.architectures.sharing.analysis import supports
from veilstat.language.bounds import Interval
from veilstat.language.circuit import Op, Output
from veilstat.language.cut import Entry, cut
from veilstat.language.trace import Trace, stack

SCHEMA = vs.Schema(vs.Integer("x", lower=0, upper=9), max_rows=100)
RES = Fraction(1, 2**20)


class Inputs:
    """Named totals with bounds, and values within them."""

    def __init__(self, seed):
        self.trace, self.source, self.values, self.public = Trace(SCHEMA, 3), random.Random(seed), {}, {}

    def total(self, shape, low, high, scale=Fraction(1), values=None):
        name = f"t{len(self.values)}"
        self.values[name] = self._drawn(shape, low, high) if values is None else integers(values)
        return self.trace.array(Op.LOCAL, name, shape, scale, Interval.of(low, high))

    def broadcast(self, shape, low, high, scale=Fraction(1), values=None):
        name = f"p{len(self.public)}"
        self.public[name] = self._drawn(shape, low, high) if values is None else integers(values)
        return self.trace.array(Op.PUBLIC, name, shape, scale, Interval.of(low, high))

    def _drawn(self, shape, low, high):
        pick = self.source
        edge = [low, high, max(low, 0), max(low, min(high, 1))]
        count = int(np.prod(shape, dtype=int))
        return integers([pick.choice(edge) if pick.random() < 0.3 else pick.randint(low, high) for _ in range(count)]).reshape(shape)

    def check(self, *values, resolution=RES):
        outputs = {f"y{i}": Output(value.index, None if value.node.scale is not None else resolution) for i, value in enumerate(values)}
        circuit = self.trace.finish(outputs)
        chosen = cut(circuit, Entry.TOTALS, supports)
        leaves = {place: self.values[str(node.attributes["name"])] for place, node in enumerate(circuit.nodes) if node.op is Op.LOCAL}
        return agree(chosen, leaves, self.public)


def grown(inputs, depth):
    """A random value of shape (3,) of about so many operations."""
    pick = inputs.source
    if depth == 0:
        kind = pick.randrange(4)
        if kind == 0:
            return inputs.total((3,), -(1 << pick.randint(0, 12)), 1 << pick.randint(0, 12), Fraction(1, pick.choice((1, 2, 5))))
        if kind == 1:
            return inputs.total((3,), 0, pick.choice((1, 3, 1000)))
        if kind == 2:
            return inputs.broadcast((3,), -9, 9, Fraction(1, pick.choice((1, 4))))
        return inputs.total((), -5, 20) + inputs.total((3,), 0, 3)
    a, b = grown(inputs, depth - 1), grown(inputs, pick.randrange(depth))
    match pick.randrange(11):
        case 0 | 1:
            return a + b
        case 2:
            return a - b
        case 3:
            return a * b
        case 4 | 5 | 6:
            return a / b
        case 7:
            return a.less(b).select(a, b)
        case 8:
            return a.equal(b).select(b, a) + a.less(b)
        case 9:
            return a[np.array([2, 0, 0])] - b.sum()
        case _:
            return stack(a[0], b[1:])


@pytest.mark.parametrize("seed", range(60))
def test_random_circuits_agree_with_exact_evaluation(seed):
    inputs = Inputs(seed)
    value = grown(inputs, 1 + seed % 4)
    if value.trace.nodes[value.index].op in (Op.PUBLIC, Op.CONSTANT):
        value = value + inputs.total((3,), 0, 5)
    inputs.check(value + inputs.total((3,), 0, 5))
