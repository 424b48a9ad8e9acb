"""What several numbers with discrete Gaussian noise give away together: the distribution of their added privacy losses.

A number that one unit moves by at most D, with discrete Gaussian noise of parameter s^2, is dominated by the pair of that
noise and the same noise moved by D, since the noise is log-concave; dominating pairs compose (Zhu, Dong, Wang, AISTATS
2022, Theorem 10). The loss of such a pair is (2 D x + D^2) / (2 s^2) for x drawn from the noise. Losses are rounded up to
a grid and convolved, as in Koskela, Jaelkoe, Honkela (AISTATS 2020). Weights are tilted towards the losses that matter
before the Fourier transform, so that its rounding is small beside the result and not only beside 1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_REACH = 10.0
_BEYOND = 2e-23
"""P[|x| > 10 s], at most, of discrete Gaussian noise."""
_POINTS = 1 << 10
_GRID = 1 / 2048
_MARGIN = 1e-5


@dataclass(frozen=True, slots=True)
class Moved:
    """A number that one unit moves by at most ``distance``, with noise of parameter ``variance`` (at least 1)."""

    distance: int
    variance: float

    @property
    def sensitivity(self) -> float:
        """In standard deviations."""
        return self.distance / math.sqrt(self.variance)


def composed_delta(numbers: Sequence[Moved], epsilon: float) -> float:
    """An upper bound, tight to a few parts in a thousand of epsilon, of the delta that numbers opened together keep at ``epsilon``."""
    moving = Counter(number for number in numbers if number.distance)
    widths = [count * number.sensitivity for number, count in moving.items()]
    whole = sum(count * number.sensitivity**2 for number, count in moving.items())
    if not moving:
        return 0.0
    step, tilt = max(epsilon, sum(widths)) * _GRID, max(epsilon / whole - 0.5, 0.0)
    losses = {number: _tilted(number, step, tilt) for number in moving}
    size = 1 << sum(count * len(losses[number].weights) for number, count in moving.items()).bit_length()
    transform = np.prod([np.fft.rfft(losses[number].weights, size) ** count for number, count in moving.items()], axis=0)
    together = np.maximum(np.fft.irfft(transform, size), 0.0)
    lowest = sum(count * losses[number].lowest for number, count in moving.items())
    logarithm = sum(count * losses[number].logarithm for number, count in moving.items())
    gains = (lowest + np.arange(size)) * step - epsilon
    above = gains > 0
    exceeding = together[above] * np.exp(logarithm - tilt * (gains[above] + epsilon)) * -np.expm1(-gains[above])
    return float(exceeding.sum()) * (1 + _MARGIN) ** len(numbers) + len(numbers) * _BEYOND


@dataclass(frozen=True, slots=True, eq=False)
class _Losses:
    """Weights P[loss] exp(tilt loss) over the grid from place ``lowest`` on, divided by their sum; the sum's logarithm."""

    lowest: int
    weights: Floats
    logarithm: float


def _tilted(number: Moved, step: float, tilt: float) -> _Losses:
    """The privacy losses of one number.

    Wide noise is looked at in runs of consecutive integers, as the middle one's weight and the last one's loss: a run of
    g weights differs from g times the middle one's by less than 6 g^2 / s^2 of it, 6e-6 here.
    """
    deviation = math.sqrt(number.variance)
    run = 2 * int(deviation / _POINTS / 2) + 1
    reach = math.ceil(_REACH * deviation / run) + 1
    x = np.arange(-reach, reach + 1, dtype=np.float64) * run
    losses = (2 * (x + (run - 1) // 2) * number.distance + number.distance**2) / (2 * number.variance)
    places = np.ceil(losses / step + 1e-9).astype(np.int64)
    exponents = -x * x / (2 * number.variance)
    log_all = float(np.log(np.exp(exponents).sum()))
    exponents += tilt * places * step - log_all
    highest = float(exponents.max())
    weights = np.exp(exponents - highest)
    total = float(weights.sum())
    shared: Floats = np.bincount(places - places[0], weights=weights / total).astype(np.float64)
    return _Losses(int(places[0]), shared, highest + math.log(total))
