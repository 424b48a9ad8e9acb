"""The mechanism: from a promise and sensitivities to the noise that each of several parties adds to what is opened."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from veilstat.language.errors import CapabilityError, SchemaError

from .calibration import MOST_TERMS, sum_distance, tail_delta, textbook_sigma, zcdp_rho
from .composition import Moved, composed_delta
from .discrete_gaussian import Random, discrete_gaussian, rounded_variance
from .sensitivity import Block

UNITS = ("row", "owner")
CALIBRATIONS = ("discrete", "textbook")
BEFORE_OPENING, AFTER_OPENING, LOCAL = PLACEMENTS = ("before_opening", "after_opening", "local")
LARGEST_EPSILON = 50
TAIL = 12
"""A party's noise reaches this many standard deviations with probability below 2^-100."""
_LEAST_SHARE = Fraction(4)
_COST_STEP = Fraction(1, 1 << 50)
_PARTS = 256


@dataclass(frozen=True, slots=True)
class Gaussian:
    """A promise of (epsilon, delta)-differential privacy, kept by Gaussian noise.

    Args:
        epsilon: above 0, at most 50. delta: above 0, below 1; well below one over the number of rows.
        privacy_unit: what is protected: "row", one row added or removed; "owner", all rows of one data owner.
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
    placement: str = BEFORE_OPENING

    def __post_init__(self) -> None:
        check_promise(self.epsilon, self.delta)
        object.__setattr__(self, "epsilon", float(self.epsilon))
        object.__setattr__(self, "delta", float(self.delta))
        if self.privacy_unit not in UNITS:
            raise SchemaError(f"privacy_unit is one of {', '.join(UNITS)}, not {self.privacy_unit!r}", code="bad_privacy")
        if self.calibration not in CALIBRATIONS:
            raise SchemaError(f"calibration is one of {', '.join(CALIBRATIONS)}, not {self.calibration!r}", code="bad_privacy")
        if self.placement not in PLACEMENTS:
            raise SchemaError(f"placement is one of {', '.join(PLACEMENTS)}, not {self.placement!r}", code="bad_privacy")
        if self.calibration == "textbook" and self.epsilon >= 1:
            raise CapabilityError(
                "the textbook formula sqrt(2 ln(1.25/delta))/epsilon is proven for epsilon < 1 only; use calibration='discrete'",
                code="textbook_epsilon",
            )


def check_promise(epsilon: object, delta: object) -> None:
    """Refuse what is no (epsilon, delta) with a SchemaError."""
    for name, value, high in (("epsilon", epsilon, LARGEST_EPSILON), ("delta", delta, 1)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= high or value == 1 == high:
            raise SchemaError(f"{name} is a number above 0 and at most {high}; delta is below 1", code="bad_privacy")


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
        parts = [discrete_gaussian(share, block.size, random) for block, share in zip(self.blocks, self.shares, strict=True)]
        return np.concatenate(parts)

    @property
    def _block_tails(self) -> list[int]:
        return [TAIL * (math.isqrt(math.ceil(share)) + 1) for share in self.shares]


def calibrate(promise: Gaussian, blocks: Sequence[Block], honest: int) -> NoiseShare:
    """The least noise, to 0.4 % of its variance, with which ``honest`` parties together keep a promise; blocks get equal parts of it.

    Each share has at least two lattice steps, so that a sum of discrete Gaussians is all but one
    (Kairouz, Liu, Steinke, ICML 2021, Theorem 11); the rest counts against the promise.

    Raises:
        CapabilityError: so many numbers are opened that this rest alone would exceed the promise.
    """
    return _calibrated(promise, tuple(blocks), honest)


@lru_cache(maxsize=256)
def _calibrated(promise: Gaussian, blocks: tuple[Block, ...], honest: int) -> NoiseShare:
    rho = zcdp_rho(promise.epsilon, promise.delta)
    if promise.calibration == "textbook":
        rho = min(rho, 1 / (2 * Fraction(textbook_sigma(promise.epsilon, promise.delta)) ** 2))
    distance = Fraction(sum_distance(_LEAST_SHARE, honest))
    shares = []
    for block in blocks:
        part = rho / len(blocks) - distance * block.size / 4
        if part <= 0:
            raise CapabilityError(f"{block.size:,} numbers are too many to be opened under this promise", code="too_many_numbers")
        shares.append(rounded_variance(max(_LEAST_SHARE, block.squared_sensitivity / (2 * part * honest))))
    mechanism = "discrete Gaussian, calibrated by zCDP"
    if promise.calibration == "textbook":
        mechanism = "discrete Gaussian, calibrated by the textbook formula"
    elif [(block.size, block.squared_sensitivity) for block in blocks] == [(1, 1)]:
        exact = _by_exact_tail(promise, honest, shares[0])
        if exact < shares[0]:
            shares, mechanism = [exact], "discrete Gaussian, calibrated by its exact tail"
    elif None not in (distances := [_distance(block) for block in blocks]):
        smaller = _by_losses(promise, honest, shares, [distance for distance in distances if distance is not None])
        if smaller != shares:
            shares, mechanism = smaller, "discrete Gaussian, calibrated by the privacy losses of all numbers together"
    spent = sum(
        (block.squared_sensitivity / (2 * honest * share) + distance * block.size / 4 for block, share in zip(blocks, shares, strict=True)),
        Fraction(0),
    )
    return NoiseShare(
        blocks, tuple(shares), honest, math.ceil(spent / _COST_STEP) * _COST_STEP, mechanism, (promise.epsilon, promise.delta)
    )


def _distance(block: Block) -> int | None:
    """How far a unit moves the only number of a block that it moves; None where it may move several."""
    if block.size == 1 or block.squared_sensitivity == 1:
        return math.isqrt(block.squared_sensitivity)
    return None


def _by_losses(promise: Gaussian, honest: int, enough: list[Fraction], distances: list[int]) -> list[Fraction]:
    """Smaller shares of which a unit moves one number each, where some are found; ``enough`` are known to do."""

    def scaled(part: int) -> list[Fraction]:
        return [max(_LEAST_SHARE, rounded_variance(share * (1 - Fraction(part, _PARTS)))) for share in enough]

    def keep(shares: list[Fraction]) -> bool:
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
