"""Grid pointing: four images of different classes in one, and where the map of one class lies.

Arias-Duart et al. 2021 (Focus, arXiv 2109.15035). Only class-specific maps can answer; a
class-agnostic one has 0.25 whatever it shows. The mosaic is twice as large as the images a model
was made for, which these networks accept, having no position embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.explain.map_metrics import positive

CHANCE = 0.25


def partners(index: int, labels: Sequence[int]) -> list[int] | None:
    """The next three images after ``index`` whose classes differ from it and each other.

    Returns:
        Three indices, the search wrapping around the end; None when there are not four classes.
    """
    found, seen = [], {labels[index]}
    for step in range(1, len(labels)):
        other = (index + step) % len(labels)
        if labels[other] not in seen:
            found.append(other)
            seen.add(labels[other])
        if len(found) == 3:
            return found
    return None


def mosaics(
    indices: Sequence[int],
    labels: Sequence[int],
    images: Callable[[Sequence[int]], NDArray[np.float32]],
) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
    """2x2 mosaics, one for each index, its own image in a cell that turns with the index.

    Args:
        indices: images to build mosaics for.
        labels: classes of all images.
        images: indices to images [n, C, H, W].

    Returns:
        (float32 [n, C, 2H, 2W], cell of the own image int64 [n], row-major); None when the
        images do not have four classes.
    """
    built, cells = [], []
    for index in indices:
        others = partners(index, labels)
        if others is None:
            return None
        cell = index % 4
        four = [*others[:cell], index, *others[cell:]]
        a, b, c, d = images(four)
        rows = [np.concatenate([a, b], axis=2), np.concatenate([c, d], axis=2)]
        built.append(np.concatenate(rows, axis=1))
        cells.append(cell)
    return np.stack(built), np.array(cells, dtype=np.int64)


def grid_pointing(maps: NDArray[np.floating], cells: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of each map's positive mass in its own quarter, float64 [n]; chance 0.25.

    Args:
        maps: of mosaics, [n, h, w] with even h and w.
        cells: which quarter, row-major 0..3, [n].
    """
    n, h, w = maps.shape
    values = positive(maps).reshape(n, 2, h // 2, 2, w // 2).sum((2, 4)).reshape(n, 4)
    total = values.sum(1)
    own = values[np.arange(n), cells]
    return np.divide(own, total, out=np.full(n, np.nan), where=total > 0)
