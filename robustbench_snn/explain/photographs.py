"""A user's own pictures as a model's input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from robustbench_snn.card import ModelCard, Preprocess
from robustbench_snn.data.preprocessing import to_pixels
from robustbench_snn.errors import UsageError

LARGEST = 100_000_000
# With 16 bits in a pixel; older versions of Pillow open such PNG files as "I".
_SIXTEEN = {"I;16", "I;16B", "I;16L", "I;16N"}


def read_photograph(path: Path) -> Image.Image:
    """The picture in ``path``, decoded, in RGB, turned upright as its EXIF data says.

    Grey becomes three equal channels, 16 bits are rounded to 8, and an alpha channel that is
    opaque everywhere is left out.

    Raises:
        UsageError: no such file, no picture, too many pixels, transparency, or floating point.
    """
    if path.is_dir():
        raise UsageError(
            f"--image '{path}' is a folder: name its pictures one by one, each with --image."
        )
    if not path.is_file():
        raise UsageError(f"--image '{path}' was asked for, but there is no such file.")
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            if width * height > LARGEST:
                raise UsageError(
                    f"--image '{path}' has {width}x{height} pixels, more than the {LARGEST:,} that "
                    "are read: shrink it first."
                )
            picture.load()
            whole = picture.mode == "I" and picture.format == "PNG"
            return _in_colour(path, ImageOps.exif_transpose(picture), whole)
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


def _in_colour(path: Path, picture: Image.Image, sixteen: bool) -> Image.Image:
    """``picture`` in RGB; raises UsageError where what it shows is not certain."""
    if sixteen or picture.mode in _SIXTEEN:
        levels = np.asarray(picture.convert("I"), dtype=np.int64)
        # 65535 / 255 = 257 exactly.
        return Image.fromarray(((levels + 128) // 257).astype(np.uint8)).convert("RGB")
    if picture.mode in ("I", "F"):
        raise UsageError(
            f"--image '{path}' holds numbers of which white is not known (mode {picture.mode}): "
            "save it with 8 or 16 bits in a channel."
        )
    if picture.mode[-1] in "Aa" or "transparency" in picture.info:
        opacity = np.asarray(picture.convert("RGBA").getchannel("A"))
        seen_through = int((opacity < 255).sum())
        if seen_through:
            raise UsageError(
                f"--image '{path}' is transparent in {seen_through} of {opacity.size} pixels, and "
                "what lies behind them is unknown: flatten it to RGB first."
            )
    return picture.convert("RGB")


def readable(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The paths that can be read as pictures, and a sentence on each of the others.

    Raises:
        UsageError: there is none.
    """
    good, errors = [], []
    for path in paths:
        try:
            read_photograph(path)
        except UsageError as error:
            errors.append(str(error))
        else:
            good.append(path)
    if not good:
        raise UsageError(errors[0])
    return good, errors


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
