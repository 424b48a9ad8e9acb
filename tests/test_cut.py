"""The exit wall: what is opened and sent follows from the arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import veilstat as vs
from veilstat.language.circuit import Op
from veilstat.language.cut import Entry, cut, cut_around
from veilstat.language.evaluate import NoRows, evaluate
from veilstat.language.step import Answer, Step, WireType
from veilstat.language.trace import Trace, stack
from veilstat.language.wording import express
from veilstat.platform.disclosure import is_sealed
from veilstat.testing.tables import small_schema, small_tables

SCHEMA = vs.Schema(*(vs.Integer(name, lower=0, upper=9) for name in "abcde"), max_rows=100)


def additive(facts):
    return facts.is_linear


def everything(facts):
    return True


def cut_of(combine, supports=additive, entry=Entry.TOTALS, public=None):
    def contribution(rows, given):
        return {name: rows.column(name).total() for name in "abcde"} | {"vector": stack(*(rows.column(name) for name in "abc")).total()}

    return cut(Step("step", contribution, combine, public=public or {}).trace(SCHEMA, 3), entry, supports)


def opened(chosen):
    return [(express(chosen.circuit, opening.node, {}), opening.elements) for opening in chosen.openings]


def test_a_sum_of_two_totals_is_one_number():
    chosen = cut_of(lambda t, p: {"x": t["a"] + t["b"]})
    assert opened(chosen) == [("Σ a + Σ b", (0,))]
    assert chosen.columns() == ("a", "b")


def test_what_combine_never_uses_is_never_opened_or_read():
    chosen = cut_of(lambda t, p: {"x": t["vector"][1]})
    assert chosen.size == 1
    assert [element for opening in chosen.openings for element in opening.elements] == [1]


def test_products_stop_an_additive_architecture_at_their_factors():
    chosen = cut_of(lambda t, p: {"x": (t["a"] + t["b"]) * t["c"] - t["d"]})
    assert [text for text, _ in opened(chosen)] == ["Σ c", "Σ d", "Σ a + Σ b"]


def test_forms_that_determine_every_term_open_the_terms():
    chosen = cut_of(lambda t, p: {"x": t["a"] + t["b"], "y": t["a"] - 3 * t["b"]})
    assert [text for text, _ in opened(chosen)] == ["Σ a", "Σ b"]


def test_forms_that_do_not_determine_every_term_stay_forms():
    chosen = cut_of(lambda t, p: {"x": t["a"] + t["b"], "y": 2 * t["a"] + 2 * t["b"]})
    assert chosen.size == 2
    assert all("Σ a" in text and "Σ b" in text for text, _ in opened(chosen))


def test_a_redundant_total_is_not_sent_twice():
    chosen = cut_of(lambda t, p: {"x": t["vector"], "y": t["vector"].sum(), "z": t["vector"][0] * 2})
    assert [(elements) for _, elements in opened(chosen)] == [(0, 1, 2)]


def test_broadcast_factors_never_widen_what_is_opened():
    scalar = {"s": WireType((), Fraction(1), Fraction(0), Fraction(10))}
    alone = cut_of(lambda t, p: {"x": t["a"] * p["s"] + t["b"]}, public=scalar)
    assert alone.size == 1
    assert alone.broadcast() == ("s",)
    beside = cut_of(lambda t, p: {"x": t["a"] * p["s"] + t["b"], "y": t["a"], "z": t["b"]}, public=scalar)
    assert [text for text, _ in opened(beside)] == ["Σ a", "Σ b"]
    assert beside.broadcast() == ()


def test_a_constant_is_added_after_the_wall():
    assert opened(cut_of(lambda t, p: {"x": t["a"] + 5})) == [("Σ a", (0,))]


def test_a_stronger_architecture_opens_the_answer_alone():
    ratio = lambda t, p: {"x": Answer(t["a"] / t["b"], Fraction(1, 1000))}
    assert cut_of(ratio).size == 2
    chosen = cut_of(ratio, everything, Entry.ROWS)
    assert [opening.resolution for opening in chosen.openings] == [Fraction(1, 1000)]


def test_a_rational_without_a_declared_resolution_is_never_opened():
    chosen = cut_of(lambda t, p: {"x": t["a"] / t["b"]}, everything, Entry.ROWS)
    assert [text for text, _ in opened(chosen)] == ["Σ a", "Σ b"]


def test_determined_answers_are_given_only_where_they_follow():
    combine = lambda t, p: {"x": Answer(t["a"] * t["b"], Fraction(1)), "y": Answer(t["a"], determined=True)}
    assert cut_of(combine).answers == ("x", "y")
    assert cut_of(combine, everything, Entry.ROWS).answers == ("x",)


def test_rows_are_never_opened():
    with pytest.raises(vs.CapabilityError, match="rows are never opened"):
        cut_of(lambda t, p: {"x": t["a"]}, lambda facts: False, Entry.ROWS)


def test_a_protected_value_has_no_truth_value():
    rows = Trace(SCHEMA, 2)
    with pytest.raises(vs.CapabilityError) as error:
        bool(rows.column("a").total().less(3))
    assert error.value.code == "protected_bool"


def test_equal_expressions_are_one_node_and_one_digest():
    def traced():
        rows = Trace(SCHEMA, 2)
        assert rows.column("a").total().index == rows.column("a").total().index
        return Step("s", lambda r, p: {"x": r.column("a").inner(r.column("b"))}, lambda t, p: t).trace(SCHEMA, 2)

    assert traced().digest == traced().digest
    other = Step("s", lambda r, p: {"x": r.column("b").inner(r.column("a"))}, lambda t, p: t).trace(SCHEMA, 2)
    assert traced().digest != other.digest


def test_sent_vectors_have_the_size_of_the_cut():
    """`x + y` sends one number: measured on the wire."""
    study = vs.simulate(small_tables(), small_schema())
    query = vs.Count()
    study.run(query)
    [masked] = {len(e.payload) for e in study.observed["server"].envelopes if e.round == "masked_input"}
    assert masked == 4


programs = st.recursive(
    st.sampled_from("abcde"), lambda inner: st.tuples(st.sampled_from(["+", "-", "*", "c"]), inner, inner, st.integers(-5, 5)), max_leaves=8
)


@given(programs, st.lists(st.lists(st.integers(0, 9), min_size=5, max_size=5), max_size=12))
def test_opening_the_cut_gives_what_direct_evaluation_gives(program, table):
    def build(t, node):
        if isinstance(node, str):
            return t[node]
        sign, left, right, factor = node
        a, b = build(t, left), build(t, right)
        return {"+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "c": lambda: a * factor + factor}[sign]()

    chosen = cut_of(lambda t, p: {"x": build(t, program)})
    rows = _Rows(np.array(table, dtype=np.int64).reshape(-1, 5))
    values = evaluate(chosen.circuit, tuple(o.node for o in chosen.openings), rows=rows, inputs={}, known={})
    vector = chosen.flatten(values)
    assert all(low <= value <= high for value, low, high in zip(vector, chosen.lower, chosen.upper, strict=True))
    place = chosen.circuit.outputs["x"].node
    after = evaluate(chosen.circuit, (place,), rows=NoRows(), inputs={}, known=chosen.unflatten(vector))
    totals = {name: int(rows.table[:, i].sum()) for i, name in enumerate("abcde")}
    assert int(after[place]) * (chosen.circuit.nodes[place].scale or 1) == _direct(totals, program)
    assert Op.MULTIPLY not in {chosen.circuit.nodes[o.node].op for o in chosen.openings} or all(
        additive_ok(chosen, o) for o in chosen.openings
    )


def additive_ok(chosen, opening):
    node = chosen.circuit.nodes[opening.node]
    return node.op is not Op.MULTIPLY or any(chosen.circuit.nodes[arg].op is Op.CONSTANT for arg in node.args)


def _direct(t, node):
    if isinstance(node, str):
        return t[node]
    sign, left, right, factor = node
    a, b = _direct(t, left), _direct(t, right)
    return {"+": a + b, "-": a - b, "*": a * b, "c": a * factor + factor}[sign]


class _Rows:
    def __init__(self, table):
        self.table = table

    def __len__(self):
        return len(self.table)

    def blocks(self):
        for start in range(0, len(self.table), 5):
            part = self.table[start : start + 5]
            yield len(part), {name: (part[:, i], np.ones(len(part), dtype=bool)) for i, name in enumerate("abcde")}


def descent(formula, **options):
    """The circuit of a whole descent as one iteration."""
    steps = vs.LinearRegression(formula, method="gradient_descent", **options).steps(small_schema())
    [step] = [step for step in steps if step.state]
    return step.trace_held(small_schema(), 5)


def on_rows(facts):
    return facts.rows or facts.op is Op.INNER


def test_around_an_iteration_its_totals_are_opened_and_its_results_follow():
    circuit = descent("bp ~ age + smoker")
    with pytest.raises(vs.CapabilityError):
        cut(circuit, Entry.ROWS, on_rows)
    chosen = cut_around(circuit, Entry.ROWS, on_rows)
    assert {circuit.nodes[opening.node].op for opening in chosen.openings} == {Op.INNER}
    assert {"coefficients", "done", "iterations"} <= set(chosen.answers)
    assert not chosen.iterates
    assert not is_sealed(chosen)


def test_around_an_iteration_that_needs_rows_in_every_round_is_refused():
    steps = vs.LogisticRegression("smoker ~ age", method="gradient_descent").steps(small_schema())
    [step] = [step for step in steps if step.state]
    with pytest.raises(vs.CapabilityError):
        cut_around(step.trace_held(small_schema(), 5), Entry.ROWS, on_rows)


def test_results_of_an_iteration_behind_the_wall_do_not_follow_from_its_totals():
    circuit = descent("bp ~ age + smoker")
    sealed = cut(circuit, Entry.ROWS, everything)
    assert {circuit.nodes[opening.node].op for opening in sealed.openings} == {Op.ITERATE}
