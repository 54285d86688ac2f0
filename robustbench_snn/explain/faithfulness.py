"""Does the map name the pixels the answer rests on? Insertion, deletion and the MoRF-LeRF gap.

Petsiuk et al. 2018 (RISE, arXiv 1806.07421) for the curves, Samek et al. 2017 (arXiv 1509.06321)
for the gap. Cells are those of the map, blocks of pixels in the image. Deletion paints cells with
the image's mean colour; insertion restores them in a copy blurred by one cell's side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.explain.map_metrics import at_pixels

LARGEST_GRID = 16
METRICS = ("insertion", "deletion", "morf_lerf_gap")


def cell_scores(maps: NDArray[np.floating], grid: tuple[int, int]) -> NDArray[np.float64]:
    """Maps [n, h, w] on a grid of cells: as they are when small, else averaged over ``grid``."""
    n, h, w = maps.shape
    if max(h, w) <= LARGEST_GRID or h % grid[0] or w % grid[1]:
        return np.asarray(maps, dtype=np.float64)
    blocks = np.asarray(maps, dtype=np.float64)
    blocks = blocks.reshape(n, grid[0], h // grid[0], grid[1], w // grid[1])
    return np.asarray(blocks.mean((2, 4)))


def cell_order(maps: NDArray[np.floating], ids: Sequence[str], seed: int) -> NDArray[np.intp]:
    """Cells from highest to lowest, int [n, cells]; equal ones in an order keyed by sample id."""
    orders = []
    for values, sample_id in zip(maps.reshape(len(maps), -1), ids, strict=True):
        digest = hashlib.sha256(f"{seed}|{sample_id}|ties".encode()).digest()
        rng = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
        orders.append(np.lexsort((rng.permutation(len(values)), -values)))
    return np.stack(orders)


def blurred(x: NDArray[np.float32], grid: tuple[int, int]) -> NDArray[np.float32]:
    """Images [n, C, H, W] under a Gaussian whose sigma is one cell's side."""
    from scipy.ndimage import gaussian_filter

    sigma = (0, 0, x.shape[2] / grid[0], x.shape[3] / grid[1])
    return np.asarray(gaussian_filter(x, sigma, mode="nearest"), dtype=np.float32)


def curve(
    model: ModelAdapter,
    start: NDArray[np.float32],
    end: NDArray[np.float32],
    order: NDArray[np.intp],
    grid: tuple[int, int],
    target: Tensor,
    ks: Sequence[int],
) -> NDArray[np.float64]:
    """Probability of ``target`` while cells of ``start`` turn, in ``order``, into ``end``.

    Args:
        model: an adapter.
        start, end: images [n, C, H, W].
        order: cells, first to turn first, [n, cells].
        grid: (rows, columns) of the cells.
        target: classes, int64 [n].
        ks: numbers of cells turned.

    Returns:
        float64 [n, len(ks)].
    """
    n, _, height, width = start.shape
    rank = np.argsort(order, axis=1).reshape(n, *grid)
    pixel_rank = at_pixels(rank, height, width)[:, None]
    found = []
    for k in ks:
        x = torch.from_numpy(np.where(pixel_rank < k, end, start).astype(np.float32))
        with torch.no_grad():
            logits = model(x.to(target.device))
        found.append(logits.softmax(1).gather(1, target[:, None])[:, 0].double().cpu().numpy())
    return np.stack(found, axis=1)


def area(values: NDArray[np.float64], ks: Sequence[int]) -> NDArray[np.float64]:
    """Area under curves [n, len(ks)] by trapezoids over the share of cells turned, [n]."""
    return np.asarray(np.trapezoid(values, np.asarray(ks) / ks[-1], axis=1))


def faithfulness(
    model: ModelAdapter,
    x: NDArray[np.float32],
    target: Tensor,
    maps: NDArray[np.floating],
    ids: Sequence[str],
    seed: int = 0,
    steps: int = 16,
) -> dict[str, NDArray[np.float64]]:
    """The three numbers for each image, [n] each.

    Args:
        model: an adapter.
        x: images [n, C, H, W] in [0, 1].
        target: the class whose probability is followed, int64 [n].
        maps: [n, h, w] on a grid of cells (``cell_scores``).
        ids, seed: key the order of equal cells.
        steps: points of a curve; at most one for each cell.

    Returns:
        ``insertion`` and ``deletion``, areas in [0, 1]; ``morf_lerf_gap``, the mean over the
        curve of (least relevant first - most relevant first), in [-1, 1], 0 for a random order.
    """
    grid = (maps.shape[1], maps.shape[2])
    cells = grid[0] * grid[1]
    ks = np.unique(np.linspace(0, cells, min(steps, cells) + 1).round().astype(int)).tolist()
    order = cell_order(maps, ids, seed)
    colour = np.broadcast_to(x.mean((2, 3), keepdims=True), x.shape)
    morf = curve(model, x, colour, order, grid, target, ks)
    lerf = curve(model, x, colour, order[:, ::-1], grid, target, ks)
    restored = curve(model, blurred(x, grid), x, order, grid, target, ks)
    return {
        "insertion": area(restored, ks),
        "deletion": area(morf, ks),
        "morf_lerf_gap": (lerf - morf).mean(1),
    }
