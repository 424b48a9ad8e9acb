"""What every architecture offers to the platform.

An architecture says what it can protect, what that costs and whom it trusts, and makes each party's session for
one step. It never sees a statistic, a table or a socket.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from veilstat.arithmetic.executor import SERIAL, Executor
from veilstat.errors import CapabilityError, SchemaError
from veilstat.language.cut import Cut, Entry, Facts
from veilstat.language.evaluate import Rows
from veilstat.language.step import Arrays
from veilstat.protocol.identity import Identity, Roster
from veilstat.protocol.session import Binding, Session, Turn
from veilstat.schema.columns import Codes
from veilstat.schema.schema import Schema

from .addition import Addition, SumHere

Random: TypeAlias = "Callable[[int], bytes]"
"""Draws so many bytes, from a cryptographic source."""
Authorise: TypeAlias = "Callable[[tuple[str, ...]], None]"
"""Is asked with the survivors before anything can be opened, and raises ProtocolError to refuse."""
Noise: TypeAlias = "Callable[[int], npt.NDArray[Any]]"
"""Draws so many integers, one for each number that is opened."""


@dataclass(frozen=True, slots=True)
class RoundCost:
    """Payload bytes of one round: what an owner sends to and receives from ``peer``, the server where it is None."""

    name: str
    sent: int
    received: int
    peer: str | None = None


@dataclass(frozen=True, slots=True)
class StepCost:
    """What one opening costs: payloads per round for each owner, and what the analyst announces to each.

    ``passage`` says how numbers travel where that needs more words than a ring's width.
    """

    owners: Mapping[str, tuple[RoundCost, ...]]
    analyst_sends: int
    passage: Callable[[], tuple[str, ...]] = tuple

    @property
    def rounds(self) -> int:
        """Rounds in which owners speak."""
        return len({entry.name for entry in next(iter(self.owners.values()))})


class NoiseSite(StrEnum):
    """Where noise enters, after clipping and the linear prefix: before anything is opened, but for the recipient's."""

    NONE = "none"
    OWNERS = "owners"
    SERVERS = "servers"
    RECIPIENT = "recipient"


@dataclass(frozen=True, slots=True)
class NoiseSource:
    """Who adds noise to what is opened, each on its own.

    Args:
        site: where they stand. count: how many they are at most.
        honest: how many of them add theirs for sure and tell nobody, whoever else pools what he knows.
    """

    site: NoiseSite
    count: int
    honest: int

    def __post_init__(self) -> None:
        if self.site is NoiseSite.NONE or not 1 <= self.honest <= self.count:
            raise ValueError("noise comes from somebody, of whom at least one is honest")

    def adding(self, contributors: int) -> int:
        """How many shares of noise are in a release over so many owners."""
        return contributors if self.site is NoiseSite.OWNERS else self.count


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom a configuration trusts, in numbers and in words; ``computing`` are those who see how a computation goes.

    From the round ``all_needed_from`` on, where there is one, the loss of any owner ends a query; before it, and elsewhere
    always, owners may drop out down to the threshold.
    ``noise`` says who can add noise before anything is opened.
    """

    threshold: int
    colluding: int
    words: tuple[str, ...]
    recipients: tuple[str, ...]
    computing: tuple[str, ...] = ()
    all_needed_from: str | None = None
    noise: NoiseSource | None = None


@dataclass(frozen=True, slots=True)
class StepBinding:
    """What a party's session for one step is bound to: the same at every party, but for ``identity``.

    ``public`` holds the broadcast values as integers on their lattices, ``key`` what the analyst announced, ``kept`` what
    this party keeps from an epoch where the architecture has any, ``addition`` says how a server adds many vectors, and
    ``executor`` does what can be shared out.
    """

    identity: Identity
    roster: Roster
    root: bytes
    step: bytes
    participants: tuple[str, ...]
    server: str
    analyst: str
    cut: Cut
    public: Arrays
    key: bytes
    kept: Any = field(default=None, repr=False)
    addition: Addition = field(default=SumHere, repr=False)
    executor: Executor = field(default=SERIAL, repr=False)

    @property
    def servers(self) -> tuple[str, ...]:
        """The compute servers, in the order in which they are numbered."""
        return self.roster.with_role("compute")

    @property
    def owners(self) -> tuple[str, ...]:
        """All data owners of the study, whether they take part or not."""
        return self.roster.with_role("owner")

    def session(self, rounds: tuple[str, ...], first: Turn) -> Session:
        """The session of this party in the step. Whoever fails tells the server, who tells all others.

        Where there are compute servers, they and the analyst are told by everybody, since nothing reaches them through the server.
        """
        me = self.identity.name
        through_server = (*self.participants, self.analyst) if me == self.server else (self.server,)
        directly = tuple(name for name in (*self.servers, self.analyst, self.server) if name != me)
        told = directly if self.servers else through_server
        return Session(Binding(self.identity, self.roster, self.root, self.step, rounds, told), first)


def no_objection(survivors: tuple[str, ...]) -> None:
    """For owners that keep no record of earlier openings."""


def no_noise(size: int) -> npt.NDArray[np.int64]:
    """For releases to which somebody else adds noise, or nobody."""
    return np.zeros(size, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Contribution:
    """An owner's input to one step: its rows, and a last check on who survived.

    ``authorise`` is asked with the survivors before anything can be opened, and raises ProtocolError to refuse.
    ``fewest`` is the smallest number of owners that this owner wants to stand in one total. ``noise`` draws what the
    owner adds to its totals, one integer for each.
    """

    rows: Rows
    authorise: Authorise = no_objection
    fewest: int = 0
    noise: Noise = no_noise


def no_uploads(owner: str) -> Any:
    """For servers that hold no owner's rows."""
    raise SchemaError(f"data owner {owner!r} has no upload here; upload its rows first", code="upload_unknown")


@dataclass(frozen=True, slots=True)
class Custody:
    """What a compute server brings to one step: a last check on whose data are opened, the rows that owners uploaded, and
    what it adds to the numbers that are opened, one integer for each.
    """

    authorise: Authorise = no_objection
    uploads: Callable[[str], Any] = no_uploads
    noise: Noise = no_noise


@dataclass(frozen=True, slots=True)
class Released:
    """What the analyst's session ends with: the opened integers in the cut's order, and whose data they hold.

    ``solvable`` is the declared flag of a system that was solved behind the exit wall.
    """

    values: npt.NDArray[np.object_]
    survivors: tuple[str, ...]
    solvable: bool = True


@dataclass(frozen=True, slots=True)
class EpochBinding:
    """What a party's session for one epoch is bound to; ``everyone`` is the name that reaches all owners.

    ``keep`` puts the public record of an epoch where it lasts and returns it from there.
    """

    identity: Identity
    roster: Roster
    root: bytes
    server: str
    everyone: str
    keep: Callable[[Any], Any] = field(repr=False)


@runtime_checkable
class KeepsEpochs(Protocol):
    """An architecture whose owners encrypt their rows once, under a key that serves many queries: an epoch."""

    def epoch_owner(self, binding: EpochBinding, columns: Mapping[str, Codes], count: int, rows: int, random: Random) -> Session:
        """An owner's session, for ``count`` rows of which ``rows`` are declared; it ends with what the owner keeps."""
        ...

    def epoch_server(self, binding: EpochBinding) -> Session:
        """The server's session; it ends with what the server keeps."""
        ...


@runtime_checkable
class OpensMultiples(Protocol):
    """An architecture that opens numbers divided by what they are known to be multiples of, so that noise must be one too."""

    def multiples(self, cut: Cut) -> tuple[int, ...]:
        """For each number of a cut the integer that it is divided by."""
        ...


@runtime_checkable
class FitsStudy(Protocol):
    """A configuration that needs a study's schema and owners before it says what anything costs."""

    def fitted(self, schema: Schema, owners: tuple[str, ...]) -> Architecture:
        """The architecture in that study; CapabilityError where it cannot serve it."""
        ...


class Architecture(Protocol):
    """How to compute a step unseen; a frozen dataclass of configuration that has this class as its base.

    What has a body is so for most: totals enter, there are no compute servers, and the analyst announces no key.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """One word for plans and configuration."""
        ...

    @property
    def entry(self) -> Entry:
        """What leaves an owner, protected: totals over its rows, or the rows."""
        return Entry.TOTALS

    @property
    @abstractmethod
    def rounds(self) -> tuple[str, ...]:
        """Names of the rounds in which owners speak, in order."""
        ...

    @property
    @abstractmethod
    def input_round(self) -> str:
        """The round in which an owner sends its protected contribution."""
        ...

    def compute_servers(self, owners: tuple[str, ...]) -> tuple[str, ...]:
        """Names of the compute servers; () where none is needed."""
        return ()

    @abstractmethod
    def supports(self, facts: Facts) -> bool:
        """Whether this operation can be computed while its private arguments stay protected."""
        ...

    @abstractmethod
    def trust(self, owners: tuple[str, ...]) -> Trust:
        """The threshold and trust of this configuration; CapabilityError where it cannot hold."""
        ...

    @abstractmethod
    def cost(self, cut: Cut, owners: tuple[str, ...]) -> StepCost:
        """Payload sizes of one opening without faults, from the cut alone."""
        ...

    @abstractmethod
    def describe(self) -> Mapping[str, str | int]:
        """The configuration, canonically, for the plan's digest."""
        ...

    def announce(self, cut: Cut, owners: tuple[str, ...], random: Random) -> tuple[bytes, bytes]:
        """A fresh (secret, key) of the analyst for one step; empty where none is needed."""
        return b"", b""

    @abstractmethod
    def owner(self, binding: StepBinding, contribution: Contribution, random: Random) -> Session:
        """An owner's session; it ends with the survivors. RangeError where its data do not fit the plan."""
        ...

    @abstractmethod
    def server(self, binding: StepBinding) -> Session:
        """The server's session."""
        ...

    def compute(self, binding: StepBinding, custody: Custody, random: Random) -> Session:
        """A compute server's session; CapabilityError where there are none."""
        raise CapabilityError(f"the architecture {self.name!r} has no compute servers", code="no_compute_servers")

    @abstractmethod
    def analyst(self, binding: StepBinding, secret: bytes) -> Session:
        """The analyst's session; it ends with ``Released``. ``secret`` belongs to the announced key."""
        ...
