"""The official corrupted sets from a local folder: CIFAR-10-C, CIFAR-100-C and ImageNet-C.

Layouts (Hendrycks and Dietterich 2019; Zenodo 2535967, 3555552 and 2235448):

    CIFAR-10-C/<corruption>.npy, labels.npy           five severities one after the other
    ImageNet-C/[<group>/]<corruption>/<severity>/<wnid>/*.JPEG        224 x 224, cropped already

Images keep the ids of the clean set, so that clean and corrupted predictions can be paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from robustbench_snn.card import Preprocess
from robustbench_snn.corruptions.names import CORRUPTIONS, check_cell, group_of
from robustbench_snn.corruptions.npy_files import NpyRows
from robustbench_snn.data.catalogue import DATASETS
from robustbench_snn.data.imagenet import FolderRows
from robustbench_snn.data.stored_images import StoredImages
from robustbench_snn.errors import UsageError

SOURCE = "official"
FOLDERS = {"cifar10": "CIFAR-10-C", "cifar100": "CIFAR-100-C", "imagenet": "ImageNet-C"}
IMAGENET_SIDE = 224


def _root(dataset: str, folder: Path) -> Path:
    if dataset not in FOLDERS:
        raise UsageError(
            f"there are no official corruption files for '{dataset}', only for "
            f"{', '.join(FOLDERS)}: let them be generated."
        )
    if not folder.is_dir():
        raise UsageError(f"the folder of official corruption files '{folder}' does not exist.")
    inner = folder / FOLDERS[dataset]
    return inner if inner.is_dir() else folder


def _place(dataset: str, root: Path, corruption: str) -> Path | None:
    """Where one corruption lies under ``root``; None when it is not there."""
    if dataset != "imagenet":
        path = root / f"{corruption}.npy"
        return path if path.is_file() else None
    choices = (root / corruption, root / group_of(corruption) / corruption)
    return next((choice for choice in choices if choice.is_dir()), None)


def available(dataset: str, folder: Path) -> list[str]:
    """The corruptions that ``folder`` holds files of, in the canonical order.

    Raises:
        UsageError: no such folder, or a data set without an official set.
    """
    root = _root(dataset, folder)
    return [name for name in CORRUPTIONS if _place(dataset, root, name) is not None]


class CroppedRows(FolderRows):
    """One severity of one ImageNet-C corruption; images must be as published, 224 x 224."""

    source = SOURCE

    def _picture(self, path: Path) -> Image.Image:
        picture = super()._picture(path)
        if picture.size != (IMAGENET_SIDE, IMAGENET_SIDE):
            width, height = picture.size
            raise UsageError(
                f"'{path}' is {width}x{height}: the files of ImageNet-C are 224x224 and are not "
                "resized again, so these are not the published ones."
            )
        return picture


def _imagenet_rows(place: Path, corruption: str, severity: int) -> CroppedRows:
    folder = place / str(severity)
    if not folder.is_dir():
        there: Sequence[str] = sorted(p.name for p in place.iterdir() if p.is_dir())
        raise UsageError(
            f"ImageNet-C has no severity {severity} of {corruption}: '{folder}' is missing "
            f"(there: {', '.join(there) or 'nothing'})."
        )
    return CroppedRows(folder)


def open_official(dataset: str, folder: Path, corruption: str, severity: int) -> StoredImages:
    """One severity of one corruption, with the interface of every image set.

    Args:
        dataset: ``cifar10``, ``cifar100`` or ``imagenet``.
        folder: the set's folder or its parent.
        corruption: one of names.CORRUPTIONS.
        severity: 1..5.

    Returns:
        An ``ImageDataset`` whose ``source`` is ``official`` and whose ``revision`` is the md5 of
        the file and, shortened, of its labels (CIFAR) or a hash over all files (ImageNet). Images
        are given as stored.

    Raises:
        UsageError: the files are missing, damaged, of another shape or wrongly labelled.
    """
    check_cell(corruption, severity, "cifar")
    root = _root(dataset, folder)
    place = _place(dataset, root, corruption)
    if place is None:
        raise UsageError(
            f"'{root}' holds no {corruption} of {FOLDERS[dataset]}: "
            f"there are {', '.join(available(dataset, folder)) or 'no corruptions at all'}."
        )
    card = DATASETS.get(dataset)
    if dataset == "imagenet":
        rows = _imagenet_rows(place, corruption, severity)
        return StoredImages(card, "test", rows, Preprocess())
    return StoredImages(card, "test", NpyRows(place, severity, card.num_classes), Preprocess())
