"""Linear motion blur as ImageMagick makes and stores it: a one-sided Gaussian along a line."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

# Taps below this weight move no value of an 8-bit image.
NEGLIGIBLE = 1e-9

# 16-bit quanta for one step of an 8-bit value: 65535 / 255.
QUANTA = 257.0


def taps(radius: float, sigma: float, angle: float) -> list[tuple[int, int, float]]:
    """Row offset, column offset and weight of every sample the blur averages.

    Args:
        radius: in pixels; the line has 2 radius + 1 samples and starts at the pixel itself.
        sigma: deviation of the weights along the line, in pixels.
        angle: direction in degrees; 0 points right, 90 down.
    """
    count = 2 * math.ceil(radius) + 1
    weights = np.exp(-(np.arange(count) ** 2) / (2.0 * sigma * sigma))
    weights /= weights.sum()
    down, right = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    return [
        (math.ceil(i * down - 0.5), math.ceil(i * right - 0.5), float(weight))
        for i, weight in enumerate(weights)
        if weight > NEGLIGIBLE
    ]


def motion_blur(
    image: NDArray[np.uint8], radius: float, sigma: float, angle: float
) -> NDArray[np.uint8]:
    """Blur ``image`` [H, W] or [H, W, C] along ``angle`` degrees; edges are repeated.

    Equal, bit for bit, to ImageMagick 6.9.11 (16-bit quanta) writing an 8-bit PNG.
    """
    line = taps(radius, sigma, angle)
    up = max(0, -min(row for row, _, _ in line))
    left = max(0, -min(column for _, column, _ in line))
    down = max(0, max(row for row, _, _ in line))
    right = max(0, max(column for _, column, _ in line))
    source = np.ascontiguousarray(image, dtype=np.float64)
    padded = cv2.copyMakeBorder(source, up, down, left, right, cv2.BORDER_REPLICATE)
    height, width = image.shape[:2]
    total = np.zeros_like(source)
    for row, column, weight in line:
        top, start = up + row, left + column
        view = padded[top : top + height, start : start + width]
        cv2.scaleAdd(view, weight, total, total)
    # It rounds to a 16-bit quantum and then truncates that to 8 bits.
    return (np.floor(total * QUANTA + 0.5) / QUANTA).astype(np.uint8)
