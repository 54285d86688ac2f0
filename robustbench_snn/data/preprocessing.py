"""From a decoded picture to the model's pixels: resize, centre crop, RGB, [C, H, W]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robustbench_snn.card import Preprocess
from robustbench_snn.errors import UsageError

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def to_pixels(picture: Image.Image, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Apply the evaluation protocol of the published models (torchvision's rules, with Pillow).

    Colours become RGB first, as in the loader those models were evaluated with; resizing a
    palette image would mix palette indices.

    Returns:
        uint8 [3, H, W], contiguous.

    Raises:
        UsageError: the crop is larger than the resized picture.
    """
    picture = picture.convert("RGB")
    if preprocess.resize is not None:
        picture = _resize_shorter_side(picture, preprocess.resize, preprocess.interpolation)
    if preprocess.crop is not None:
        picture = _centre_crop(picture, preprocess.crop)
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


def _resize_shorter_side(picture: Image.Image, size: int, interpolation: str) -> Image.Image:
    """Shorter side becomes ``size``; the longer one keeps the ratio, rounded down."""
    short, long = sorted(picture.size)
    if short == size:
        return picture
    scaled = int(size * long / short)
    width, height = picture.size
    target = (size, scaled) if width <= height else (scaled, size)
    return picture.resize(target, _FILTERS[interpolation])


def _centre_crop(picture: Image.Image, size: int) -> Image.Image:
    """The middle ``size`` x ``size`` pixels; half a pixel is rounded to the even side."""
    width, height = picture.size
    if min(width, height) < size:
        raise UsageError(
            f"an image of {width}x{height} pixels is smaller than the model's centre crop of "
            f"{size}: give larger images or a model for this size."
        )
    left, top = round((width - size) / 2), round((height - size) / 2)
    return picture.crop((left, top, left + size, top + size))
