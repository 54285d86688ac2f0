"""The interface every image set offers: batches by index, as NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.data.cards import DatasetCard


@dataclass(frozen=True)
class Batch:
    """B labelled images.

    Attributes:
        ids: B strings that name the samples for good (``test/000017``).
        x: float32 [B, C, H, W] in [0, 1], contiguous.
        y: int64 [B], 0..K-1.
    """

    ids: list[str]
    x: NDArray[np.float32]
    y: NDArray[np.int64]


class ImageDataset(Protocol):
    """One split of one data set."""

    @property
    def card(self) -> DatasetCard:
        """The data set's card."""
        ...

    @property
    def split(self) -> str:
        """Which split this is."""
        ...

    @property
    def source(self) -> str:
        """``embedded``, ``hub`` or ``local``."""
        ...

    @property
    def revision(self) -> str:
        """Short sha256 of the content: equal for equal images in equal order."""
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    def batch(self, indices: Sequence[int]) -> Batch:
        """The images at ``indices`` (0..len-1), in that order."""
        ...
