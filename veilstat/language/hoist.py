"""Iterations: totals that do not depend on what is carried are computed once, before the first round.

A residual is linear in the coefficients, so the total of ``x (x c - y)`` is ``(total of x x') c - (total of x y)``:
owners send two totals once, and every round is arithmetic on them. Where a total depends on the state in another
way (a logistic regression's), the rows themselves are needed in every round and the body stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from .circuit import Circuit, Node, Op
from .trace import Trace, Value


def hoist(body: Circuit, outer: Trace) -> tuple[Circuit, Mapping[str, Value]]:
    """The body without rows, and the totals that it needs as values of ``outer``, by name.

    The body is returned as it is, with no totals, where one of its totals is not linear in the state.
    """
    hoisting = _Hoisting(body, outer)
    try:
        return hoisting.run(), hoisting.totals
    except _NotLinearError:
        return body, {}


class _NotLinearError(Exception):
    """A total needs the rows again in every round."""


class _Hoisting:
    def __init__(self, body: Circuit, outer: Trace) -> None:
        self.body, self.outer = body, outer
        self.inner = Trace(outer.schema, outer.owners)
        self.totals: dict[str, Value] = {}
        self.within: dict[int, Value] = {}
        self.without: dict[int, Value] = {}
        self.fixed: list[bool] = []
        for node in body.nodes:
            self.fixed.append(node.op is not Op.STATE and all(self.fixed[arg] for arg in node.args))

    def run(self) -> Circuit:
        return self.inner.finish(
            {name: replace(output, node=self._copy_within(output.node).index) for name, output in self.body.outputs.items()}
        )

    def _copy_within(self, place: int) -> Value:
        if place not in self.within:
            node = self.body.nodes[place]
            if node.rows:
                raise _NotLinearError
            self.within[place] = self._total(*node.args) if node.op is Op.INNER else _copy(self.inner, node, self._copy_within)
        return self.within[place]

    def _copy_without(self, place: int) -> Value:
        if place not in self.without:
            self.without[place] = _copy(self.outer, self.body.nodes[place], self._copy_without)
        return self.without[place]

    def _total(self, a: int, b: int) -> Value:
        if self.fixed[a] and self.fixed[b]:
            return self._fixed_total(a, b)
        if self.fixed[b]:
            turned = self._total(b, a)
            return turned.T if len(turned.shape) == 2 else turned
        node = self.body.nodes[b]
        if not self.fixed[a]:
            raise _NotLinearError
        sources = [self.body.nodes[arg] for arg in node.args]
        match node.op:
            case Op.ADD | Op.SUBTRACT if all(source.rows and source.shape == node.shape for source in sources):
                first, second = (self._total(a, arg) for arg in node.args)
                return first + second if node.op is Op.ADD else first - second
            case Op.MATMUL if sources[0].rows and not sources[1].rows:
                return self._total(a, node.args[0]) @ self._copy_within(node.args[1])
            case Op.MULTIPLY if sources[0].rows and not sources[1].rows and sources[1].shape == ():
                return self._total(a, node.args[0]) * self._copy_within(node.args[1])
        raise _NotLinearError

    def _fixed_total(self, a: int, b: int) -> Value:
        total = self._copy_without(a).inner(self._copy_without(b))
        name = next((known for known, value in self.totals.items() if value.index == total.index), f"fixed{len(self.totals)}")
        self.totals[name] = total
        assert total.node.scale is not None and total.node.bounds is not None
        return self.inner.array(Op.STATE, name, total.shape, total.node.scale, total.node.bounds)


def _copy(trace: Trace, node: Node, copied: Callable[[int], Value]) -> Value:
    args = tuple(copied(arg) for arg in node.args)
    return trace.add_node(node.op, args, node.attributes, node.shape, node.scale, node.bounds)
