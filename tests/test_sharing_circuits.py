"""Random circuits on shares against exact evaluation: every operation, with zeros, negatives, undefined values."""

import random
from fractions import Fraction

import numpy as np
import pytest

import veilstat as vs
from tests.sharing import integers
from tests.test_sharing_execute import agree, on_shares
from veilstat.architectures.sharing.circuit.analysis import ranges, supports
from veilstat.architectures.sharing.protocols.division import OUT_OF_RANGE, UNDEFINED
from veilstat.errors import CapabilityError
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
        return self.trace.array(Op.STATE, name, shape, scale, Interval.of(low, high))

    def broadcast(self, shape, low, high, scale=Fraction(1), values=None):
        name = f"p{len(self.public)}"
        self.public[name] = self._drawn(shape, low, high) if values is None else integers(values)
        return self.trace.array(Op.PUBLIC, name, shape, scale, Interval.of(low, high))

    def _drawn(self, shape, low, high):
        pick = self.source
        edge = [low, high, max(low, 0), max(low, min(high, 1))]
        count = int(np.prod(shape, dtype=int))
        return integers([pick.choice(edge) if pick.random() < 0.3 else pick.randint(low, high) for _ in range(count)]).reshape(shape)

    def cut(self, outputs):
        circuit = self.trace.finish(outputs)
        chosen = cut(circuit, Entry.TOTALS, supports)
        leaves = {place: self.values[str(node.attributes["name"])] for place, node in enumerate(circuit.nodes) if node.op is Op.STATE}
        return chosen, leaves

    def check(self, *values, resolution=RES):
        outputs = {f"y{i}": Output(value.index, None if value.node.scale is not None else resolution) for i, value in enumerate(values)}
        chosen, leaves = self.cut(outputs)
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
        return inputs.total((), -5, 20) / inputs.total((3,), 0, 3)
    a, b = grown(inputs, depth - 1), grown(inputs, pick.randrange(depth))
    match pick.randrange(11):
        case 0 | 1:
            return a + b
        case 2:
            return a - b
        case 3:
            return a * b + b.sum() / a
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


def test_rounding_is_half_up_and_exact():
    inputs = Inputs(1)
    values = [-5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5]
    a = inputs.total((11,), -5, 5, values=values)
    divisor = inputs.total((), 1, 4, values=2)
    public = inputs.broadcast((), 1, 4, values=2)
    rounded = [(a / d).round(Fraction(1), Fraction(-9), Fraction(9)) for d in (divisor, public, 2)]
    found, _, _ = inputs.check(*rounded)
    assert found == [-2, -2, -1, -1, 0, 0, 1, 1, 2, 2, 3] * 3


@pytest.mark.parametrize("value,divisor", [(90, 1), (91, 1), (-90, 1), (-91, 1), (1, 0), (0, 0), (4000, -1)])
def test_rounding_outside_its_bounds_marks_every_result(value, divisor):
    """Clear evaluation refuses with an error there; servers learn nothing, and the analyst sees marks alone."""
    for shared in (True, False):
        inputs = Inputs(2)
        a, other = inputs.total((), -5000, 5000, values=value), inputs.total((), 0, 9, values=7)
        d = inputs.total((), -9, 9, values=divisor) if shared else inputs.broadcast((), -9, 9, values=divisor)
        rounded = (a / d).round(Fraction(1), Fraction(-90), Fraction(90))
        outputs = {"y": Output(rounded.index), "z": Output(((rounded + 1) / other).index, RES), "w": Output(other.index)}
        chosen, leaves = inputs.cut(outputs)
        inside = divisor and abs(value) <= 90
        if inside:
            agree(chosen, leaves, inputs.public)
        else:
            assert on_shares(chosen, leaves, inputs.public)[0] == [OUT_OF_RANGE] * 3


@pytest.mark.parametrize("seed", range(6))
def test_systems_of_rationals_solved_in_turn(seed):
    """A system over denominators, solved for shared and public right sides and for what follows from a solution."""
    inputs = Inputs(seed)
    matrix, weight = inputs.total((3, 3), -50, 50), inputs.total((3,), 1, 9)
    right, known = inputs.total((3,), -20, 20, Fraction(1, 3)), inputs.broadcast((3, 2), -3, 3)
    a = matrix / (weight if seed % 2 else inputs.total((), 1, 6))
    first = a.solve(right)
    second = a.solve(first / weight)
    third = a.solve(known)
    inputs.check(first, second, third, (a @ first).sum() - right.sum(), (first * second).sum() / weight)


def test_public_systems_with_shared_right_sides():
    inputs = Inputs(12)
    matrix = inputs.broadcast((2, 2), -9, 9, values=[[2, 1], [1, 3]])
    solution = matrix.solve(inputs.total((2,), -99, 99, values=[5, -7]))
    inputs.check(solution, solution @ matrix)


def test_systems_with_undefined_entries_have_undefined_solutions():
    inputs = Inputs(9)
    matrix, right = inputs.total((2, 2), -9, 9, values=[[1, 2], [3, 4]]), inputs.total((2,), 0, 9, values=[1, 1])
    zero = inputs.total((), 0, 3, values=0)
    solutions = [(matrix / zero).solve(right), matrix.solve(right / zero)]
    chosen, leaves = inputs.cut({f"y{i}": Output(value.index, RES) for i, value in enumerate(solutions)})
    assert on_shares(chosen, leaves, {})[0] == [UNDEFINED] * 4


def test_large_numbers_meet_the_limit():
    inputs = Inputs(7)
    a = inputs.total((6,), -(1 << 150), 1 << 150, values=[1 << 150, -(1 << 150), 1 << 108, (1 << 108) - 1, -(1 << 108), -(1 << 108) - 1])
    found, _, _ = inputs.check(a / inputs.total((), 0, 3, values=1), a / 1)
    assert found[:6] == [OUT_OF_RANGE, OUT_OF_RANGE, OUT_OF_RANGE, ((1 << 108) - 1) << 20, -(1 << 128), OUT_OF_RANGE]


def test_comparisons_of_undefined_values_are_false():
    inputs = Inputs(8)
    n = inputs.total((4,), 0, 3, values=[0, 1, 2, 3])
    a = inputs.total((4,), -3, 3, values=[1, -1, 2, 3]) / n
    inputs.check(a.less(1), a.equal(1), (0 - a).less(a), a.equal(a), a.less(1).select(a, n), n.less(1).select(n, a))


def test_what_servers_cannot_do_is_refused_with_words():
    trace = Trace(SCHEMA, 3)
    total = trace.array(Op.STATE, "t", (2,), Fraction(1), Interval.of(0, 9))
    logistic = total.apply("logistic", Fraction(1, 8), Fraction(0), Fraction(1))
    chosen = cut(trace.finish({"y": Output(logistic.index)}), Entry.TOTALS, lambda facts: True)
    with pytest.raises(CapabilityError, match="function"):
        ranges(chosen)


def iteration(limit, times, inputs):
    """Heron's square root of a total over a count, on a lattice: x <- (x + a / (n x)) / 2 until two iterates agree."""
    lattice, body = Fraction(1, 2**16), Trace(SCHEMA, 3)
    bounds = Interval.of(0, limit << 16)
    x = body.array(Op.STATE, "x", (2,), lattice, bounds)
    a, n = (body.array(Op.STATE, name, (2,), Fraction(1), Interval.of(0, 10**6)) for name in ("fixed0", "fixed1"))
    shift = body.array(Op.PUBLIC, "shift", (), Fraction(1), Interval.of(-3, 3))
    following = ((x + a / (n * x)) / 2 + shift).round(lattice, Fraction(0), Fraction(limit))
    counter = body.array(Op.STATE, "k", (), Fraction(1), Interval.of(0, times))
    same = (following - x).equal(0).sum().equal(2)
    outputs = {"x": Output(following.index), "done": Output(same.index), "k": Output((counter + 1).index)}
    circuit = body.finish(outputs)
    start = {
        "x": inputs.trace.array(Op.PUBLIC, "x", (2,), lattice, bounds),
        "k": inputs.trace.array(Op.PUBLIC, "k", (), Fraction(1), Interval.of(0, times)),
        "fixed0": inputs.total((2,), 0, 10**6, values=[200, 450]),
        "fixed1": inputs.total((2,), 0, 10**6, values=[1, 2]),
    }
    inputs.public |= {"x": integers([5 << 16, 9 << 16]), "k": integers(0), "shift": integers(0)}
    return inputs.trace.iterate(circuit, start, times)


def test_iterations_stop_where_they_stop_in_the_clear():
    for times in (1, 3, 20):
        inputs = Inputs(3)
        final = iteration(1000, times, inputs)
        found, _, _ = inputs.check(final, resolution=Fraction(1, 2**16))
        assert found[-1] >> 16 == min(times, 6)
        if times == 20:
            assert [round(value / 2**16, 3) for value in found[1:3]] == [14.142, 15.0]
            assert (found[0], found[3]) == (6 << 16, 1 << 16)


def test_an_iteration_that_leaves_its_bounds_opens_marks_alone():
    inputs = Inputs(3)
    final = iteration(12, 5, inputs)
    chosen, leaves = inputs.cut({"y": Output(final.index, Fraction(1, 2**16))})
    assert set(on_shares(chosen, leaves, inputs.public)[0]) == {OUT_OF_RANGE}


def test_the_field_has_room_for_every_mask():
    """Numbers far above those of divisions: comparisons, equalities, roundings and systems of 500 bits."""
    inputs = Inputs(10)
    high = 1 << 500
    a = inputs.total((3,), -high, high, values=[high, -high, 5])
    b = inputs.total((3,), -high, high, values=[-high, -high, 6])
    matrix = inputs.total((2, 2), -high, high, values=[[high, 1], [1, -high]])
    inputs.check(a.less(b))
    inputs.check(a.equal(b))
    inputs.check((a / 3).round(Fraction(1), Fraction(-high), Fraction(high)))
    inputs.check(matrix.solve(matrix[:, 0]), (a / inputs.total((), 1, 3, values=3)).less(b))


def test_sums_over_one_denominator_leave_it_as_it_is():
    inputs = Inputs(11)
    n = inputs.total((), 1, 1 << 20, values=12345)
    parts = [inputs.total((), 0, 1 << 30) / n for _ in range(20)]
    total = sum(parts[1:], parts[0])
    _, _, known = inputs.check(total, parts[0] - parts[1], total * total - parts[2])
    assert {len(monomial) for monomial in known.denominators.monomials} == {0, 1}
    assert max(power for monomial in known.denominators.monomials for _, power in monomial) == 2


def test_different_resolutions_share_one_normalisation():
    inputs = Inputs(13)
    a, n = inputs.total((3,), -1000, 1000, Fraction(1, 5), values=[-1000, 7, 1000]), inputs.total((), 0, 50, values=48)
    resolutions = [Fraction(1, 3), Fraction(2, 7), Fraction(5), Fraction(1, 1 << 30)]
    outputs = {f"y{i}": Output(((a + i) / n).index, resolution) for i, resolution in enumerate(resolutions)}
    chosen, leaves = inputs.cut(outputs)
    agree(chosen, leaves)
    assert len(ranges(chosen).openings) == 1
