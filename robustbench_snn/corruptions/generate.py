"""Make corrupted images: one image, or a batch in the layout the models take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.corruptions import blur, digital, frost_textures, noise, weather
from robustbench_snn.corruptions.constants import FROST_TEXTURE_SCALE, Strength, strength
from robustbench_snn.corruptions.names import check_cell
from robustbench_snn.corruptions.randomness import Rng, generator
from robustbench_snn.errors import UsageError

SOURCE = "generated"
JPEG_QUALITY = 85

Corruption = Callable[[NDArray[np.uint8], Strength, Rng], NDArray[Any]]

# Frost is not here: it alone needs textures.
FUNCTIONS: dict[str, Corruption] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": weather.snow,
    "fog": weather.fog,
    "brightness": weather.brightness,
    "contrast": digital.contrast,
    "elastic_transform": digital.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
    "speckle_noise": noise.speckle_noise,
    "gaussian_blur": blur.gaussian_blur,
    "spatter": weather.spatter,
    "saturate": digital.saturate,
}
SMALLEST = 16


def corrupt(
    image: NDArray[np.uint8],
    name: str,
    severity: int,
    preset: str,
    rng: Rng,
    frost_folder: Path | None = None,
) -> NDArray[np.uint8]:
    """One corrupted image.

    Args:
        image: uint8 RGB [H, W, 3], at least 16 pixels a side.
        name: one of names.CORRUPTIONS.
        severity: 1..5.
        preset: ``cifar`` (constants for 32 px) or ``imagenet`` (for 224 px).
        rng: where the corruption draws from; ``randomness.generator`` makes the keyed one.
        frost_folder: folder of the official frost textures; None uses synthetic ones.

    Returns:
        uint8 [H, W, 3]. Floats are truncated, not rounded, as the official sets were.

    Raises:
        UsageError: unknown corruption, severity or preset, or not such an image.
    """
    check_cell(name, severity, preset)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UsageError(
            f"corruption '{name}' got a {image.dtype} array of shape {image.shape}: "
            "corruptions take uint8 RGB images [H, W, 3]."
        )
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST:
        raise UsageError(
            f"corruption '{name}' got a {height}x{width} image: at least {SMALLEST} pixels a side "
            "are needed."
        )
    constants = strength(name, severity, preset)
    if name == "frost":
        scale = FROST_TEXTURE_SCALE[preset]
        textures = frost_textures.textures(frost_folder, scale, height, width)
        out = weather.frost(image, constants, rng, textures)
    else:
        out = FUNCTIONS[name](image, constants, rng)
    return out.astype(np.uint8)


def _to_pixels(x: NDArray[np.float32]) -> NDArray[np.uint8]:
    """[B, 3, H, W] in [0, 1] -> uint8 [B, H, W, 3]; raises UsageError when it is neither."""
    if x.ndim != 4 or x.shape[1] != 3:
        raise UsageError(
            f"corruptions got a batch of shape {x.shape}: they take RGB images [B, 3, H, W]."
        )
    low, high = float(x.min(initial=0.0)), float(x.max(initial=0.0))
    if not (low >= 0.0 and high <= 1.0):
        raise UsageError(
            f"corruptions got values in [{low:.3g}, {high:.3g}]; they take [0, 1]. "
            "Normalise inside the model, after the corruption."
        )
    return np.ascontiguousarray(np.rint(x * 255).astype(np.uint8).transpose(0, 2, 3, 1))


def corrupt_batch(
    x: NDArray[np.float32],
    ids: Sequence[str],
    name: str,
    severity: int,
    preset: str,
    seed: int = 0,
    jpeg85: bool | None = None,
    frost_folder: Path | None = None,
) -> NDArray[np.float32]:
    """A batch of corrupted images, each drawn from its own generator.

    Args:
        x: float32 [B, 3, H, W] in [0, 1]; rounded to 8 bits first, as images are stored.
        ids: B names of the images; with seed, name and severity they key the randomness.
        name: one of names.CORRUPTIONS.
        severity: 1..5.
        preset: ``cifar`` or ``imagenet``.
        seed: of the whole evaluation.
        jpeg85: pass the result through JPEG quality 85, as the official ImageNet-C was stored;
            None does so for the ``imagenet`` preset only.
        frost_folder: folder of the official frost textures; None uses synthetic ones.

    Returns:
        float32 [B, 3, H, W] in [0, 1], multiples of 1/255, contiguous.

    Raises:
        UsageError: see ``corrupt``; or the batch has another form, or another number of ids.
    """
    check_cell(name, severity, preset)
    if len(ids) != len(x):
        raise UsageError(f"corruptions got {len(x)} images and {len(ids)} ids: give one id each.")
    pixels = _to_pixels(x)
    stored = preset == "imagenet" if jpeg85 is None else jpeg85
    for row, image_id in enumerate(ids):
        rng = generator(seed, name, severity, image_id)
        out = corrupt(pixels[row], name, severity, preset, rng, frost_folder)
        pixels[row] = digital.jpeg(out, JPEG_QUALITY, optimize=True) if stored else out
    planes = pixels.transpose(0, 3, 1, 2).astype(np.float32, order="C")
    planes /= np.float32(255)
    return planes
