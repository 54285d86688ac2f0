"""Reading the .npy files of CIFAR-10-C and CIFAR-100-C, mapped into memory and checked first."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robustbench_snn.data.content import check_unchanged, is_settled, stamp
from robustbench_snn.errors import UsageError
from robustbench_snn.resumable import looks_like_html

MAGIC = b"\x93NUMPY"


def load_npy(path: Path) -> NDArray[Any]:
    """The array in ``path``, memory-mapped read-only.

    Raises:
        UsageError: missing, a web page, not a .npy file, or shorter than its header says.
    """
    if not path.is_file():
        raise UsageError(f"'{path}' does not exist: give the folder that holds it.")
    with path.open("rb") as stored:
        head = stored.read(64)
    if looks_like_html(head):
        raise UsageError(f"'{path}' is a web page, not data: download the file again.")
    if not head.startswith(MAGIC):
        raise UsageError(f"'{path}' is not a .npy file: download it again.")
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UsageError(
            f"'{path}' is truncated or damaged ({error}): download it again."
        ) from error
    return array


@functools.lru_cache(maxsize=64)
def _md5(path: Path, about: tuple[int, ...]) -> str:
    with path.open("rb") as stored:
        return hashlib.file_digest(stored, "md5").hexdigest()


def file_md5(path: Path) -> str:
    """The md5 of a file, as the publisher lists it; computed once while the file is unchanged."""
    about = stamp(path)
    return _md5(path, about) if is_settled(about) else _md5.__wrapped__(path, about)


def load_images(path: Path) -> NDArray[np.uint8]:
    """The images of one corruption, uint8 [5 k, 32, 32, 3]: k images at severities 1 to 5 in turn.

    Raises:
        UsageError: see ``load_npy``; or the array has another type or shape.
    """
    images = load_npy(path)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (32, 32, 3):
        raise UsageError(
            f"'{path}' holds a {images.dtype} array of shape {images.shape}; the official files "
            "hold uint8 images (50000, 32, 32, 3)."
        )
    if not len(images) or len(images) % 5:
        raise UsageError(
            f"'{path}' holds {len(images)} images, which is not five severities of equally many."
        )
    return images


def load_labels(path: Path, rows: int, num_classes: int) -> NDArray[np.int64]:
    """The labels of one severity, int64 [rows / 5].

    Args:
        path: the ``labels.npy`` beside the images.
        rows: number of images over all five severities.
        num_classes: labels are 0..num_classes-1.

    Raises:
        UsageError: not ``rows`` whole numbers in that range, or not the same for each severity.
    """
    labels = load_npy(path)
    if labels.shape != (rows,) or not np.issubdtype(labels.dtype, np.integer):
        raise UsageError(
            f"'{path}' holds a {labels.dtype} array of shape {labels.shape}, but the images beside "
            f"it need {rows} whole-number labels."
        )
    by_severity = np.asarray(labels, dtype=np.int64).reshape(5, -1)
    if by_severity.min() < 0 or by_severity.max() >= num_classes:
        raise UsageError(
            f"'{path}' has labels {by_severity.min()}..{by_severity.max()}, but this data set has "
            f"classes 0..{num_classes - 1}."
        )
    if not (by_severity == by_severity[0]).all():
        raise UsageError(
            f"'{path}' does not repeat the same labels for each of the five severities: it does "
            "not belong to these images."
        )
    return by_severity[0]


class NpyRows:
    """One severity of one corruption; see ``robustbench_snn.data.stored_images.Rows``."""

    source = "official"

    def __init__(self, path: Path, severity: int, num_classes: int) -> None:
        """Map the file and check it whole; raises UsageError when anything is not as it should."""
        self._stamp = stamp(path) if path.is_file() else ()
        images = load_images(path)
        count = len(images) // 5
        self.labels = load_labels(path.with_name("labels.npy"), len(images), num_classes)
        self._path = path
        self._severity = severity
        self._images = images[(severity - 1) * count : severity * count]

    def fingerprint(self) -> str:
        """The md5 of the corruption's file, as the publisher lists it, and that of its labels."""
        return f"{file_md5(self._path)}-{file_md5(self._path.with_name('labels.npy'))[:12]}"

    def name(self, index: int) -> str:
        """File, severity and row, for messages."""
        return f"{self._path} (severity {self._severity}, image {index})"

    def identity(self, index: int) -> str | None:
        """None: the row is the position in CIFAR's own test set, as for the clean images."""
        return None

    def pictures(self, indices: Sequence[int]) -> list[Image.Image]:
        """The pictures at ``indices``."""
        found = [Image.fromarray(self._images[i]) for i in indices]
        check_unchanged(self._path, self._stamp)
        return found
