"""Every error that leaves veilstat: what went wrong, where, and what to do, without a data value.

``code`` is stable and meant for programs; the message is meant for people. Counts that depend on data appear
only where the data already is (an owner's own log, or the embedded simulation, where all is one process).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self


class VeilstatError(Exception):
    """Base of all errors that veilstat raises on purpose.

    Args:
        message: one or two sentences: what, where, and what to do.
        code: a stable identifier in snake case.
        culprits: the parties that are known to have caused it, if any.
    """

    default_code = "veilstat"

    def __init__(self, message: str, *, code: str | None = None, culprits: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.culprits = tuple(sorted(culprits))

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"

    def at(self, place: str) -> Self:
        """The same error, with the place it happened at put in front."""
        return type(self)(f"{place}: {self.message}", code=self.code, culprits=self.culprits)


class SchemaError(VeilstatError):
    """A name, type, level, formula or table does not fit the schema."""

    default_code = "schema"


class RangeError(VeilstatError):
    """A number lies outside agreed bounds, or a computation would not fit its ring."""

    default_code = "range"


class CapabilityError(VeilstatError):
    """The chosen architecture or configuration cannot do what was asked, and says what could."""

    default_code = "capability"


class PolicyDenied(VeilstatError):
    """A data owner's rules refuse the query; nothing was opened."""

    default_code = "policy_denied"


class BudgetExhausted(VeilstatError):
    """A privacy budget does not cover the query; nothing was opened."""

    default_code = "budget_exhausted"


class QuorumLost(VeilstatError):
    """Too few parties answered; the step ended and nothing was opened."""

    default_code = "quorum_lost"


class ProtocolViolation(VeilstatError):
    """A party sent what the protocol forbids; ``culprits`` names it where that is known."""

    default_code = "protocol_violation"


class ConvergenceError(VeilstatError):
    """An iteration ended before it converged; ``result`` holds the last iterate, if there is one."""

    default_code = "not_converged"
    result: object | None = None
