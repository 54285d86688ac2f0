"""Accuracies with intervals and paired comparisons: pure functions on arrays, NumPy only.

All intervals are two-sided. Fractions are in [0, 1]; printing as percent is the report's job.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95


@dataclass(frozen=True)
class Accuracy:
    """``correct`` of ``n`` samples, with the Wilson interval at 95 %.

    Attributes:
        correct: number of correct samples, 0..n.
        n: number of samples, at least 1.
        worth: how many independent samples they are worth (``effective_size``); None for n.
    """

    correct: int
    n: int
    worth: float | None = None

    @classmethod
    def of(cls, right: ArrayLike, groups: ArrayLike | None = None) -> Accuracy:
        """The accuracy of outcomes, bool [n]; ``groups`` as in ``effective_size``."""
        outcomes = np.asarray(right, dtype=bool)
        return cls(int(outcomes.sum()), len(outcomes), effective_size(outcomes, groups))

    @property
    def value(self) -> float:
        """The fraction correct."""
        return self.correct / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound of the 95 % Wilson interval."""
        return wilson(self.correct, self.n, worth=self.worth)


def _check_counts(correct: float, n: float) -> None:
    if n < 1 or not 0 <= correct <= n:
        raise ValueError(f"{correct} correct of {n}: counts need n >= 1 and 0 <= correct <= n")


def _z(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)


def wilson(
    correct: float, n: float, level: float = LEVEL, worth: float | None = None
) -> tuple[float, float]:
    """The score interval of a proportion (Wilson 1927, JASA 22:209).

    Args:
        correct, n: counts; the proportion is their ratio.
        level: coverage.
        worth: how many independent samples the ``n`` are worth (``effective_size``); None for n.

    Returns:
        (low, high), both in [0, 1]; exactly 0 and 1 at the ends of the range.

    Raises:
        ValueError: counts that cannot be.
    """
    _check_counts(correct, n)
    z = _z(level)
    p = correct / n
    n = n if worth is None else worth
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if correct == 0 else (centre - half) / scale
    high = 1.0 if p == 1 else (centre + half) / scale
    return low, high


def effective_size(values: ArrayLike, groups: ArrayLike | None) -> float | None:
    """How many independent samples ``values`` are worth whose groups go together.

    The number of samples over the design effect (Kish 1965, Survey Sampling, section 5.4): the
    variance of the mean, estimated between groups, over that of independent samples. Between the
    number of groups (all of a group agree) and the number of samples; where all values are equal
    nothing tells the two apart, and the groups count.

    Args:
        values: float or bool [n].
        groups: [n], equal for samples that show the same thing; None if every one is its own.

    Returns:
        None when no group has two samples.
    """
    if groups is None:
        return None
    x = np.asarray(values, dtype=np.float64)
    of = np.unique(np.asarray(groups), return_inverse=True)[1]
    sizes = np.bincount(of)
    n, least = float(x.size), float(x.size**2 / np.square(sizes).sum())
    if sizes.max(initial=1) == 1:
        return None
    apart = np.bincount(of, weights=x - x.mean())
    between = float(np.square(apart).sum()) * len(sizes) / max(len(sizes) - 1, 1)
    alone = float(np.square(x - x.mean()).sum())
    return least if alone == 0 else min(max(n * alone / between if between else n, least), n)


def clopper_pearson(correct: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """The exact interval of a proportion (Clopper and Pearson 1934, Biometrika 26:404).

    The bounds are where a binomial tail holds (1 - level) / 2; found by bisection to 1e-12.

    Raises:
        ValueError: counts that cannot be.
    """
    _check_counts(correct, n)
    tail = (1 - level) / 2
    low = 0.0 if correct == 0 else _solve(lambda p: _upper_tail(correct, n, p) < tail)
    high = 1.0 if correct == n else _solve(lambda p: _lower_tail(correct, n, p) > tail)
    return low, high


def _solve(below: Callable[[float], bool], steps: int = 45) -> float:
    low, high = 0.0, 1.0
    for _ in range(steps):
        middle = (low + high) / 2
        if below(middle):
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _log_pmf(n: int, p: float) -> NDArray[np.float64]:
    k = np.arange(n + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    choose = log_factorial[n] - log_factorial - log_factorial[::-1]
    return np.asarray(choose + k * math.log(p) + (n - k) * math.log1p(-p))


def _upper_tail(k: int, n: int, p: float) -> float:
    return float(np.exp(_log_pmf(n, p)[k:]).sum())


def _lower_tail(k: int, n: int, p: float) -> float:
    return float(np.exp(_log_pmf(n, p)[: k + 1]).sum())


def _paired(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    first, second = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if first.shape != second.shape or first.ndim != 1 or first.size == 0:
        raise ValueError(
            f"paired outcomes need two equal lengths of at least 1, got {first.shape} and "
            f"{second.shape}: keep the samples both models were run on"
        )
    return first, second


def paired_difference(
    a: ArrayLike, b: ArrayLike, level: float = LEVEL, groups: ArrayLike | None = None
) -> tuple[float, float, float]:
    """How much more often ``a`` is right than ``b`` on the same samples, with an interval.

    Newcombe's square-and-add interval for paired proportions: the Wilson intervals of both
    accuracies joined through their correlation (Newcombe 1998, Statistics in Medicine
    17:2635, method 10). Without discordant samples it still has a width.

    Args:
        a, b: bool [n], outcome of the same n samples in the same order.
        level: coverage.
        groups: as in ``effective_size``; the counts are scaled to what the samples are worth.

    Returns:
        (difference, low, high) as fractions in [-1, 1]; positive when ``a`` is better.

    Raises:
        ValueError: lengths differ or are 0.
    """
    first, second = _paired(a, b)
    n = float(first.size)
    worth = effective_size(first.astype(float) - second, groups)
    scale = 1.0 if worth is None else worth / n
    both, neither = (scale * float(kind.sum()) for kind in (first & second, ~first & ~second))
    only_a, only_b = (scale * float(kind.sum()) for kind in (first & ~second, ~first & second))
    n = both + neither + only_a + only_b
    pa, pb = (both + only_a) / n, (both + only_b) / n
    (la, ua), (lb, ub) = wilson(both + only_a, n, level), wilson(both + only_b, n, level)
    phi = _phi(both, only_a, only_b, neither)
    difference = (only_a - only_b) / n
    down = (pa - la) ** 2 - 2 * phi * (pa - la) * (ub - pb) + (ub - pb) ** 2
    up = (pb - lb) ** 2 - 2 * phi * (pb - lb) * (ua - pa) + (ua - pa) ** 2
    low = max(-1.0, difference - math.sqrt(max(down, 0.0)))
    high = min(1.0, difference + math.sqrt(max(up, 0.0)))
    return difference, low, high


def _phi(both: float, only_a: float, only_b: float, neither: float) -> float:
    """The correlation of the four-fold table, continuity-corrected when positive (Newcombe)."""
    rows = (both + only_a) * (only_b + neither)
    columns = (both + only_b) * (only_a + neither)
    if rows * columns == 0:
        return 0.0
    determinant = both * neither - only_a * only_b
    if determinant > 0:
        determinant = max(determinant - (both + only_a + only_b + neither) / 2, 0.0)
    return float(determinant / math.sqrt(rows * columns))


def mcnemar(a: ArrayLike, b: ArrayLike, groups: ArrayLike | None = None) -> float:
    """Exact two-sided p-value that two models are right equally often (McNemar 1947).

    The discordant samples are a fair coin under the hypothesis; p is twice the smaller tail.
    Where samples of a group go together, each group's difference as a whole is a fair coin.

    Args:
        a, b: bool [n], outcome of the same n samples in the same order.
        groups: as in ``effective_size``.

    Raises:
        ValueError: lengths differ or are 0.
    """
    first, second = _paired(a, b)
    if groups is not None and effective_size(first, groups) is not None:
        of = np.unique(np.asarray(groups), return_inverse=True)[1]
        return _flipped(first.astype(np.int64) - second, of)
    only_a, only_b = int((first & ~second).sum()), int((~first & second).sum())
    discordant = only_a + only_b
    if discordant == 0:
        return 1.0
    return min(1.0, 2 * _lower_tail(min(only_a, only_b), discordant, 0.5))


def _flipped(difference: NDArray[np.int64], of: NDArray[np.int64]) -> float:
    """How often random signs give the sums of ``difference`` by group as large a total."""
    sums = np.abs(np.rint(np.bincount(of, weights=difference)).astype(int))
    total = abs(int(difference.sum()))
    chance = np.ones(1)
    for size in sums[sums > 0]:
        coin = np.zeros(2 * size + 1)
        coin[0] = coin[-1] = 0.5
        chance = np.convolve(chance, coin)
    middle = len(chance) // 2
    return float(min(1.0, chance[np.abs(np.arange(len(chance)) - middle) >= total].sum()))


def worst_case(outcomes: Sequence[ArrayLike]) -> NDArray[np.bool_]:
    """Samples that are right under every attack.

    Args:
        outcomes: one bool [n] for each attack (the clean outcome may be among them).

    Returns:
        bool [n].

    Raises:
        ValueError: no outcomes, or lengths that differ.
    """
    rows = [np.asarray(row, dtype=bool) for row in outcomes]
    if not rows or len({row.shape for row in rows}) != 1:
        raise ValueError("worst_case needs at least one outcome, all of one length")
    return np.asarray(np.logical_and.reduce(rows))


def agree(correct_a: int, n_a: int, correct_b: int, n_b: int, level: float = LEVEL) -> bool:
    """Whether two accuracies measured on different samples are compatible: intervals overlap."""
    low_a, high_a = wilson(correct_a, n_a, level)
    low_b, high_b = wilson(correct_b, n_b, level)
    return low_a <= high_b and low_b <= high_a
