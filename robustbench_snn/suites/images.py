"""Adversarial images on disk: as the attack left them and rounded to 8 bits."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.errors import UsageError, disk_errors
from robustbench_snn.store import whole_file

FOLDER = "adversarial"


@dataclass(frozen=True)
class Images:
    """Adversarial images of m samples.

    Attributes:
        ids: m sample ids.
        x: float32 [m, *input_shape], pixel units.
        rounded: the same at 256 levels, float32 in [0, 1]; None for inputs that are no images.
    """

    ids: list[str]
    x: NDArray[np.float32]
    rounded: NDArray[np.float32] | None


def image_path(model: str, dataset: str, start: int, stop: int, key: str) -> str:
    """Path of a file of images below the results folder."""
    model, dataset = (re.sub(r"[^\w.+-]+", "-", text) for text in (model, dataset))
    return f"{FOLDER}/{model}/{dataset}/{start:07d}-{stop:07d}-{key[:20]}.safetensors"


def write_images(
    root: str | Path, path: str, ids: Sequence[str], x: NDArray[np.float32], levels: bool
) -> str:
    """Store images whole or not at all; returns the sha256 of the file.

    Args:
        root: results folder.
        path: from ``image_path``.
        ids: m sample ids.
        x: float32 [m, *input_shape].
        levels: whether 8-bit copies make sense: values lie in [0, 1].

    Raises:
        UsageError: the disk is full, or the folder cannot be written.
    """
    from safetensors.numpy import save

    arrays = {"x": np.ascontiguousarray(x, dtype=np.float32)}
    if levels:
        arrays["x_8bit"] = np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)
    content = save(arrays, metadata={"ids": json.dumps(list(ids))})
    with disk_errors(), whole_file(Path(root, path)) as file:
        file.write(content)
    return hashlib.sha256(content).hexdigest()


def read_images(root: str | Path, path: str, sha256: str | None = None) -> Images:
    """The images in one file.

    Raises:
        UsageError: the file is missing, damaged, or not the one that was stored.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import load

    target = Path(root, path)
    try:
        content = target.read_bytes()
    except OSError:
        raise UsageError(
            f"adversarial images '{path}' are not in '{root}': copy the folder '{FOLDER}' along "
            "with the results, or run the suite again."
        ) from None
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise UsageError(
            f"adversarial images '{path}' are not those that were stored (their sha256 differs): "
            "run the suite again."
        )
    try:
        arrays = load(content)
        with safe_open(str(target), framework="numpy") as file:
            ids = json.loads(file.metadata()["ids"])
    except (SafetensorError, KeyError, TypeError, ValueError):
        raise UsageError(f"adversarial images '{path}' cannot be read: it is damaged.") from None
    levels = arrays.get("x_8bit")
    rounded = None if levels is None else levels.astype(np.float32) / np.float32(255)
    return Images(ids, arrays["x"], rounded)
