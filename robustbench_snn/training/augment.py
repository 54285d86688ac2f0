"""Label-preserving changes of training batches, drawn from one generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.training.recipe import check_augmentations

Pixels = NDArray[np.uint8]
SHIFT, CUTOUT, ERASED = 4, 8, 0.25


def shift(x: Pixels, rng: np.random.Generator) -> Pixels:
    """Random translation by up to 4 pixels, mirrored at the border."""
    b, _, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)), mode="reflect")
    top, left = rng.integers(0, 2 * SHIFT + 1, size=(2, b))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (h, w), axis=(2, 3))
    return np.ascontiguousarray(windows[np.arange(b), :, top, left])


def crop(x: Pixels, rng: np.random.Generator) -> Pixels:
    """A random window of seven eighths of each side, at the image's own scale."""
    b, _, h, w = x.shape
    high, wide = h * 7 // 8, w * 7 // 8
    top = rng.integers(0, h - high + 1, size=b)
    left = rng.integers(0, w - wide + 1, size=b)
    windows = np.lib.stride_tricks.sliding_window_view(x, (high, wide), axis=(2, 3))
    return np.ascontiguousarray(windows[np.arange(b), :, top, left])


def flip(x: Pixels, rng: np.random.Generator) -> Pixels:
    """Mirror half of the images left to right."""
    chosen = rng.random(len(x)) < 0.5
    return np.where(chosen[:, None, None, None], x[..., ::-1], x)


def cutout(x: Pixels, rng: np.random.Generator) -> Pixels:
    """Grey out a square of 8 pixels around a random centre."""
    b, _, h, w = x.shape
    centre = rng.integers(0, (h, w), size=(b, 2))
    rows = np.abs(np.arange(h)[None] - centre[:, :1]) < CUTOUT // 2
    columns = np.abs(np.arange(w)[None] - centre[:, 1:]) < CUTOUT // 2
    hole = rows[:, None, :, None] & columns[:, None, None, :]
    return np.where(hole, np.uint8(128), x)


def channels(x: Pixels, rng: np.random.Generator) -> Pixels:
    """Permute the colour channels of each image (the label does not depend on colour)."""
    order = rng.permuted(np.tile(np.arange(x.shape[1]), (len(x), 1)), axis=1)
    return np.take_along_axis(x, order[:, :, None, None], axis=1)


def erase(x: Pixels, rng: np.random.Generator) -> Pixels:
    """Random erasing (Zhong et al., arXiv 1708.04896): noise in a rectangle of a quarter of them.

    The rectangle covers 2 to 33 % of the image at an aspect of 0.3 to 3.3.
    """
    b, _, h, w = x.shape
    chosen = np.less(rng.random(b), ERASED)
    area = rng.uniform(0.02, 0.33, b) * h * w
    aspect = np.exp(rng.uniform(np.log(0.3), np.log(10 / 3), b))
    high = np.clip(np.round(np.sqrt(area * aspect)), 1, h).astype(int)
    wide = np.clip(np.round(np.sqrt(area / aspect)), 1, w).astype(int)
    top, left = rng.integers(0, h - high + 1), rng.integers(0, w - wide + 1)
    rows, columns = np.arange(h)[None], np.arange(w)[None]
    in_rows = (rows >= top[:, None]) & (rows < (top + high)[:, None])
    in_columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
    hole = chosen[:, None, None] & in_rows[:, :, None] & in_columns[:, None, :]
    return np.where(hole[:, None], rng.integers(0, 256, x.shape, dtype=np.uint8), x)


AUGMENTS: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "shift": shift,
    "crop": crop,
    "flip": flip,
    "cutout": cutout,
    "channels": channels,
    "erase": erase,
}


def augment(x: Pixels, names: Sequence[str], rng: np.random.Generator) -> Pixels:
    """Apply ``names`` in order to a batch uint8 [B, C, H, W].

    Raises:
        UsageError: a name that is no augmentation.
    """
    check_augmentations(names)
    for name in names:
        x = AUGMENTS[name](x, rng)
    return x
