"""Clipped zoom: magnify the middle of an image and cut it back to its size.

Bilinear with aligned corners, the sampling of ``scipy.ndimage.zoom(order=1)``, written as two
sparse matrices, one an axis: several zoom factors of one image then cost two products.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

# Zoomed layers of at most this many pixels are made at once, which keeps them in cache.
PIXELS_AT_ONCE = 16_000


@functools.lru_cache(maxsize=512)
def axis_weights(size: int, factor: float) -> Any:
    """The zoom of one axis as a sparse [size, size] matrix: output pixels from input pixels."""
    crop = math.ceil(size / factor)
    top = (size - crop) // 2
    zoomed = round(crop * factor)
    trim = (zoomed - size) // 2
    ratio = (crop - 1) / (zoomed - 1) if zoomed > 1 else 1.0
    where = (trim + np.arange(size)) * ratio
    first = np.floor(where).astype(np.int64)
    part = where - first
    second = np.minimum(first + 1, crop - 1)
    # The last coordinate can exceed the last pixel by a rounding error; SciPy then reads its
    # constant background, 0.
    inside = where <= crop - 1
    rows = np.concatenate([np.arange(size), np.arange(size)])
    columns = np.concatenate([np.minimum(first, crop - 1), second]) + top
    weights = np.concatenate([(1 - part) * inside, part * inside])
    return sparse.csr_matrix((weights, (rows, columns)), shape=(size, size))


@functools.lru_cache(maxsize=64)
def _stacks(height: int, width: int, factors: tuple[float, ...]) -> tuple[Any, Any]:
    rows = sparse.vstack([axis_weights(height, f) for f in factors], format="csr")
    columns = sparse.block_diag([axis_weights(width, f) for f in factors], format="csr")
    return rows, columns


def _layers(image: NDArray[Any], factors: tuple[float, ...]) -> NDArray[np.float64]:
    height, width, channels = image.shape
    rows, columns = _stacks(height, width, factors)
    count = len(factors)
    tall = rows @ image.reshape(height, width * channels).astype(np.float64)
    wide = tall.reshape(count, height, width, channels).transpose(0, 2, 1, 3)
    out = columns @ wide.reshape(count * width, height * channels)
    layers: NDArray[np.float64] = out.reshape(count, width, height, channels)
    return layers


def clipped_zoom(image: NDArray[Any], factor: float) -> NDArray[np.float64]:
    """The middle of ``image`` [H, W, C] magnified by ``factor`` >= 1, size kept; float64."""
    return np.ascontiguousarray(_layers(image, (float(factor),))[0].transpose(1, 0, 2))


def zoom_sum(image: NDArray[np.float32], factors: tuple[float, ...]) -> NDArray[np.float32]:
    """The sum of ``clipped_zoom`` over ``factors``, rounded to float32 after every layer."""
    height, width, channels = image.shape
    step = max(1, PIXELS_AT_ONCE // (height * width))
    total = np.zeros((width, height, channels), dtype=np.float32)
    for start in range(0, len(factors), step):
        for layer in _layers(image, factors[start : start + step]).astype(np.float32):
            total += layer
    return np.ascontiguousarray(total.transpose(1, 0, 2))
