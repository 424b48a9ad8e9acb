"""The mechanism: from a promise and sensitivities to the noise that each of several parties adds to what is opened."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import numpy.typing as npt

from veilstat.errors import CapabilityError, SchemaError

from .calibration import MOST_TERMS, sum_distance, tail_delta, textbook_sigma, zcdp_rho
from .composition import Moved, composed_delta
from .discrete_gaussian import Random, discrete_gaussian, rounded_variance
from .sensitivity import ADD_REMOVE, NEIGHBOURS, Block

UNITS = ("row", "owner")
CALIBRATIONS = ("discrete", "textbook")
BEFORE_OPENING, AFTER_OPENING, LOCAL = PLACEMENTS = ("before_opening", "after_opening", "local")
LARGEST_EPSILON = 50
TAIL = 12
"""A party's noise reaches this many standard deviations with probability below 2^-100."""
_LEAST_EPSILON, _NEAR = 1e-4, 1.001
_LEAST_SHARE = Fraction(4)
_COST_STEP = Fraction(1, 1 << 50)
_PARTS = 256


@dataclass(frozen=True, slots=True)
class Gaussian:
    """A promise of (epsilon, delta)-differential privacy, kept by Gaussian noise.

    Args:
        epsilon: above 0, at most 50. delta: above 0, below 1; well below one over the number of rows.
        privacy_unit: what is protected: "row", one row; "owner", all rows of one data owner.
        neighbours: which tables must look alike: "add_remove", with the unit and without it; "replace_one", with other data
            in its place, which needs up to twice the noise.
        calibration: "discrete": what the discrete Gaussian is proven to need; "textbook": the formula of Dwork, Roth (2014),
            for epsilon < 1, where that is more.
        placement: where noise enters. "before_opening": in shares of several parties, so that nobody ever holds an exact total;
            "after_opening": whoever learns the exact totals adds it, so that the promise holds against everybody else only;
            "local": every owner keeps the promise alone, whoever colludes, at sqrt(owners) times the error of a single noise.
    """

    epsilon: float
    delta: float
    privacy_unit: str = "row"
    calibration: str = "discrete"
    neighbours: str = ADD_REMOVE
    placement: str = BEFORE_OPENING

    def __post_init__(self) -> None:
        check_promise(self.epsilon, self.delta)
        object.__setattr__(self, "epsilon", float(self.epsilon))
        object.__setattr__(self, "delta", float(self.delta))
        if self.privacy_unit not in UNITS:
            raise SchemaError(f"privacy_unit must be one of {', '.join(UNITS)}, not {self.privacy_unit!r}", code="bad_privacy")
        if self.neighbours not in NEIGHBOURS:
            raise SchemaError(f"neighbours must be one of {', '.join(NEIGHBOURS)}, not {self.neighbours!r}", code="bad_privacy")
        if self.calibration not in CALIBRATIONS:
            raise SchemaError(f"calibration must be one of {', '.join(CALIBRATIONS)}, not {self.calibration!r}", code="bad_privacy")
        if self.placement not in PLACEMENTS:
            raise SchemaError(f"placement must be one of {', '.join(PLACEMENTS)}, not {self.placement!r}", code="bad_privacy")
        if self.calibration == "textbook" and self.epsilon >= 1:
            raise CapabilityError(
                "the textbook formula sqrt(2 ln(1.25/delta))/epsilon is proven for epsilon < 1 only; use calibration='discrete'",
                code="textbook_epsilon",
            )

    @staticmethod
    def for_error(q: Planned, margin: float, delta: float, *, rows: int | None = None, **options: str) -> Gaussian:
        """The promise with the least epsilon at which noise moves no released number further than a margin in 95 of 100 releases.

        Args:
            q: the query's plan, ``study.plan(vs.Sum("age"))``, private or not. margin: in the units of what is released.
            rows: how many are thought to enter, for answers that are divided by them. options: ``privacy_unit=`` and so on.

        Raises:
            SchemaError: no plan, margin, or number of rows. CapabilityError: no promise reaches the margin.
        """
        if not isinstance(q, Planned):
            raise SchemaError("for_error takes the plan of a query, such as study.plan(vs.Sum('age'))", code="bad_query")
        if not _is_number(margin) or not 0 < margin < math.inf:
            raise SchemaError("margin must be a number above 0", code="bad_privacy")
        if rows is not None and (type(rows) is not int or rows < 1):
            raise SchemaError("rows must be a whole number, 1 or more", code="bad_privacy")
        low, high = _LEAST_EPSILON, float(LARGEST_EPSILON)
        if q.with_privacy(Gaussian(high, delta, **options)).privacy.margin(rows) > margin:
            raise CapabilityError(
                f"even at epsilon {LARGEST_EPSILON} noise moves the answer further than that; ask for a larger margin",
                code="margin_too_small",
            )
        while high > low * _NEAR:
            middle = math.sqrt(low * high)
            near = q.with_privacy(Gaussian(middle, delta, **options)).privacy.margin(rows) <= margin
            low, high = (low, middle) if near else (middle, high)
        return Gaussian(high, delta, **options)


@runtime_checkable
class Planned(Protocol):
    """The plan of a query."""

    def with_privacy(self, promise: Gaussian) -> Planned:
        """The same query under a promise."""
        ...

    @property
    def privacy(self) -> Any:
        """What is known of the release beforehand: ``margin(rows)``; None without a promise."""
        ...


def check_promise(epsilon: object, delta: object) -> None:
    """Refuse what is no (epsilon, delta) with a SchemaError."""
    if not _is_number(epsilon) or not 0 < epsilon <= LARGEST_EPSILON:
        raise SchemaError(f"epsilon must be a number above 0, and at most {LARGEST_EPSILON}", code="bad_privacy")
    if not _is_number(delta) or not 0 < delta < 1:
        raise SchemaError("delta must be a number above 0 and below 1", code="bad_privacy")


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class NoiseShare:
    """What each party that adds noise adds to the numbers of one opening.

    Args:
        blocks: what is opened together. shares: the variance of one party's noise on each number of each block.
        honest: how many parties' shares keep the promise. rho: what it costs in zCDP. mechanism: how it was calibrated.
        promise: the (epsilon, delta) that it keeps.
    """

    blocks: tuple[Block, ...]
    shares: tuple[Fraction, ...]
    honest: int
    rho: Fraction
    mechanism: str
    promise: tuple[float, float]

    @property
    def variances(self) -> tuple[Fraction, ...]:
        """One party's variance for every number, in the order in which they travel."""
        return tuple(share for block, share in zip(self.blocks, self.shares, strict=True) for _ in range(block.size))

    @property
    def tails(self) -> tuple[int, ...]:
        """The largest noise of one party on every number."""
        return tuple(tail for block, tail in zip(self.blocks, self._block_tails, strict=True) for _ in range(block.size))

    def draw(self, random: Random) -> npt.NDArray[np.object_]:
        """One party's noise for every number: Python integers."""
        return np.concatenate([_drawn(block, share, random) for block, share in zip(self.blocks, self.shares, strict=True)])

    @property
    def _block_tails(self) -> list[int]:
        return [TAIL * (math.isqrt(math.ceil(share)) + 1) for share in self.shares]


def _drawn(block: Block, share: Fraction, random: Random) -> npt.NDArray[np.object_]:
    """Noise of one variance on every number's own lattice."""
    if not block.steps:
        return discrete_gaussian(share, block.size, random)
    return np.concatenate([step * discrete_gaussian(share / step**2, 1, random) for step in block.steps])


def calibrate(promise: Gaussian, blocks: Sequence[Block], honest: int) -> NoiseShare:
    """The least noise, to 0.4 % of its variance, with which ``honest`` parties together keep a promise for one opening.

    Blocks get equal parts of it. Where a unit moves one number of each block at most, their privacy losses are added up;
    else by zCDP, as ``calibrate_openings`` does.

    Raises:
        CapabilityError: so many numbers are opened that the distance of their noise from one discrete Gaussian exceeds the promise.
    """
    return _calibrated(promise, tuple(blocks), honest)


def calibrate_openings(promise: Gaussian, blocks: Sequence[Block], honest: int) -> NoiseShare:
    """The same for blocks of several openings, which may depend on each other and are paid for one by one: by zCDP.

    Each share has at least two lattice steps, so that a sum of discrete Gaussians is all but one
    (Kairouz, Liu, Steinke, ICML 2021, Theorem 11); the rest counts against the promise. A number and its noise that are
    multiples of a step are, divided by it, integers with that much less sensitivity and noise, which costs the same.
    """
    words = "by zCDP" if promise.calibration == "discrete" else "by the textbook formula"
    return _share(promise, tuple(blocks), honest, _by_zcdp(promise, blocks, honest), words)


@lru_cache(maxsize=256)
def _calibrated(promise: Gaussian, blocks: tuple[Block, ...], honest: int) -> NoiseShare:
    enough = _by_zcdp(promise, blocks, honest)
    distances = [distance for block in blocks if (distance := _distance(block)) is not None]
    if promise.calibration == "discrete" and len(distances) == len(blocks):
        if distances == [1] and blocks[0].size == blocks[0].coarsest == 1:
            shares, words = [_by_exact_tail(promise, honest, enough[0])], "by its exact tail"
        else:
            shares, words = _by_losses(promise, honest, enough, distances, blocks), "by the privacy losses of all numbers together"
        if shares != enough:
            return _share(promise, blocks, honest, shares, words)
    return calibrate_openings(promise, blocks, honest)


def _share(promise: Gaussian, blocks: tuple[Block, ...], honest: int, shares: list[Fraction], words: str) -> NoiseShare:
    distance = Fraction(sum_distance(_LEAST_SHARE, honest))
    spent = sum(
        (block.squared_sensitivity / (2 * honest * share) + distance * block.size / 4 for block, share in zip(blocks, shares, strict=True)),
        Fraction(0),
    )
    rho = math.ceil(spent / _COST_STEP) * _COST_STEP
    return NoiseShare(blocks, tuple(shares), honest, rho, f"discrete Gaussian, calibrated {words}", (promise.epsilon, promise.delta))


def _by_zcdp(promise: Gaussian, blocks: Sequence[Block], honest: int) -> list[Fraction]:
    rho = zcdp_rho(promise.epsilon, promise.delta)
    if promise.calibration == "textbook":
        rho = min(rho, 1 / (2 * Fraction(textbook_sigma(promise.epsilon, promise.delta)) ** 2))
    distance = Fraction(sum_distance(_LEAST_SHARE, honest))
    shares = []
    for block in blocks:
        part = rho / len(blocks) - distance * block.size / 4
        if part <= 0:
            raise CapabilityError(
                f"{block.size:,} numbers are too many to be opened under this promise; ask for fewer, or for a larger epsilon",
                code="too_many_numbers",
            )
        shares.append(rounded_variance(max(_least_share(block), block.squared_sensitivity / (2 * part * honest))))
    return shares


def _least_share(block: Block) -> Fraction:
    return _LEAST_SHARE * block.coarsest**2


def _distance(block: Block) -> int | None:
    """How many steps a unit moves the only number of a block that it moves; None where it may move several."""
    if block.size == 1 or block.squared_sensitivity == 1:
        return math.isqrt(block.squared_sensitivity) // block.coarsest
    return None


def _by_losses(promise: Gaussian, honest: int, enough: list[Fraction], distances: list[int], blocks: Sequence[Block]) -> list[Fraction]:
    """Smaller shares of which a unit moves one number each, where some are found; ``enough`` are known to do."""

    def scaled(part: int) -> list[Fraction]:
        smaller = [rounded_variance(share * (1 - Fraction(part, _PARTS))) for share in enough]
        return [max(_least_share(block), share) for block, share in zip(blocks, smaller, strict=True)]

    def keep(shares: list[Fraction]) -> bool:
        shares = [share / block.coarsest**2 for block, share in zip(blocks, shares, strict=True)]
        apart = sum(sum_distance(share, honest) for share in shares)
        moved = [Moved(distance, float(share * honest)) for distance, share in zip(distances, shares, strict=True)]
        return math.exp(apart) * composed_delta(moved, promise.epsilon - 2 * apart) <= promise.delta

    low, high = 0, _PARTS // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if keep(scaled(middle)) else (low, middle)
    return scaled(low) if low else enough


def _by_exact_tail(promise: Gaussian, honest: int, enough: Fraction) -> Fraction:
    """A smaller share for one number that changes by 1, where one is found; ``enough`` is known to do."""
    if 41 * math.isqrt(math.ceil(enough * honest)) > MOST_TERMS:
        return enough
    low, high = _LEAST_SHARE, enough
    for _ in range(16):
        middle = rounded_variance((low + high) / 2)
        if middle >= high:
            break
        distance = sum_distance(middle, honest)
        delta = math.exp(distance) * tail_delta(middle * honest, promise.epsilon - 2 * distance)
        low, high = (low, middle) if delta <= promise.delta else (middle, high)
    return high
