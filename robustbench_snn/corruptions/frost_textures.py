"""Textures for the frost corruption: a user's folder of the official six, or synthetic ones.

The official photographs may not be redistributed, so without them the package draws its own:
frozen-window patterns from noise, matched to the photographs' colour and spread, and always
labelled as synthetic.
"""

from __future__ import annotations

import functools
import hashlib
import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from robustbench_snn.errors import UsageError

OFFICIAL_FILES = (
    "frost1.png",
    "frost2.png",
    "frost3.png",
    "frost4.jpg",
    "frost5.jpg",
    "frost6.jpg",
)
# The official generator draws from the first five and never reaches the sixth.
USED = 5
SYNTHETIC = "synthetic texture"
SYNTHETIC_SHAPE = (480, 720)
# Mean red, green and blue of the five used photographs, and the deviation of their grey values.
TONES = (
    ((78, 149, 166), 16),
    ((201, 205, 214), 21),
    ((201, 205, 214), 21),
    ((138, 153, 165), 28),
    ((112, 123, 135), 43),
)


def _noise(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> NDArray[np.float32]:
    coarse = (max(2, round(shape[0] / scale)), max(2, round(shape[1] / scale)))
    field = rng.normal(size=coarse).astype(np.float32)
    return cv2.resize(field, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def _needles(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Ice needles: sparse seeds drawn out along three directions sixty degrees apart."""
    seeds = (rng.random(shape) > 0.99).astype(np.float32)
    first = rng.uniform(0, math.pi)
    total = np.zeros(shape, dtype=np.float32)
    for turn in range(3):
        angle = first + turn * math.pi / 3
        kernel = np.zeros((41, 41), dtype=np.float32)
        end = (round(20 + 20 * math.cos(angle)), round(20 + 20 * math.sin(angle)))
        cv2.line(kernel, (40 - end[0], 40 - end[1]), end, 1.0)
        total += cv2.filter2D(seeds, -1, kernel)
    return total / total.std()


def _standardise(field: NDArray[np.float32]) -> NDArray[np.float32]:
    return (field - field.mean()) / field.std()


def draw_texture(index: int) -> NDArray[np.uint8]:
    """Synthetic frost ``index``, uint8 RGB [480, 720, 3]; equal on every call."""
    rng = np.random.Generator(np.random.Philox(key=index))
    shape = SYNTHETIC_SHAPE
    cloud = sum(_noise(rng, shape, scale) * weight for scale, weight in ((220, 1.0), (70, 0.7)))
    ridges = sum(
        (1 - np.abs(_noise(rng, shape, scale))) * weight for scale, weight in ((30, 0.6), (9, 0.5))
    )
    field = _standardise(np.asarray(cloud + ridges + 0.35 * _needles(rng, shape), np.float32))
    grain = rng.normal(size=shape).astype(np.float32)
    mean, deviation = TONES[index]
    shade = deviation * _standardise(field + 0.2 * grain)
    return np.clip(np.array(mean) + shade[..., None], 0, 255).astype(np.uint8)


@functools.lru_cache(maxsize=1)
def synthetic() -> tuple[NDArray[np.uint8], ...]:
    """The five synthetic textures."""
    return tuple(draw_texture(index) for index in range(USED))


@functools.lru_cache(maxsize=4)
def official(folder: Path) -> tuple[NDArray[np.uint8], ...]:
    """The five used official textures of ``folder``, uint8 RGB.

    Raises:
        UsageError: one of the files is missing or is not an image.
    """
    found = []
    for name in OFFICIAL_FILES[:USED]:
        image = cv2.imread(str(folder / name), cv2.IMREAD_COLOR)
        if image is None:
            raise UsageError(
                f"frost textures: '{folder / name}' is missing or not an image; the folder needs "
                f"{', '.join(OFFICIAL_FILES[:USED])} of the official set."
            )
        found.append(np.ascontiguousarray(image[..., ::-1]))
    return tuple(found)


@functools.lru_cache(maxsize=16)
def textures(
    folder: Path | None, scale: float, height: int, width: int
) -> tuple[NDArray[np.uint8], ...]:
    """Five textures at ``scale``, each larger than ``height`` x ``width`` pixels.

    Args:
        folder: where the official files are; None draws synthetic ones.
        scale: resizing of the texture (0.2 for 32-px images, 1 for 224-px images).
        height: rows the texture must exceed; a smaller one is enlarged to fit.
        width: columns the texture must exceed.
    """
    resized = []
    for texture in synthetic() if folder is None else official(folder):
        need = max((height + 1) / texture.shape[0], (width + 1) / texture.shape[1])
        factor = max(scale, need)
        if factor != 1:
            size = (math.ceil(texture.shape[1] * factor), math.ceil(texture.shape[0] * factor))
            if factor == scale:
                size = (0, 0)
            texture = np.asarray(cv2.resize(texture, size, fx=factor, fy=factor), np.uint8)
        resized.append(texture)
    return tuple(resized)


def label(folder: Path | None) -> str:
    """What the frost rows of a result must say about their texture."""
    if folder is None:
        return SYNTHETIC
    digest = hashlib.sha256()
    for texture in official(folder):
        digest.update(texture.tobytes())
    return f"texture files {digest.hexdigest()[:12]}"
