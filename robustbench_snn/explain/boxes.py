"""Object boxes of ImageNet (CLS-LOC XML files) as masks of the pixels a model sees.

A box is given in pixels of the original photograph; it goes through the same resize and centre
crop as the photograph. Boxes that the crop cuts away entirely are dropped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.card import Preprocess
from robustbench_snn.data.content import content_sha256
from robustbench_snn.errors import UsageError

Box = tuple[float, float, float, float]


def read_boxes(path: Path) -> tuple[tuple[int, int], list[Box]]:
    """((width, height) of the photograph, boxes (left, top, right, bottom)) in its pixels.

    Corners in the file are counted from 1 and belong to the box, so ``left`` is one less.

    Raises:
        UsageError: the file cannot be read, or is no such annotation.
    """
    try:
        root = ElementTree.parse(path).getroot()
        width, height = (
            int(float(root.findtext(f"size/{side}", ""))) for side in ("width", "height")
        )
        boxes = []
        for found in root.iter("bndbox"):
            corners = [float(found.findtext(k, "")) for k in ("xmin", "ymin", "xmax", "ymax")]
            boxes.append((corners[0] - 1, corners[1] - 1, corners[2], corners[3]))
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise UsageError(
            f"'{path}' is no CLS-LOC annotation ({error}): it must hold size and bndbox elements."
        ) from None
    if min(width, height) < 1:
        raise UsageError(f"'{path}' states an image of {width}x{height} pixels, which cannot be.")
    return (width, height), boxes


def transform(size: tuple[int, int], boxes: Sequence[Box], preprocess: Preprocess) -> list[Box]:
    """``boxes`` in pixels of the preprocessed image; those cut away are dropped.

    Args:
        size: (width, height) of the photograph.
        boxes: in its pixels.
        preprocess: resize of the shorter side and centre crop.
    """
    width, height = size
    scaled = size
    if preprocess.resize is not None and min(size) != preprocess.resize:
        long = int(preprocess.resize * max(size) / min(size))
        scaled = (preprocess.resize, long) if width <= height else (long, preprocess.resize)
    side = preprocess.crop
    crop = scaled if side is None else (side, side)
    left, top = (round((s - c) / 2) for s, c in zip(scaled, crop, strict=True))
    fx, fy = scaled[0] / width, scaled[1] / height
    moved = [
        (
            max(x0 * fx - left, 0.0),
            max(y0 * fy - top, 0.0),
            min(x1 * fx - left, float(crop[0])),
            min(y1 * fy - top, float(crop[1])),
        )
        for x0, y0, x1, y1 in boxes
    ]
    return [box for box in moved if box[2] - box[0] > 0 and box[3] - box[1] > 0]


def mask_of(boxes: Sequence[Box], height: int, width: int) -> NDArray[np.bool_]:
    """Pixels whose centre lies in any of ``boxes``, bool [height, width]."""
    mask = np.zeros((height, width), dtype=np.bool_)
    y, x = np.arange(height)[:, None] + 0.5, np.arange(width)[None, :] + 0.5
    for x0, y0, x1, y1 in boxes:
        mask |= (x > x0) & (x < x1) & (y > y0) & (y < y1)
    return mask


def box_masks(
    folder: Path, ids: Sequence[str], preprocess: Preprocess, height: int, width: int
) -> NDArray[np.bool_]:
    """Masks bool [n, height, width] from ``folder/<id>.xml``; all False where a file is missing.

    Raises:
        UsageError: a file is there but is no annotation.
    """
    masks = np.zeros((len(ids), height, width), dtype=np.bool_)
    for row, sample_id in enumerate(ids):
        path = folder / f"{sample_id.rpartition('/')[2]}.xml"
        if path.is_file():
            size, boxes = read_boxes(path)
            masks[row] = mask_of(transform(size, boxes, preprocess), height, width)
    return masks


def fingerprint(folder: Path) -> str:
    """Short sha256 over names and content of the annotations, for result keys.

    Raises:
        UsageError: the folder does not exist or has no XML file.
    """
    files = sorted(folder.glob("*.xml")) if folder.is_dir() else []
    if not files:
        raise UsageError(f"--boxes '{folder}' holds no .xml files: give the CLS-LOC folder.")
    listing = "\n".join(path.name for path in files) + content_sha256(files)
    return hashlib.sha256(listing.encode()).hexdigest()[:12]
