"""The analyst's run of a query: statistic asks, network answers, public arithmetic goes on from what was opened."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy.typing as npt

from veilstat import errors
from veilstat.architectures.interface import NoiseSite, Released
from veilstat.errors import ConvergenceError, PolicyDenied, QuorumLost, VeilstatError
from veilstat.language.answers import answers
from veilstat.language.circuit import Op
from veilstat.language.evaluate import SingularMatrix, Solver
from veilstat.language.step import Arrays, Opened, Request
from veilstat.protocol.faults import Fault, ProtocolError
from veilstat.statistics.results import Cost, Receipt, Result

from .analyst import Analyst
from .plan import Plan, StepPlan
from .private_plan import answer_noise

Progress = Callable[[str, int, int], None]
Traffic = Callable[[], tuple[int, int]]
"""Bytes since the query began: of the busiest owner, and of all parties."""


def no_progress(label: str, done: int, at_most: int) -> None:
    """For runs that nobody watches."""


@dataclass(slots=True)
class Driver:
    """Runs one plan.

    Args:
        settle: delivers messages until nothing moves. solve: exact solver for what lies behind the exit wall.
        progress: told after every opening which step, how many so far, and how many at most.
    """

    plan: Plan
    analyst: Analyst
    settle: Callable[[], None]
    solve: Solver
    progress: Progress = no_progress
    openings: dict[str, int] = field(default_factory=dict)
    contributors: tuple[str, ...] = ()

    def answer(self, traffic: Traffic, clock: Callable[[], float]) -> Result:
        """The statistic's result with its receipt; ``clock`` gives seconds.

        Raises:
            VeilstatError: whatever ended the query; nothing is opened after it.
        """
        started = clock()

        def received(result: Result) -> Result:
            rounds = 1 + sum(self.openings.get(step.label, 0) * step.cost.rounds for step in self.plan.steps)
            cost = Cost(rounds, *traffic(), clock() - started)
            return result.with_receipt(Receipt(self.plan, self.contributors, self.plan.privacy, cost))

        try:
            result: Result = self.run()
        except ConvergenceError as error:
            if isinstance(error.result, Result):
                error.result = received(error.result)
            raise
        return received(result)

    def run(self) -> Any:
        """The statistic's result, without a receipt; errors as ``answer``."""
        self.analyst.propose(self.plan)
        self.settle()
        self._raise_fault()
        if self.analyst.participants is None:
            raise QuorumLost("nobody answered the proposal; nothing was opened. Ask again once the owners are connected", code="no_answer")
        self.contributors = self.analyst.participants
        steps = self.plan.form.run(self.plan.definition.schema)
        try:
            request = next(steps)
            while True:
                request = self._advance(steps, request)
        except StopIteration as stop:
            return stop.value

    def _advance(self, steps: Generator[Request, Opened, Any], request: Request) -> Request:
        try:
            opened = self._open(request)
        except SingularMatrix as error:
            return steps.throw(error)
        return steps.send(opened)

    def _open(self, request: Request) -> Opened:
        step = next((entry for entry in self.plan.steps if entry.label == request.label), None)
        if step is None:
            raise PolicyDenied(f"the plan has no step {request.label!r}; nothing was opened", code="undeclared_opening")
        public = {name: step.step.public[name].integers(name, value) for name, value in request.public.items()}
        state = {name: step.step.state[name].integers(name, value) for name, value in request.state.items()}
        missing = (set(step.step.public) - set(public)) | (set(step.step.state) - set(state))
        if missing:
            raise PolicyDenied(
                f"step {step.label!r} was asked for without its public value {sorted(missing)[0]!r}; nothing was opened",
                code="missing_public",
            )
        if not step.step.state:
            return self._opened(step, self._answers(step, public))
        if step.held:
            values = self._answers(step, {**public, **state})
            return self._opened(step, values, iterations=int(values["iterations"].reshape(-1)[0]))
        return self._iterate(step, public, state)

    def _iterate(self, step: StepPlan, public: Arrays, state: Arrays) -> Opened:
        history: list[Arrays] = []
        values: Mapping[str, npt.NDArray[Any]] = {}
        while len(history) < step.at_most:
            values = self._answers(step, {**public, **state})
            history.append(values)
            state = {name: wire.integers(name, values[name]) for name, wire in step.step.state.items()}
            if values["done"].reshape(-1)[0]:
                break
        return self._opened(step, values, tuple(history), len(history))

    def _opened(self, step: StepPlan, values: Arrays, history: tuple[Arrays, ...] = (), iterations: int = 1) -> Opened:
        shares = 0 if step.source is None else step.source.adding(len(self.contributors))
        return Opened(values, self.contributors, iterations, history, answer_noise(step.cut, step.noise, shares))

    def _answers(self, step: StepPlan, public: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Open the cut once and compute everything that follows from it."""
        index = self.openings.get(step.label, 0)
        released = self._exchange(step, index, public)
        noise = step.noise_of(NoiseSite.RECIPIENT)
        if noise is not None:
            released = replace(released, values=released.values + noise.draw(self.analyst.random))
        circuit, names = step.cut.circuit, step.cut.answers
        unsolved = tuple(name for name in names if not circuit.contains(Op.SOLVE, (circuit.outputs[name].node,)))
        if not released.solvable:
            raise SingularMatrix(-1, answers(step.cut, released.values, public, unsolved))
        try:
            return answers(step.cut, released.values, public, names, self.solve)
        except SingularMatrix as error:
            raise SingularMatrix(error.column, answers(step.cut, released.values, public, unsolved)) from None

    def _exchange(self, step: StepPlan, index: int, public: Arrays) -> Released:
        if self.openings and self.contributors != self.analyst.participants:
            lost = sorted(set(self.analyst.participants or ()) - set(self.contributors))
            raise QuorumLost(
                f"{', '.join(lost)} dropped out in an earlier step; a query opens all its steps over the same owners. Start it again without them",
                code="owner_lost",
                culprits=lost,
            )
        try:
            self.analyst.request(step, index, public)
        except ProtocolError as error:
            raise as_error(error.fault) from None
        self.openings[step.label] = index + 1
        self.settle()
        self._raise_fault()
        released = self.analyst.released
        if released is None:
            raise QuorumLost("the server did not answer; nothing was opened. Ask again once it is reachable", code="no_answer")
        self.analyst.opened.append((step.label, released))
        self.contributors = released.survivors
        self.progress(step.label, index + 1, step.at_most)
        return released

    def _raise_fault(self) -> None:
        if self.analyst.fault is not None:
            raise as_error(self.analyst.fault)


def as_error(fault: Fault) -> VeilstatError:
    """The exception that a user sees for a fault."""
    kind = getattr(errors, fault.kind, None)
    if not (isinstance(kind, type) and issubclass(kind, VeilstatError)):
        kind = VeilstatError
    return kind(fault.message, code=fault.code, culprits=fault.culprits)
