"""From a raw map to a coloured picture: scaling, upsampling, colours, blending.

Colours are RGB throughout. Each step is separate, so that what is drawn can be named in a
caption: the map's raw numbers never change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.errors import UsageError
from robustbench_snn.explain.kinds import map_kind

SCALES = ("per_map", "shared", "percentile", "raw")
STYLES = {"perceptual": ("inferno", "vlag"), "paper": ("jet", "jet")}
UPSAMPLINGS = ("bilinear", "nearest")
PERCENTILES = (2.0, 98.0)
ALPHA = 0.5
SIGNED_ALPHA = 0.85


@dataclass(frozen=True)
class Scaled:
    """A map ready for colours.

    Attributes:
        values: float64 [h, w] in [0, 1].
        low, high: raw values that became 0 and 1.
        flag: ``silent`` for a map that is 0 everywhere, ``constant`` for one that has no
            contrast under this scaling, else empty. Both are drawn as empty.
    """

    values: NDArray[np.float64]
    low: float
    high: float
    flag: str = ""


def check_names(style: str, upsampling: str) -> None:
    """Raise UsageError unless both are known."""
    if style not in STYLES:
        raise UsageError(f"--style '{style}' is unknown: use {' or '.join(STYLES)}.")
    if upsampling not in UPSAMPLINGS:
        raise UsageError(f"--upsampling '{upsampling}' is unknown: use {' or '.join(UPSAMPLINGS)}.")


def limits(maps: list[NDArray[Any]], scale: str, kind: str) -> tuple[float, float] | None:
    """Raw values of both ends of the colour bar for a whole figure; None when each map has its own.

    Raises:
        UsageError: an unknown scale, or ``raw`` for a map without natural limits.
    """
    if scale not in SCALES:
        raise UsageError(f"--scale '{scale}' is unknown: use one of {', '.join(SCALES)}.")
    if scale == "raw":
        natural = map_kind(kind).limits
        if natural is None:
            raise UsageError(
                f"--scale raw needs a map with natural limits, and '{kind}' has none: use shared."
            )
        return natural
    if scale == "shared" and maps:
        low, high = min(float(m.min()) for m in maps), max(float(m.max()) for m in maps)
        return _around_zero(low, high) if map_kind(kind).signed else (low, high)
    return None


def _around_zero(low: float, high: float) -> tuple[float, float]:
    bound = max(abs(low), abs(high))
    return -bound, bound


def scaled(
    values: NDArray[Any], scale: str, kind: str, ends: tuple[float, float] | None = None
) -> Scaled:
    """One map [h, w] on the scale of its figure; signed maps keep 0 in the middle.

    Args:
        values: raw map.
        scale: one of ``SCALES``.
        kind: name of the map.
        ends: what ``limits`` gave for the figure.
    """
    raw = np.nan_to_num(np.asarray(values, dtype=np.float64))
    if ends is None:
        bounds = PERCENTILES if scale == "percentile" else (0.0, 100.0)
        low, high = (float(v) for v in np.percentile(raw, bounds))
        ends = _around_zero(low, high) if map_kind(kind).signed else (low, high)
    low, high = ends
    flag = "silent" if not raw.any() else "constant" if high <= low else ""
    if flag:
        return Scaled(np.zeros_like(raw), low, high, flag)
    return Scaled(np.clip((raw - low) / (high - low), 0.0, 1.0), low, high)


def upsample(values: NDArray[Any], height: int, width: int, how: str) -> NDArray[np.float64]:
    """[h, w] to [height, width]; ``bilinear`` with half-pixel centres, or ``nearest`` cells."""
    import cv2

    method = cv2.INTER_LINEAR if how == "bilinear" else cv2.INTER_NEAREST
    resized = cv2.resize(
        np.asarray(values, dtype=np.float64), (width, height), interpolation=method
    )
    return np.asarray(resized)


def colour_map(kind: str, style: str) -> Any:
    """The matplotlib colour map of a kind of map."""
    import matplotlib
    import seaborn  # noqa: F401 - registers vlag

    return matplotlib.colormaps[STYLES[style][map_kind(kind).signed]]


def overlay(
    image: NDArray[Any], shown: Scaled, kind: str, style: str, upsampling: str, alpha: float = ALPHA
) -> NDArray[np.float64]:
    """The map in colour over its image; an empty map leaves the image as it is.

    A signed map in perceptual colours covers the image in proportion to its absolute value, or
    the white of its zero would wash the picture out.

    Args:
        image: [3, H, W] in [0, 1].
        shown: the scaled map.
        kind, style, upsampling: see ``colour_map`` and ``upsample``.
        alpha: weight of the colours.

    Returns:
        RGB float64 [H, W, 3] in [0, 1].
    """
    picture = np.asarray(image, dtype=np.float64).transpose(1, 2, 0)
    if shown.flag:
        return picture
    values = upsample(shown.values, picture.shape[0], picture.shape[1], upsampling)
    colours = np.asarray(colour_map(kind, style)(np.clip(values, 0, 1)))[..., :3]
    weight: Any = alpha
    if map_kind(kind).signed and style == "perceptual":
        weight = SIGNED_ALPHA * np.abs(2 * np.clip(values, 0, 1) - 1)[..., None]
    return np.asarray((1 - weight) * picture + weight * colours)
