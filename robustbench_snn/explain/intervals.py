"""Means of per-sample numbers with 95 % intervals, and paired differences. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.metrics import effective_size, paired_difference, wilson

LEVEL = 0.95


@dataclass(frozen=True)
class Mean:
    """A mean over samples.

    Attributes:
        value: NaN without samples.
        low, high: bounds of the 95 % interval; NaN with fewer than two samples.
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


def mean_interval(
    values: NDArray[Any], level: float = LEVEL, groups: NDArray[Any] | None = None
) -> Mean:
    """Mean of the values that are not NaN, with its interval.

    Student's t-interval, or Wilson's where all values are 0 or 1: there the mean is a share, and
    Student's interval would be empty at the ends.

    Args:
        values: float [n].
        level: coverage.
        groups: [n], equal for samples that show the same thing (``metrics.effective_size``).
    """
    kept, _, of = _kept(values, None, groups)
    n = len(kept)
    if n == 0:
        return Mean(np.nan, np.nan, np.nan, 0)
    value = float(kept.mean())
    if n < 2:
        return Mean(value, np.nan, np.nan, n)
    worth = effective_size(kept, of)
    if _are_shares(kept):
        return Mean(value, *wilson(float(kept.sum()), n, level, worth), n)
    return _student(kept, level, worth)


def paired_mean(
    a: NDArray[Any],
    b: NDArray[Any],
    level: float = LEVEL,
    groups: NDArray[Any] | None = None,
) -> Mean:
    """Mean of a - b over the samples where both have a value, with its interval.

    Student's t-interval, or Newcombe's for paired shares where all values are 0 or 1.

    Args:
        a, b: float [n] each.
        level: coverage.
        groups: as in ``mean_interval``.
    """
    first, second, of = _kept(a, b, groups)
    if len(first) > 1 and _are_shares(first) and _are_shares(second):
        return Mean(*paired_difference(first, second, level, of), len(first))
    if len(first) > 1:
        difference = first - second
        return _student(difference, level, effective_size(difference, of))
    return mean_interval(first - second, level)


def _student(values: NDArray[np.float64], level: float, worth: float | None) -> Mean:
    from scipy.stats import t

    n = len(values)
    count = n if worth is None else worth
    half = t.ppf(0.5 + level / 2, count - 1) * values.std(ddof=1) / np.sqrt(count)
    return Mean(float(values.mean()), float(values.mean() - half), float(values.mean() + half), n)


def _are_shares(values: NDArray[np.float64]) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _kept(
    a: NDArray[Any], b: NDArray[Any] | None, groups: NDArray[Any] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[Any] | None]:
    """The samples that have both values, and their groups."""
    first = np.asarray(a, dtype=np.float64)
    second = first if b is None else np.asarray(b, dtype=np.float64)
    there = ~np.isnan(first) & ~np.isnan(second)
    return first[there], second[there], None if groups is None else np.asarray(groups)[there]
