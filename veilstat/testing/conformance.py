"""The conformance suite: what every architecture must do, whatever it protects and how.

Each ``check_*`` function takes a factory of the architecture and raises AssertionError with the reason. An
architecture that openly protects nothing (for tests) passes all but ``check_protection``.

    check_architecture(lambda: Masking(colluding=1))

Answers are held against those of the plain oracle, ``Clear``, over the same owners; what became clear and what it cost
against what the plan says beforehand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from veilstat.architectures.clear import Clear
from veilstat.architectures.interface import Architecture, Released
from veilstat.errors import ConvergenceError, ProtocolViolation, QuorumLost, VeilstatError
from veilstat.language.circuit import Op
from veilstat.platform.query import build
from veilstat.platform.simulation import simulate
from veilstat.platform.study import Study
from veilstat.statistics.interface import Statistic
from veilstat.statistics.registry import registry
from veilstat.statistics.results import Result
from veilstat.transports.memory import Delay, Dropout, Duplicate, Fault, Lie, Reorder, Tamper

from .tables import Sample, small_sample, small_schema, small_tables

Make = Callable[[], Architecture]

QUERIES: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("count", {}),
    ("count", {"column": "bmi"}),
    ("sum", {"column": ["age", "bmi"]}),
    ("mean", {"column": "bp"}),
    ("mean", {"column": ["age", "bmi"], "missing": "listwise"}),
    ("variance", {"column": "bp"}),
    ("std", {"column": ["bp", "bmi"]}),
    ("covariance", {"column": ["age", "bmi", "bp"]}),
    ("correlation", {"column": ["age", "bp"]}),
    ("histogram", {"column": "bp", "bins": [60, 100, 120, 140, 200]}),
    ("crosstab", {"row": "region", "column": "female"}),
    ("mean_by", {"column": "bp", "by": "region"}),
    ("quantile", {"column": "bmi", "q": [0.1, 0.5]}),
    ("linear_regression", {"formula": "bp ~ age + bmi + C(region)"}),
    ("linear_regression", {"formula": "bp ~ age + smoker", "method": "gradient_descent", "tolerance": 0.05}),
    ("logistic_regression", {"formula": "smoker ~ age", "method": "gradient_descent", "tolerance": 0.05}),
)
SHORT = (QUERIES[3], QUERIES[13])


def queries(chosen: Iterable[tuple[str, Mapping[str, Any]]] = QUERIES) -> list[Statistic[Any]]:
    """The queries that the suite runs."""
    return [build(name, dict(parameters), registry()) for name, parameters in chosen]


def check_architecture(make: Make) -> None:
    """The whole suite."""
    check_queries(make, queries())
    check_every_order(make)
    check_every_dropout(make)
    check_harmless_faults(make)
    check_tampering(make)
    check_protection(make)


def check_queries(make: Make, queries: Iterable[Statistic[Any]], sample: Sample | None = None) -> None:
    """Queries of one study, one after another, as ``check_run`` looks at them; on ``sample``, or else on the small study.

    They may be of statistics that nobody has installed.
    """
    asked, data = tuple(queries), sample or small_sample()
    added = tuple({type(query) for query in asked})
    study, oracle = (simulate(data.tables, data.schema, its, statistics=added) for its in (make(), Clear()))
    for query in asked:
        check_run(study, query, oracle.run(query))


def check_run(study: Study, query: Statistic[Any], expected: Result) -> None:
    """One run of a query in a study that exists: its answer beside ``expected``, what became clear, and what it cost."""
    before = len(study.observed["analyst"].opened)
    result = study.run(query)
    opened = study.observed["analyst"].opened[before:]
    _assert_close(result, expected, _tolerance(result))
    _assert_openings(result, opened)
    _assert_cost(study, result, opened)


def check_answer(make: Make, query: Statistic[Any]) -> None:
    """The same answer as the plain oracle: equal where the same numbers are opened, else within the declared resolution."""
    result = _run(make(), query)
    _assert_close(result, _run(Clear(), query), _tolerance(result))


def check_openings(make: Make, query: Statistic[Any]) -> None:
    """What became clear is what the plan lists, no number more, and the transport carried nothing undeclared."""
    study = _study(make())
    _assert_openings(study.run(query), study.observed["analyst"].opened)


def check_cost(make: Make, query: Statistic[Any]) -> None:
    """Rounds and bytes are those that the plan computes from the formats, exactly, for the openings that took place."""
    study = _study(make())
    _assert_cost(study, study.run(query), study.observed["analyst"].opened)


def check_every_order(make: Make, seeds: range = range(5)) -> None:
    """Messages may arrive in any order."""
    in_order = _study(make())
    references = [(query, _answer(in_order, query)) for query in queries(SHORT)]
    for seed in seeds:
        study = _study(make(), [Reorder(seed)])
        for query, reference in references:
            _assert_close(_answer(study, query), reference, 0.0)


def check_every_dropout(make: Make) -> None:
    """An owner lost in any round: the answer over the survivors, or QuorumLost where too few are left or where the
    trust says that all are needed; never another number.
    """
    architecture = make()
    query = queries(SHORT)[0]
    owners = tuple(small_tables())
    for count in (1, 2):
        for round_name in ("approve", *architecture.rounds):
            lost = owners[:count]
            faults = [Dropout(owner, round_name) for owner in lost]
            try:
                result = _run(make(), query, faults=faults)
            except QuorumLost:
                too_few = len(owners) - count < architecture.trust(owners).threshold
                assert too_few or round_name in _all_needed(architecture, owners), (
                    f"{count} lost in {round_name} ended the query above its threshold"
                )
                continue
            most = result.plan.bytes_per_owner
            assert result.cost is not None
            assert result.cost.bytes_per_owner <= most, f"{result.cost.bytes_per_owner} bytes per owner moved, the plan says at most {most}"
            assert set(owners) - set(result.contributors) <= set(lost), f"owners that did not drop out in {round_name} are missing"
            _assert_right(result, query)


def _all_needed(architecture: Architecture, owners: tuple[str, ...]) -> tuple[str, ...]:
    """The rounds in which no owner may be lost."""
    first = architecture.trust(owners).all_needed_from
    return () if first is None else architecture.rounds[architecture.rounds.index(first) :]


def check_harmless_faults(make: Make) -> None:
    """Duplicates change nothing; a late message counts as a dropout."""
    architecture = make()
    query = queries(SHORT)[0]
    reference = _run(make(), query)
    for round_name in architecture.rounds:
        _assert_close(_run(make(), query, faults=[Duplicate("owner2", round_name)]), reference, 0.0)
        late = _outcome(make, query, [Delay("owner2", round_name)])
        if isinstance(late, Result):
            _assert_right(late, query)
        else:
            assert isinstance(late, QuorumLost), f"a late message in {round_name} gave {late!r}"


def check_tampering(make: Make) -> None:
    """A message changed on the way ends the query and names its claimed sender; so does one that cannot be read.
    One whose address was changed never arrives, which counts as a dropout.
    """
    query, rounds = queries(SHORT)[0], make().rounds
    for round_name in rounds:
        for place in (0.3, 0.75, 0.999):
            outcome = _outcome(make, query, [Tamper("owner3", round_name, place)])
            if isinstance(outcome, Result) and "owner3" not in outcome.contributors:
                _assert_right(outcome, query)
                continue
            assert isinstance(outcome, (ProtocolViolation, QuorumLost)), f"a tampered message in {round_name} gave {outcome!r}"
    if not rounds:
        return
    outcome = _outcome(make, query, [Lie("owner3", rounds[0], lambda payload: payload[:-1])])
    assert isinstance(outcome, ProtocolViolation), f"a message cut short by its sender gave {outcome!r}"
    assert "owner3" in outcome.culprits


def check_protection(make: Make) -> None:
    """The same query twice: no element of what owners send under protection repeats, and none is the plain total.
    Catches unmasked entries and reused masks.
    """
    query = queries(SHORT)[1]
    plain = _study(Clear())
    plain.run(query)
    [bare] = _by_query(plain, "contribution")
    first, second = _study(make()), _study(make())
    seen = []
    for study in (first, second):
        study.run(query)
        study.run(query)
        seen += _by_query(study, make().input_round)
    width = max(step.ring_bits for step in first.plan(query).steps) // 8
    views = [{way: _elements(payload, width) for way, payload in view.items()} for view in seen]
    totals = {owner: set(_elements(payload, width)) for (owner, _), payload in bare.items()}
    for way in views[0]:
        owner, _ = way
        for place, view in enumerate(views):
            assert not totals[owner] & set(view[way]), f"{owner} sent an element of its total as it is"
            for other in views[:place]:
                repeated = sum(a == b for a, b in zip(view[way], other[way], strict=True))
                assert not repeated, f"{owner} sent {repeated} elements twice under the same mask"


def _elements(payload: bytes, width: int) -> list[bytes]:
    return [payload[start : start + width] for start in range(0, len(payload), width)]


def _by_query(study: Study, round_name: str) -> list[dict[tuple[str, str], bytes]]:
    """For every query, what each owner sent to each party in a round."""
    queries: dict[bytes, dict[tuple[str, str], bytes]] = {}
    for party, seen in study.observed.items():
        for envelope in seen.envelopes:
            if envelope.round == round_name and envelope.sender in study.owners:
                queries.setdefault(envelope.root, {})[envelope.sender, party] = bytes(envelope.payload)
    return list(queries.values())


def _study(architecture: Architecture, faults: Iterable[Fault] = ()) -> Study:
    study = simulate(small_tables(), small_schema(), architecture, faults=faults)
    assert isinstance(study, Study)
    return study


def _run(architecture: Architecture, query: Statistic[Any], faults: Iterable[Fault] = ()) -> Result:
    return _answer(_study(architecture, faults), query)


def _answer(study: Study, query: Statistic[Any]) -> Result:
    """The result, or the last iterate where an iteration ended too early."""
    try:
        found = study.run(query)
    except ConvergenceError as error:
        found = error.result
    assert isinstance(found, Result)
    return found


def _outcome(make: Make, query: Statistic[Any], faults: Iterable[Fault]) -> Result | VeilstatError:
    try:
        return _run(make(), query, faults)
    except VeilstatError as error:
        return error


def _tolerance(result: Result) -> float:
    """0 where integers were opened; else 1e-8 relative, far above the resolution of any answer of the suite; 1e-6 where
    servers approximate a function on rows, to 2^-24 each.
    """
    functions = any(node.op is Op.FUNCTION for step in result.plan.steps for node in step.cut.circuit.nodes)
    if functions and result.plan.definition.keeps_rows:
        return 1e-6
    return 1e-8 if any(entry.resolution is not None for entry in result.plan.disclosures) else 0.0


def _numbers(value: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.asarray(value.to_numpy() if isinstance(value, (pd.Series, pd.DataFrame)) else value, dtype=np.float64).reshape(-1)


def _assert_close(ours: Result, oracle: Result, tolerance: float) -> None:
    for field in ("estimate", "n", "n_missing"):
        a, b = _numbers(getattr(ours, field)), _numbers(getattr(oracle, field))
        assert a.shape == b.shape, f"{ours.title}: {field} has another shape"
        same = np.isclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
        assert same.all(), f"{ours.title}: {field} is {a[~same]} instead of {b[~same]}"


def _assert_right(result: Result, query: Statistic[Any]) -> None:
    """The oracle's answer over those who contributed, where somebody was lost."""
    kept = {name: table for name, table in small_tables().items() if name in result.contributors}
    _assert_close(result, _answer(simulate(kept, small_schema(), Clear()), query), _tolerance(result))


def _assert_openings(result: Result, opened: Sequence[tuple[str, Released]]) -> None:
    declared = {step.label: sum(entry.count for entry in step.disclosures if not entry.control) for step in result.plan.steps}
    most = {step.label: step.at_most for step in result.plan.steps}
    for label, released in opened:
        assert len(released.values) == declared[label], (
            f"step {label} opened {len(released.values)} numbers, the plan lists {declared[label]}"
        )
    for label, count in _times(opened).items():
        assert count <= most[label], f"step {label} was opened {count} times, the plan permits {most[label]}"


def _assert_cost(study: Study, result: Result, opened: Sequence[tuple[str, Released]]) -> None:
    times = _times(opened)
    expected = max(result.plan.owner_bytes(owner, times) for owner in study.owners)
    rounds = 1 + sum(times[step.label] * step.cost.rounds for step in result.plan.steps)
    assert result.cost is not None
    assert result.cost.bytes_per_owner == expected, (
        f"{result.title}: {result.cost.bytes_per_owner} bytes per owner moved, the plan says {expected}"
    )
    assert result.cost.rounds == rounds <= result.plan.rounds, f"{result.title}: {result.cost.rounds} rounds, the plan says {rounds}"


def _times(opened: Sequence[tuple[str, Released]]) -> Counter[str]:
    """How often each step was opened."""
    return Counter(label for label, _ in opened)
