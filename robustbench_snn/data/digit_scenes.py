"""The embedded set ``digit-scenes``: real handwritten digits in textured colour scenes.

The digits are the 1,797 scans of 8x8 pixels in ``sklearn.datasets.load_digits`` (UCI Optical
Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, 1998). 500 scans, 50 of each class,
serve the test scenes and nothing else; the other 1,297 serve training and hold-out scenes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.card import Preprocess
from robustbench_snn.data.base import Batch
from robustbench_snn.data.cards import DatasetCard
from robustbench_snn.data.scene_rendering import BYTES_PER_SCENE, random_bytes, render
from robustbench_snn.errors import UsageError

SPLIT_SIZES = {"train": 10_000, "test": 1_000, "holdout": 512}
SCENE_SEED = 0
TEST_SCANS_PER_CLASS = 50
CLASSES = 10
_CHUNK = 128
# One random stream per purpose; changing a number changes every scene of that split.
_STREAMS = {"train": 1, "test": 2, "holdout": 3}
_SCAN_STREAM, _ORDER_STREAM = 10, 20


class DigitScenes:
    """One split; scenes are drawn on first use and kept as uint8 (at most 31 MB).

    Attributes:
        card, split, source, revision: see ``ImageDataset``; ``source`` is ``embedded``.
        seed: scene ``i`` is a function of (seed, split, i) alone.
    """

    def __init__(self, card: DatasetCard, split: str, seed: int = SCENE_SEED) -> None:
        if split not in SPLIT_SIZES:
            known = ", ".join(SPLIT_SIZES)
            raise UsageError(f"digit-scenes has no split '{split}': choose one of {known}.")
        self.card = card
        self.split = split
        self.source = "embedded"
        self.seed = seed
        size = SPLIT_SIZES[split]
        self._pixels = np.zeros((size, 3, 32, 32), dtype=np.uint8)
        self._masks = np.zeros((size, 32, 32), dtype=np.bool_)
        self._drawn = np.zeros(size, dtype=np.bool_)
        self._labels, self._scans = _scene_scans(split, seed)

    @cached_property
    def revision(self) -> str:
        """Short sha256 over all pixels and labels of the split."""
        pixels, labels = self.arrays()
        digest = hashlib.sha256(pixels.tobytes())
        digest.update(labels.astype("<i8").tobytes())
        return digest.hexdigest()[:12]

    def __len__(self) -> int:
        return len(self._labels)

    def batch(self, indices: Sequence[int]) -> Batch:
        """Images at ``indices``: ids, x float32 [B, 3, 32, 32] in [0, 1], y int64 [B]."""
        chosen = self._draw(indices)
        x = self._pixels[chosen].astype(np.float32) / np.float32(255)
        ids = [f"{self.split}/{i:06d}" for i in chosen.tolist()]
        return Batch(ids, x, self._labels[chosen])

    def masks(self, indices: Sequence[int]) -> NDArray[np.bool_]:
        """Object masks bool [B, 32, 32]: pixels at least half covered by the digit."""
        return self._masks[self._draw(indices)]

    def arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The whole split: pixels uint8 [N, 3, 32, 32], labels int64 [N] (not copies)."""
        self._draw(range(len(self)))
        return self._pixels, self._labels

    def scan_indices(self) -> NDArray[np.int64]:
        """Which of the 1,797 scans each scene shows, int64 [N]."""
        return self._scans

    def _draw(self, indices: Sequence[int]) -> NDArray[np.int64]:
        chosen = np.asarray(indices, dtype=np.int64).reshape(-1)
        if chosen.size and not (0 <= chosen.min() and chosen.max() < len(self)):
            raise IndexError(f"scene index outside 0..{len(self) - 1}")
        missing = np.unique(chosen[~self._drawn[chosen]])
        stream = _STREAMS[self.split]
        for start in range(0, len(missing), _CHUNK):
            part = missing[start : start + _CHUNK]
            noise = np.stack(
                [random_bytes(self.seed, stream, int(i), BYTES_PER_SCENE) for i in part]
            )
            scans = _digits()[0][self._scans[part]]
            self._pixels[part], self._masks[part] = render(scans, noise)
            self._drawn[part] = True
        return chosen


def scans_of(ids: Sequence[str]) -> NDArray[np.int64]:
    """Which scan each scene of ``ids`` (``test/000017``) shows: two test scenes share one.

    An id that is none of ours shows something of its own.
    """
    found = -1 - np.arange(len(ids), dtype=np.int64)
    for at, name in enumerate(ids):
        split, _, index = str(name).partition("/")
        if index.isdigit() and int(index) < SPLIT_SIZES.get(split, 0):
            found[at] = _scene_scans(split, SCENE_SEED)[1][int(index)]
    return found


def load(
    card: DatasetCard, split: str, data_dir: Path | None, preprocess: Preprocess | None
) -> DigitScenes:
    """One split of digit-scenes; raises UsageError on options that cannot apply to it."""
    if data_dir is not None:
        raise UsageError(
            f"digit-scenes is built in and reads no folder, but --data-dir {data_dir} was given: "
            "leave it out or name the data set it holds with --dataset."
        )
    if preprocess and not {preprocess.resize, preprocess.crop} <= {None, 32}:
        raise UsageError(
            f"digit-scenes has 32x32 images that are used as they are, but the model asks for "
            f"{preprocess}: choose a model made for it."
        )
    return DigitScenes(card, split)


@cache
def _digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All scans uint8 [1797, 8, 8], 0..16, and their classes int64 [1797]."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images.astype(np.uint8), bunch.target.astype(np.int64)


def _shuffled(count: int, seed: int, stream: int, index: int) -> NDArray[np.int64]:
    """A permutation of 0..count-1 keyed by (seed, stream, index)."""
    keys = random_bytes(seed, stream, index, 8 * count).view("<u8")
    return np.argsort(keys, kind="stable")


def _scans_by_class(split: str, seed: int) -> list[NDArray[np.int64]]:
    """For each class, the scans a split may show, in the order it shows them."""
    _, targets = _digits()
    chosen = []
    for label in range(CLASSES):
        scans = np.flatnonzero(targets == label)
        scans = scans[_shuffled(len(scans), seed, _SCAN_STREAM, label)]
        test, train = scans[:TEST_SCANS_PER_CLASS], scans[TEST_SCANS_PER_CLASS:]
        # The hold-out takes the training scans from the other end.
        chosen.append({"test": test, "train": train, "holdout": train[::-1]}[split])
    return chosen


@cache
def _scene_scans(split: str, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels and scan indices, int64 [N] each; every ten scenes in a row show ten classes."""
    size = SPLIT_SIZES[split]
    tens = -(-size // CLASSES)
    stream = _ORDER_STREAM + _STREAMS[split]
    labels = np.concatenate([_shuffled(CLASSES, seed, stream, ten) for ten in range(tens)])[:size]
    by_class = _scans_by_class(split, seed)
    scans = [by_class[c][(i // CLASSES) % len(by_class[c])] for i, c in enumerate(labels)]
    return labels, np.array(scans, dtype=np.int64)
