"""Means of per-sample numbers with 95 % intervals, and paired differences. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95


@dataclass(frozen=True)
class Mean:
    """A mean over samples.

    Attributes:
        value: NaN without samples.
        low, high: bounds of the 95 % t-interval; NaN with fewer than two samples.
        n: samples that have a value.
    """

    value: float
    low: float
    high: float
    n: int

    def text(self, digits: int = 3) -> str:
        """``"0.812 [0.804, 0.820]"``; nothing without samples."""
        if self.n == 0:
            return ""
        bounds = "" if self.n < 2 else f" [{self.low:.{digits}f}, {self.high:.{digits}f}]"
        return f"{self.value:.{digits}f}{bounds}"


def mean_interval(values: NDArray[Any], level: float = LEVEL) -> Mean:
    """Mean of the values that are not NaN, with Student's t-interval.

    Args:
        values: float [n].
        level: coverage.
    """
    from scipy.stats import t

    kept = np.asarray(values, dtype=np.float64)
    kept = kept[~np.isnan(kept)]
    n = len(kept)
    if n == 0:
        return Mean(np.nan, np.nan, np.nan, 0)
    value = float(kept.mean())
    if n < 2:
        return Mean(value, np.nan, np.nan, n)
    half = float(t.ppf(0.5 + level / 2, n - 1) * kept.std(ddof=1) / np.sqrt(n))
    return Mean(value, value - half, value + half, n)


def paired_mean(a: NDArray[Any], b: NDArray[Any], level: float = LEVEL) -> Mean:
    """Mean of a - b over the samples where both have a value, with its t-interval."""
    return mean_interval(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64), level)
