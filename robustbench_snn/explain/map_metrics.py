"""Numbers for maps: where their mass lies, and how concentrated it is. NumPy only.

All functions take a whole batch, maps [n, h, w] in raw units and masks bool [n, H, W], and return
float64 [n]. Negative values (class maps, signed attributions) count as 0. A map without positive
mass, and for the first group an empty mask, gives NaN.

A map is compared with a mask pixel by pixel; each pixel has the value of the cell it lies in, so
that nothing is added by interpolation. Ties, which cells make common, count by their expectation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]


def positive(maps: NDArray[Any]) -> F64:
    """Maps with negative values set to 0, float64 [n, cells]."""
    return np.maximum(np.asarray(maps, dtype=np.float64).reshape(len(maps), -1), 0.0)


def cell_indices(cells: int, pixels: int) -> NDArray[np.intp]:
    """For each of ``pixels`` pixels in a row, the cell (of ``cells``) its centre lies in."""
    return np.asarray((np.arange(pixels) * 2 + 1) * cells // (2 * pixels), dtype=np.intp)


def at_pixels(maps: NDArray[Any], height: int, width: int) -> F64:
    """Maps [n, h, w] as seen at every pixel, float64 [n, height, width] (nearest cell)."""
    rows, columns = cell_indices(maps.shape[1], height), cell_indices(maps.shape[2], width)
    return np.asarray(maps, dtype=np.float64)[:, rows][:, :, columns]


def _spread(maps: NDArray[Any], masks: Mask) -> tuple[F64, Mask, Mask]:
    """(values [n, pixels] >= 0, masks [n, pixels], which samples are defined [n])."""
    values = positive(at_pixels(maps, masks.shape[1], masks.shape[2]))
    flat = np.asarray(masks, dtype=bool).reshape(len(masks), -1)
    return values, flat, (values.sum(1) > 0) & flat.any(1)


def _divide(a: F64, b: F64, where: Mask) -> F64:
    return np.divide(a, b, out=np.full(len(a), np.nan), where=where)


def relevance_mass(maps: NDArray[Any], masks: Mask) -> F64:
    """Share of the mass inside the mask, [0, 1]; chance is the mask's area.

    Energy-based pointing (Wang et al. 2020, Score-CAM), relevance mass accuracy (Arras et al.
    2022, arXiv 2003.07258), attribution localisation (Kohlbrenner et al. 2020, arXiv 1910.09840).
    """
    values, flat, defined = _spread(maps, masks)
    return _divide((values * flat).sum(1), values.sum(1), defined)


def background_mass(maps: NDArray[Any], masks: Mask) -> F64:
    """Share of the mass outside the mask, [0, 1]: the paper's "distraction" as a number."""
    return 1.0 - relevance_mass(maps, masks)


def lift(maps: NDArray[Any], masks: Mask) -> F64:
    """Relevance mass over the mask's area (weighted localisation); chance 1."""
    area = np.asarray(masks, dtype=np.float64).reshape(len(masks), -1).mean(1)
    return _divide(relevance_mass(maps, masks), area, area > 0)


def relevance_rank(maps: NDArray[Any], masks: Mask) -> F64:
    """Share of the K highest pixels that lie in a mask of K pixels (Arras et al. 2022)."""
    values, flat, defined = _spread(maps, masks)
    found = np.full(len(values), np.nan)
    for i in np.flatnonzero(defined):
        k = int(flat[i].sum())
        threshold = np.partition(values[i], -k)[-k]
        above, tied = values[i] > threshold, values[i] == threshold
        room = (k - above.sum()) / tied.sum()
        found[i] = ((flat[i] & above).sum() + room * (flat[i] & tied).sum()) / k
    return found


def pointing(maps: NDArray[Any], masks: Mask) -> F64:
    """Whether the highest pixel lies in the mask (Zhang et al. 2016, arXiv 1608.00507).

    The highest cell covers several pixels: the share of them inside the mask. No tolerance.
    """
    values, flat, defined = _spread(maps, masks)
    top = values == values.max(1, keepdims=True)
    return _divide((top & flat).sum(1).astype(np.float64), top.sum(1).astype(float), defined)


def localisation_auc(maps: NDArray[Any], masks: Mask) -> F64:
    """Area under the ROC curve of the map as a score for the mask (Fawcett 2006); chance 0.5."""
    from scipy.stats import rankdata

    values, flat, defined = _spread(maps, masks)
    inside, n = flat.sum(1).astype(np.float64), flat.shape[1]
    ranks = (rankdata(values, axis=1) * flat).sum(1)
    pairs = inside * (n - inside)
    return _divide(ranks - inside * (inside + 1) / 2, pairs, defined & (pairs > 0))


def entropy(maps: NDArray[Any]) -> F64:
    """Entropy of the map as a distribution over its n cells, divided by ln n: 1 is uniform.

    Bhatt et al. 2020, arXiv 2005.00631.
    """
    return _nats(maps) / np.log(positive(maps).shape[1])


def effective_cells(maps: NDArray[Any]) -> F64:
    """exp(entropy in nats): how many cells a uniform map of the same entropy would cover."""
    return np.exp(_nats(maps))


def _nats(maps: NDArray[Any]) -> F64:
    values = positive(maps)
    total = values.sum(1, keepdims=True)
    p = np.divide(values, total, out=np.full_like(values, np.nan), where=total > 0)
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    return -(p * logs).sum(1)


def gini(maps: NDArray[Any]) -> F64:
    """Gini index of the cells: 0 is uniform, 1 - 1/n one cell (Chalasani et al. 2020)."""
    values = np.sort(positive(maps), axis=1)
    n = values.shape[1]
    weights = 2 * np.arange(1, n + 1) - n - 1
    total = values.sum(1)
    return _divide((values * weights).sum(1), n * total, total > 0)


def hoyer(maps: NDArray[Any]) -> F64:
    """Hoyer sparseness: (sqrt n - L1 / L2) / (sqrt n - 1); 0 is uniform, 1 one cell (2004)."""
    values = positive(maps)
    total, root = values.sum(1), np.sqrt(values.shape[1])
    ratio = _divide(total, np.sqrt((values**2).sum(1)), total > 0)
    return (root - ratio) / (root - 1)


LOCATION: dict[str, Callable[[NDArray[Any], Mask], F64]] = {
    "background_mass": background_mass,
    "relevance_mass": relevance_mass,
    "lift": lift,
    "relevance_rank": relevance_rank,
    "pointing": pointing,
    "localisation_auc": localisation_auc,
}
CONCENTRATION: dict[str, Callable[[NDArray[Any]], F64]] = {
    "entropy": entropy,
    "gini": gini,
    "hoyer": hoyer,
    "effective_cells": effective_cells,
}


def chance(masks: Mask) -> dict[str, F64]:
    """What each location metric expects of a map that knows nothing of the mask, [n] each."""
    area = np.asarray(masks, dtype=np.float64).reshape(len(masks), -1).mean(1)
    area = np.where(area > 0, area, np.nan)
    same = np.where(np.isnan(area), np.nan, 1.0)
    return {
        "background_mass": 1.0 - area,
        "relevance_mass": area,
        "lift": same,
        "relevance_rank": area,
        "pointing": area,
        "localisation_auc": 0.5 * same,
    }
