"""Blurs: defocus, glass, motion, zoom, gaussian.

Every function takes a uint8 image [H, W, 3], its constants (constants.py) and a generator, and
returns values in [0, 255] of the same shape; the caller truncates them to uint8.
"""

from __future__ import annotations

import functools
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from robustbench_snn.corruptions.constants import Strength
from robustbench_snn.corruptions.motion import motion_blur as blur_along
from robustbench_snn.corruptions.randomness import Rng, integers
from robustbench_snn.corruptions.zoom import zoom_sum


def smooth(image: NDArray[Any], sigma: float) -> NDArray[Any]:
    """Gaussian blur of [H, W] or [H, W, C]: kernel cut at 4 sigma, edges repeated.

    SciPy rather than OpenCV: flat areas sit on the edge of the later truncation, so only the same
    order of summation gives the same pixels.
    """
    sigmas = (sigma, sigma, 0)[: image.ndim]
    return ndimage.gaussian_filter(image, sigmas, mode="nearest", truncate=4.0)


def gaussian_blur(image: NDArray[np.uint8], c: Strength, rng: Rng) -> NDArray[np.float64]:
    """Gaussian blur of ``c[0]`` pixels."""
    return np.clip(smooth(image / 255.0, c[0]), 0, 1) * 255


@functools.lru_cache(maxsize=16)
def disk(radius: float, alias_sigma: float) -> NDArray[np.float32]:
    """The defocus kernel: a disk on a grid of +-max(8, radius), softened; its support only."""
    small = radius <= 8
    line = np.arange(-8, 8 + 1) if small else np.arange(-radius, radius + 1)
    across, along = np.meshgrid(line, line)
    kernel = np.array(across**2 + along**2 <= radius**2, dtype=np.float32)
    kernel /= kernel.sum(dtype=np.float32)
    side = 3 if small else 5
    kernel = np.asarray(cv2.GaussianBlur(kernel, (side, side), alias_sigma), dtype=np.float32)
    middle = len(line) // 2
    reach = int(np.abs(np.argwhere(kernel > 0) - middle).max())
    support = slice(middle - reach, middle + reach + 1)
    return np.ascontiguousarray(kernel[support, support])


def defocus_blur(image: NDArray[np.uint8], c: Strength, rng: Rng) -> NDArray[np.float64]:
    """Out-of-focus blur with a disk."""
    return np.clip(cv2.filter2D(image / 255.0, -1, disk(c[0], c[1])), 0, 1) * 255


def motion_blur(image: NDArray[np.uint8], c: Strength, rng: Rng) -> NDArray[np.uint8]:
    """Motion blur along an angle uniform in [-45, 45) degrees."""
    return blur_along(image, c[0], c[1], float(rng.uniform(-45, 45)))


def zoom_blur(image: NDArray[np.uint8], c: Strength, rng: Rng) -> NDArray[np.float32]:
    """The mean of the image and its zooms by 1, 1 + step, ..., before ``c[0]``."""
    # numpy.arange includes its end for two of the ten settings through rounding; so did the set.
    factors = tuple(float(f) for f in np.arange(1, c[0], c[1]))
    x = (image / 255.0).astype(np.float32)
    total = (x + zoom_sum(x, factors)) / np.float32(len(factors) + 1)
    return np.clip(total, 0, 1) * 255


@functools.lru_cache(maxsize=16)
def _visited(height: int, width: int, reach: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    rows = np.arange(height - reach, reach, -1)
    columns = np.arange(width - reach, reach, -1)
    order = (rows[:, None] * width + columns[None, :]).ravel()
    mask = np.zeros(height * width, dtype=bool)
    mask[order] = True
    return order, mask


def shuffle_sources(
    height: int, width: int, reach: int, shifts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Where each pixel comes from after one pass of the glass blur.

    The pass visits pixels from the bottom right and writes into each the pixel at its shift. The
    published code means a swap, but its two views alias and only the copy happens. A source that
    was visited before already holds its own source, so the chains of visited pixels are followed
    to their end, all at once, by pointer doubling.

    Args:
        height: in pixels.
        width: in pixels.
        reach: largest shift in pixels.
        shifts: int [V, 2], (dx, dy) in [-reach, reach) of the V visited pixels in their order.

    Returns:
        int64 [height * width]: flat index of the source of every pixel.
    """
    order, visited = _visited(height, width, reach)
    target = order + shifts[:, 1] * width + shifts[:, 0]
    count = height * width
    # Nodes below `count` are pixels before the pass, the others the same pixels after their visit.
    link = np.concatenate([np.arange(count), np.arange(count)])
    link[count + order] = target + count * (visited[target] & (target > order))
    while True:
        further = link[link]
        if np.array_equal(further, link):
            return link[count:]
        link = further


def glass_blur(image: NDArray[np.uint8], c: Strength, rng: Rng) -> NDArray[np.float64]:
    """Blur, displace pixels locally ``c[2]`` times, blur again."""
    sigma, reach, passes = c[0], int(c[1]), int(c[2])
    height, width, channels = image.shape
    x = (smooth(image / 255.0, sigma) * 255).astype(np.uint8).reshape(-1, channels)
    visits = len(_visited(height, width, reach)[0])
    for shifts in integers(rng, -reach, reach, (passes, visits, 2)):
        x = x[shuffle_sources(height, width, reach, shifts)]
    return np.clip(smooth(x.reshape(image.shape) / 255.0, sigma), 0, 1) * 255
