"""Image sets that exist as files: any row store plus the model's preprocessing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robustbench_snn.card import Preprocess
from robustbench_snn.data.base import Batch
from robustbench_snn.data.cards import DatasetCard
from robustbench_snn.data.class_checks import check_label_reach
from robustbench_snn.data.preprocessing import to_pixels
from robustbench_snn.errors import UsageError

_ARRAYS_LIMIT = 200_000_000
# What Pillow raises for files that are no images, or that unpack to far more than they hold.
UNDECODABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


class Rows(Protocol):
    """Where the images of one split come from.

    Attributes:
        source: ``hub`` or ``local``.
        labels: int64 [N] as stored.
    """

    source: str
    labels: NDArray[np.int64]

    def fingerprint(self) -> str:
        """Short sha256 that describes the content."""
        ...

    def name(self, index: int) -> str:
        """Where row ``index`` comes from, for messages."""
        ...

    def identity(self, index: int) -> str | None:
        """The lasting name of row ``index``; None where only its position names it."""
        ...

    def pictures(self, indices: Sequence[int]) -> list[Image.Image]:
        """The pictures at ``indices``, opened; pixel data may still be encoded."""
        ...


class StoredImages:
    """One split of an image set, read row by row; implements ``ImageDataset``."""

    def __init__(self, card: DatasetCard, split: str, rows: Rows, preprocess: Preprocess) -> None:
        """Raises UsageError when there is no row or a label is outside 0..K-1."""
        self.card = card
        self.split = split
        self.source = rows.source
        self._rows = rows
        self._preprocess = preprocess
        labels = rows.labels
        if not len(labels):
            raise UsageError(f"{card.name} ({split}) holds no images: give a folder that has some.")
        outside = np.flatnonzero((labels < 0) | (labels >= card.num_classes))
        if len(outside):
            first = int(outside[0])
            raise UsageError(
                f"{card.name} has labels 0..{card.num_classes - 1}, but {rows.name(first)} is "
                f"labelled {int(labels[first])}: give a labelled split of {card.name}."
            )
        check_label_reach(card, labels, rows.name(0))

    @cached_property
    def revision(self) -> str:
        """Short sha256 of the content."""
        return self._rows.fingerprint()

    def __len__(self) -> int:
        return len(self._rows.labels)

    def batch(self, indices: Sequence[int]) -> Batch:
        """Images at ``indices``: ids, x float32 [B, 3, H, W] in [0, 1], y int64 [B].

        Raises:
            UsageError: an image cannot be decoded, or sizes differ after preprocessing.
        """
        chosen = self._checked(indices)
        pixels = self._pixels(chosen)
        x = pixels.astype(np.float32) / np.float32(255)
        return Batch([self._id(i) for i in chosen], x, self._rows.labels[chosen])

    def arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The whole split: pixels uint8 [N, 3, H, W], labels int64 [N]; small images only.

        Raises:
            UsageError: the split would take more than 200 MB.
        """
        shape = self.card.image_shape
        if shape is None or len(self) * int(np.prod(shape)) > _ARRAYS_LIMIT:
            raise UsageError(
                f"{self.card.name} ({self.split}) is too large to be held in memory: read it in "
                "batches."
            )
        parts = [
            self._pixels(range(start, min(start + 500, len(self))))
            for start in range(0, len(self), 500)
        ]
        return np.concatenate(parts), self._rows.labels.copy()

    def _checked(self, indices: Sequence[int]) -> list[int]:
        chosen = [int(i) for i in indices]
        if chosen and not (0 <= min(chosen) and max(chosen) < len(self)):
            raise IndexError(f"image index outside 0..{len(self) - 1}")
        return chosen

    def _id(self, index: int) -> str:
        return self._rows.identity(index) or f"{self.split}/{index:06d}"

    def _pixels(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        images = [
            self._decoded(picture, index)
            for index, picture in zip(indices, self._rows.pictures(indices), strict=True)
        ]
        if not images:
            return np.zeros((0, *(self.card.image_shape or (3, 0, 0))), dtype=np.uint8)
        for index, image in zip(indices, images, strict=True):
            if image.shape != images[0].shape:
                raise UsageError(
                    f"images of {self.card.name} differ in size ({self._rows.name(index)} is "
                    f"{image.shape[1:]}, {self._rows.name(indices[0])} {images[0].shape[1:]}, as "
                    "height and width): use a model whose card says how to resize and crop."
                )
        return np.stack(images)

    def _decoded(self, picture: Image.Image, index: int) -> NDArray[np.uint8]:
        try:
            return to_pixels(picture, self._preprocess)
        except UNDECODABLE as error:
            raise corrupt_image(self._rows.name(index), error) from error


def corrupt_image(name: str, error: Exception) -> UsageError:
    """The one sentence for an image file that Pillow cannot read."""
    return UsageError(
        f"{name} cannot be decoded as an image ({error}): replace it with an intact copy."
    )
