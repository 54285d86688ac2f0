"""Small folders in the layouts of the official corrupted sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from corruption_images import image
from numpy.typing import NDArray
from PIL import Image

WNIDS = ("n01440764", "n01443537", "n03991062")
INDEX_OF = {"n01440764": 0, "n01443537": 1, "n03991062": 738}


def clean_pictures(count: int) -> NDArray[np.uint8]:
    """uint8 [count, 32, 32, 3]."""
    return np.stack([image(index, 32) for index in range(count)])


def write_cifar_c(
    folder: Path, arrays: dict[str, NDArray[np.uint8]], labels: NDArray[np.uint8]
) -> None:
    """Write ``<name>.npy`` for each array and the labels, repeated five times."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    np.save(folder / "labels.npy", np.tile(labels, 5))


def write_imagenet_tree(folder: Path, side: int = 224, start: int = 0) -> list[str]:
    """Two images of each of three classes as JPEG; returns the stems in file-name order."""
    stems = []
    for number in range(6):
        wnid = WNIDS[number % 3]
        stem = f"ILSVRC2012_val_{number + 1:08d}"
        (folder / wnid).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image(start + number, side)).save(
            folder / wnid / f"{stem}.JPEG", quality=85, optimize=True
        )
        stems.append(stem)
    return stems
