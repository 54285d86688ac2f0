"""Digital: contrast, elastic transform, pixelate, JPEG, saturate.

Every function takes a uint8 image [H, W, 3], its constants (constants.py) and a generator, and
returns values in [0, 255] of the same shape; the caller truncates them to uint8.
"""

from __future__ import annotations

import functools
from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from robustbench_snn.corruptions.colour import hsv_to_rgb, rgb_to_hsv
from robustbench_snn.corruptions.constants import Strength
from robustbench_snn.corruptions.randomness import Rng


def contrast(image: NDArray[np.uint8], c: Strength, rng: Rng) -> NDArray[np.float64]:
    """Values pulled towards the mean of their channel."""
    x = image / 255.0
    means = np.mean(x, axis=(0, 1), keepdims=True)
    return np.clip((x - means) * c[0] + means, 0, 1) * 255


def saturate(image: NDArray[np.uint8], c: Strength, rng: Rng) -> NDArray[np.float64]:
    """The saturation of HSV times ``c[0]`` plus ``c[1]``."""
    x = image / 255.0
    hue, saturation, value = rgb_to_hsv(x[..., 0], x[..., 1], x[..., 2])
    saturation = np.clip(saturation * c[0] + c[1], 0, 1)
    return np.clip(np.stack(hsv_to_rgb(hue, saturation, value), axis=-1), 0, 1) * 255


def jpeg(image: NDArray[np.uint8], quality: int, optimize: bool = False) -> NDArray[np.uint8]:
    """``image`` [H, W, 3] after a JPEG round trip."""
    stored = BytesIO()
    Image.fromarray(image).save(stored, "JPEG", quality=quality, optimize=optimize)
    return np.asarray(Image.open(stored))


def jpeg_compression(image: NDArray[np.uint8], c: Strength, rng: Rng) -> NDArray[np.uint8]:
    """A JPEG round trip of quality ``c[0]``."""
    return jpeg(image, int(c[0]))


def pixelate(image: NDArray[np.uint8], c: Strength, rng: Rng) -> NDArray[np.uint8]:
    """Shrunk by ``c[0]`` and enlarged again, both with a box filter."""
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize(
        (int(width * c[0]), int(height * c[0])), Image.Resampling.BOX
    )
    return np.asarray(small.resize((width, height), Image.Resampling.BOX))


@functools.lru_cache(maxsize=32)
def _smoothing(size: int, sigma: float) -> NDArray[np.float64]:
    """Gaussian smoothing of one axis as a [size, size] matrix: cut at 3 sigma, edges mirrored."""
    return ndimage.gaussian_filter1d(np.eye(size), sigma, axis=0, mode="reflect", truncate=3)


def _displacement(
    shape: tuple[int, int], amplitude: float, sigma: float, rng: Rng
) -> NDArray[np.float32]:
    field = rng.uniform(-1, 1, size=shape)
    if amplitude == 0:
        return np.zeros(shape, dtype=np.float32)
    smoothed = _smoothing(shape[0], sigma) @ field @ _smoothing(shape[1], sigma).T
    return (smoothed * amplitude).astype(np.float32)


def elastic_transform(image: NDArray[np.uint8], c: Strength, rng: Rng) -> NDArray[np.float32]:
    """A random affine jitter, then every pixel displaced by a smooth random field."""
    amplitude, sigma, jitter = c
    x = image.astype(np.float32) / np.float32(255.0)
    height, width = image.shape[:2]
    centre = np.array([height, width], dtype=np.float32) // 2
    reach = min(height, width) // 3
    corners = np.array(
        [centre + reach, [centre[0] + reach, centre[1] - reach], centre - reach], dtype=np.float32
    )
    moved = corners + rng.uniform(-jitter, jitter, size=corners.shape).astype(np.float32)
    affine = cv2.getAffineTransform(corners, moved)
    x = cv2.warpAffine(x, affine, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    dx = _displacement((height, width), amplitude, sigma, rng)
    dy = _displacement((height, width), amplitude, sigma, rng)
    where = (np.arange(height)[:, None] + dy, np.arange(width)[None, :] + dx)
    out = np.empty_like(x)
    for channel in range(x.shape[2]):
        out[..., channel] = ndimage.map_coordinates(x[..., channel], where, order=1, mode="reflect")
    return np.clip(out, 0, 1) * 255
