"""Tail probabilities and quantiles, by scipy.special, which loads when first needed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt


def two_sided_t(values: Any, freedom: float) -> npt.NDArray[np.float64]:
    """P(|T| > |value|) for Student's t; the normal distribution for infinite degrees of freedom."""
    from scipy import special

    absolute = np.abs(np.asarray(values, dtype=np.float64))
    if math.isinf(freedom):
        return np.asarray(2 * special.ndtr(-absolute))
    return np.asarray(2 * special.stdtr(freedom, -absolute))


def t_quantile(probability: float, freedom: float) -> float:
    """The quantile of Student's t, of the normal distribution for infinite degrees of freedom."""
    from scipy import special

    return float(special.ndtri(probability) if math.isinf(freedom) else special.stdtrit(freedom, probability))


def f_tail(value: float, numerator: float, denominator: float) -> float:
    """P(F > value)."""
    from scipy import special

    return float(special.fdtrc(numerator, denominator, value))


def chi2_tail(value: float, freedom: float) -> float:
    """P(chi^2 > value)."""
    from scipy import special

    return float(special.chdtrc(freedom, value))
