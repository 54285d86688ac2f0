"""Noise: gaussian, shot, impulse, speckle.

Every function takes a uint8 image [H, W, 3], its constants (constants.py) and a generator, and
returns float values in [0, 255] of the same shape; the caller truncates them to uint8.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.corruptions.constants import Strength
from robustbench_snn.corruptions.randomness import Rng


def gaussian_noise(image: NDArray[np.uint8], c: Strength, rng: Rng) -> NDArray[np.float64]:
    """Additive noise of one deviation everywhere."""
    x = image / 255.0
    return np.clip(x + rng.normal(size=x.shape, scale=c[0]), 0, 1) * 255


def shot_noise(image: NDArray[np.uint8], c: Strength, rng: Rng) -> NDArray[np.float64]:
    """Poisson noise: ``c[0]`` events for a pixel of value 1."""
    x = image / 255.0
    return np.clip(rng.poisson(x * c[0]) / float(c[0]), 0, 1) * 255


def impulse_noise(image: NDArray[np.uint8], c: Strength, rng: Rng) -> NDArray[np.float64]:
    """Salt and pepper, drawn for every channel by itself."""
    x = image / 255.0
    hit = rng.random(x.shape) <= c[0]
    salt = rng.random(x.shape) <= 0.5
    x[hit & salt] = 1.0
    x[hit & ~salt] = 0.0
    return x * 255


def speckle_noise(image: NDArray[np.uint8], c: Strength, rng: Rng) -> NDArray[np.float64]:
    """Noise proportional to the value."""
    x = image / 255.0
    return np.clip(x + x * rng.normal(size=x.shape, scale=c[0]), 0, 1) * 255
