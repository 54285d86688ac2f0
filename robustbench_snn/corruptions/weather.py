"""Weather: snow, frost, fog, brightness, spatter.

Every function takes a uint8 image [H, W, 3], its constants (constants.py) and a generator, and
returns values in [0, 255] of the same shape; the caller truncates them to uint8.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from robustbench_snn.corruptions.blur import smooth
from robustbench_snn.corruptions.colour import hsv_to_rgb, rgb_to_hsv
from robustbench_snn.corruptions.constants import Strength
from robustbench_snn.corruptions.motion import motion_blur
from robustbench_snn.corruptions.randomness import Rng, integers
from robustbench_snn.corruptions.zoom import clipped_zoom

WATER = (175, 238, 238)
MUD = (63, 42, 20)


def snow(image: NDArray[np.uint8], c: Strength, rng: Rng) -> NDArray[np.float64]:
    """Flakes: thresholded noise, zoomed and blurred along a steep angle, over a whitened image."""
    mean, deviation, zoom, threshold, radius, sigma, weight = c
    x = image.astype(np.float32) / np.float32(255.0)
    flakes = rng.normal(size=x.shape[:2], loc=mean, scale=deviation)
    flakes = clipped_zoom(flakes[..., None], zoom)[..., 0]
    flakes[flakes < threshold] = 0
    layer = (np.clip(flakes, 0, 1) * 255).astype(np.uint8)
    angle = float(rng.uniform(-135, -45))
    layer_blurred = motion_blur(layer, radius, sigma, angle)[..., None] / 255.0
    grey = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None]
    x = weight * x + (1 - weight) * np.maximum(x, grey * 1.5 + 0.5)
    return np.clip(x + layer_blurred + np.rot90(layer_blurred, k=2), 0, 1) * 255


def frost(
    image: NDArray[np.uint8], c: Strength, rng: Rng, textures: Sequence[NDArray[np.uint8]]
) -> NDArray[np.float64]:
    """A random crop of one of the first five ``textures`` (uint8 RGB, larger than the image)."""
    height, width = image.shape[:2]
    texture = textures[int(integers(rng, 0, 5))]
    top = int(integers(rng, 0, texture.shape[0] - height))
    left = int(integers(rng, 0, texture.shape[1] - width))
    crop = texture[top : top + height, left : left + width]
    return np.clip(c[0] * image + c[1] * crop, 0, 255)


def plasma(side: int, decay: float, rng: Rng) -> NDArray[np.float64]:
    """A diamond-square height map [side, side] in [0, 1]; ``side`` is a power of two."""
    field = np.zeros((side, side))
    step, wobble = side, 100.0

    def jitter(total: NDArray[np.float64]) -> NDArray[np.float64]:
        return total / 4 + wobble * rng.uniform(-wobble, wobble, total.shape)

    while step >= 2:
        half = step // 2
        corners = field[::step, ::step]
        square = corners + np.roll(corners, -1, axis=0)
        square = square + np.roll(square, -1, axis=1)
        field[half::step, half::step] = jitter(square)
        centres = field[half::step, half::step]
        above = centres + np.roll(centres, 1, axis=0)
        field[::step, half::step] = jitter(above + (corners + np.roll(corners, -1, axis=1)))
        beside = centres + np.roll(centres, 1, axis=1)
        field[half::step, ::step] = jitter(beside + (corners + np.roll(corners, -1, axis=0)))
        step = half
        wobble /= decay
    field -= field.min()
    return field / field.max()


def fog(image: NDArray[np.uint8], c: Strength, rng: Rng) -> NDArray[np.float64]:
    """A plasma cloud added to the image, then scaled back to the image's brightest value."""
    height, width = image.shape[:2]
    side = 1 << (max(height, width) - 1).bit_length()
    x = image / 255.0
    brightest = x.max()
    x += c[0] * plasma(side, c[1], rng)[:height, :width, None]
    return np.clip(x * brightest / (brightest + c[0]), 0, 1) * 255


def brightness(image: NDArray[np.uint8], c: Strength, rng: Rng) -> NDArray[np.float64]:
    """``c[0]`` added to the value of HSV."""
    x = image / 255.0
    hue, saturation, value = rgb_to_hsv(x[..., 0], x[..., 1], x[..., 2])
    value = np.clip(value + c[0], 0, 1)
    return np.clip(np.stack(hsv_to_rgb(hue, saturation, value), axis=-1), 0, 1) * 255


def _droplets(liquid: NDArray[np.float64], strength: float) -> NDArray[np.float32]:
    grey = (liquid * 255).astype(np.uint8)
    distance = cv2.distanceTransform(255 - cv2.Canny(grey, 50, 150), cv2.DIST_L2, 5)
    distance = cv2.threshold(distance, 20, 20, cv2.THRESH_TRUNC)[1]
    edge = cv2.equalizeHist(cv2.blur(distance, (3, 3)).astype(np.uint8))
    edge = cv2.filter2D(edge, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    mask = grey * cv2.blur(edge, (3, 3)).astype(np.float32)
    peak = mask.max()
    # No droplet survived the threshold: the image stays as it is.
    return mask if peak == 0 else mask / peak * np.float32(strength)


def spatter(image: NDArray[np.uint8], c: Strength, rng: Rng) -> NDArray[np.float64]:
    """Drops of water (severities 1 to 3) or mud (4 and 5) on the lens."""
    mean, deviation, sigma, threshold, strength, is_mud = c
    x = image.astype(np.float32) / np.float32(255.0)
    liquid = smooth(rng.normal(size=x.shape[:2], loc=mean, scale=deviation), sigma)
    liquid[liquid < threshold] = 0
    if not is_mud:
        mask = _droplets(liquid, strength)[..., None]
        colour = np.array(WATER, dtype=np.float64) / 255.0
        return np.clip(x + mask * colour.astype(np.float32), 0, 1) * 255
    mask = smooth((liquid > threshold).astype(np.float32), strength)[..., None]
    mask[mask < 0.8] = 0
    return np.clip(x * (1 - mask) + mask * (np.array(MUD) / 255.0), 0, 1) * 255
