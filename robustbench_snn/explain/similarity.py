"""How alike two maps are: rank correlation, structure, shared top cells, divergence. NumPy only.

All functions compare maps a and b, [n, h, w] each, sample by sample and return float64 [n]. A
constant map has no ranks and no structure: NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.explain.map_metrics import F64, positive

TOP_SHARE = 0.1
_WINDOW = 7
_C1, _C2 = 0.01**2, 0.03**2


def _flat(maps: NDArray[Any]) -> F64:
    return np.asarray(maps, dtype=np.float64).reshape(len(maps), -1)


def varies(maps: NDArray[Any]) -> NDArray[np.bool_]:
    """Which maps are not constant, bool [n]."""
    flat = _flat(maps)
    return np.asarray(flat.max(1) > flat.min(1))


def spearman(a: NDArray[Any], b: NDArray[Any]) -> F64:
    """Rank correlation over the cells, ties by mean rank; 1 same order, 0 unrelated."""
    from scipy.stats import rankdata

    first, second = (rankdata(_flat(m), axis=1) for m in (a, b))
    first = first - first.mean(1, keepdims=True)
    second = second - second.mean(1, keepdims=True)
    scale = np.sqrt((first**2).sum(1) * (second**2).sum(1))
    both = varies(a) & varies(b)
    return np.divide((first * second).sum(1), scale, out=np.full(len(a), np.nan), where=both)


def ssim(a: NDArray[Any], b: NDArray[Any]) -> F64:
    """Mean structural similarity of the maps scaled to [0, 1] (Wang et al. 2004).

    Uniform window of 7x7 cells, or the largest odd one that fits; data range 1.
    """
    from scipy.ndimage import uniform_filter

    first, second = (_scaled(m) for m in (a, b))
    side = min(_WINDOW, *a.shape[1:])
    side -= 1 - side % 2
    n, edge = side * side, side // 2

    def mean(values: F64) -> F64:
        rows, columns = values.shape[1] - edge, values.shape[2] - edge
        filtered = uniform_filter(values, size=(1, side, side))
        return np.asarray(filtered[:, edge:rows, edge:columns])

    unbiased = n / (n - 1) if n > 1 else 1.0
    mu_a, mu_b = mean(first), mean(second)
    var_a = unbiased * (mean(first * first) - mu_a**2)
    var_b = unbiased * (mean(second * second) - mu_b**2)
    cov = unbiased * (mean(first * second) - mu_a * mu_b)
    top = (2 * mu_a * mu_b + _C1) * (2 * cov + _C2)
    bottom = (mu_a**2 + mu_b**2 + _C1) * (var_a + var_b + _C2)
    found = (top / bottom).mean((1, 2))
    return np.where(varies(a) & varies(b), found, np.nan)


def _scaled(maps: NDArray[Any]) -> F64:
    flat = _flat(maps)
    low, high = flat.min(1, keepdims=True), flat.max(1, keepdims=True)
    spread = np.where(high > low, high - low, 1.0)
    return ((flat - low) / spread).reshape(maps.shape)


def top_k_iou(a: NDArray[Any], b: NDArray[Any], share: float = TOP_SHARE) -> F64:
    """Intersection over union of the cells at or above each map's k-th value, k = share of all.

    Cells tied with the k-th value count, so that no order among equals is invented; those at the
    map's lowest value never do.
    """
    tops = [_top(_flat(maps), share) for maps in (a, b)]
    shared, either = (tops[0] & tops[1]).sum(1), (tops[0] | tops[1]).sum(1)
    both = varies(a) & varies(b)
    return np.divide(shared, either, out=np.full(len(both), np.nan), where=both)


def _top(values: F64, share: float) -> NDArray[np.bool_]:
    k = max(1, round(share * values.shape[1]))
    kth = np.partition(values, -k, axis=1)[:, -k, None]
    return np.asarray((values >= kth) & (values > values.min(1, keepdims=True)))


def js_divergence(a: NDArray[Any], b: NDArray[Any]) -> F64:
    """Jensen-Shannon divergence of the maps as distributions, in bits: 0 same, 1 disjoint."""
    first, second = positive(a), positive(b)
    both = (first.sum(1) > 0) & (second.sum(1) > 0)
    p, q = (np.divide(v, np.where(v.sum(1) > 0, v.sum(1), 1.0)[:, None]) for v in (first, second))
    found = (_kl(p, (p + q) / 2) + _kl(q, (p + q) / 2)) / 2
    return np.where(both, found, np.nan)


def _kl(p: F64, m: F64) -> F64:
    ratio = np.divide(p, m, out=np.ones_like(p), where=p > 0)
    return np.asarray((p * np.log2(ratio)).sum(1))


SIMILARITY: dict[str, Callable[[NDArray[Any], NDArray[Any]], F64]] = {
    "spearman": spearman,
    "ssim": ssim,
    "top_k_iou": top_k_iou,
    "js_divergence": js_divergence,
}
