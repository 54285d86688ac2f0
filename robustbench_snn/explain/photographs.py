"""A user's own pictures as a model's input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from robustbench_snn.card import ModelCard, Preprocess
from robustbench_snn.data.preprocessing import to_pixels
from robustbench_snn.errors import UsageError

LARGEST = 100_000_000
_GREY = {"1", "L", "I", "F", "I;16", "I;16B", "I;16L"}


def read_photograph(path: Path) -> Image.Image:
    """The picture in ``path``, decoded, in RGB, turned upright as its EXIF data says.

    Raises:
        UsageError: no such file, no picture, too many pixels, an alpha channel, or grey.
    """
    if not path.is_file():
        raise UsageError(f"--image '{path}' was asked for, but there is no such file.")
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path) as picture:
            _check(path, picture)
            picture.load()
            return ImageOps.exif_transpose(picture).convert("RGB")
    except UsageError:
        raise
    except UnidentifiedImageError:
        raise UsageError(
            f"--image '{path}' is no picture that Pillow can read: give a JPEG or PNG file."
        ) from None
    except (OSError, ValueError, SyntaxError) as error:
        raise UsageError(f"--image '{path}' cannot be decoded ({error}): is it whole?") from None
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _check(path: Path, picture: Image.Image) -> None:
    width, height = picture.size
    if width * height > LARGEST:
        raise UsageError(
            f"--image '{path}' has {width}x{height} pixels, more than the {LARGEST:,} that are "
            "read: shrink it first."
        )
    if picture.mode in _GREY:
        raise UsageError(
            f"--image '{path}' is grey (mode {picture.mode}), but the models were trained on "
            "colour: save it as RGB if you want it read so."
        )
    if picture.mode[-1] in "Aa" or "transparency" in picture.info:
        raise UsageError(
            f"--image '{path}' has an alpha channel (mode {picture.mode}), and what lies behind "
            "it is unknown: flatten it to RGB first."
        )


def preprocess_for(card: ModelCard) -> tuple[Preprocess, str]:
    """How a photograph of any size becomes the model's input, and a sentence for the caption.

    The card's own resize and crop where it states them; else the shorter side is resized to the
    input's side and the middle is cropped.

    Raises:
        UsageError: the model takes event frames.
    """
    if len(card.input_shape) != 3 or card.input_shape[0] != 3:
        raise UsageError(
            f"model '{card.name}' takes event frames {list(card.input_shape)}, not photographs: "
            "choose an image model."
        )
    stated = card.preprocess
    if stated.crop is not None:
        chosen, whose = stated, "as the model's card says"
    else:
        side = card.input_shape[1]
        chosen, whose = Preprocess(side, side, stated.interpolation), "to the model's input"
    return chosen, (
        f"shorter side resized to {chosen.resize} px ({chosen.interpolation}), middle "
        f"{chosen.crop}x{chosen.crop} px cropped, {whose}"
    )


def as_input(picture: Image.Image, preprocess: Preprocess) -> NDArray[np.float32]:
    """float32 [3, H, W] in [0, 1]."""
    return to_pixels(picture, preprocess).astype(np.float32) / np.float32(255)
