"""The embedded set: the same scenes everywhere, no scan in two sets, exact masks."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robustbench_snn.card import Preprocess
from robustbench_snn.data import DATASETS, load_dataset
from robustbench_snn.data.digit_scenes import SPLIT_SIZES, DigitScenes
from robustbench_snn.data.scene_rendering import BYTES_PER_SCENE, random_bytes, render
from robustbench_snn.errors import UsageError

PIXEL_SHA256 = {
    "train": "aa5cd1a8fa34e87fa0da268fcdc4cab73662340909a20eda436d5aec800e2c9d",
    "test": "da065b26113ebb6a80ec63b3673bdefecd582478195f523b3e066dcfa9e70fb3",
    "holdout": "33cdd451202a6ae31de7cf3b2054ce8d2b5baecb3036400d07e6940c2a75105c",
}
MASK_SHA256 = "ca0dbba8eb196e7783cb45d7bf92c28e924fe5fe90ed01dbdafabebfa2d89c58"


def scenes(split: str, seed: int = 0) -> DigitScenes:
    return DigitScenes(DATASETS.get("digit-scenes"), split, seed)


@pytest.mark.parametrize("split", sorted(SPLIT_SIZES))
def test_pixels_have_the_recorded_hash(split: str) -> None:
    pixels, _ = scenes(split).arrays()
    assert pixels.dtype == np.uint8
    assert pixels.shape == (SPLIT_SIZES[split], 3, 32, 32)
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == PIXEL_SHA256[split]


def test_masks_have_the_recorded_hash() -> None:
    masks = scenes("test").masks(range(1000))
    assert hashlib.sha256(np.packbits(masks).tobytes()).hexdigest() == MASK_SHA256


def test_a_scene_does_not_depend_on_what_was_drawn_before() -> None:
    forwards, backwards = scenes("test"), scenes("test")
    order = list(range(300))
    whole = forwards.batch(order)
    single = [backwards.batch([i]) for i in reversed(order)]
    assert np.array_equal(whole.x, np.concatenate([b.x for b in reversed(single)]))
    assert np.array_equal(forwards.masks(order), backwards.masks(order))


def test_repeated_and_shuffled_indices_keep_their_order() -> None:
    data = scenes("test")
    batch = data.batch([5, 2, 5])
    assert batch.ids == ["test/000005", "test/000002", "test/000005"]
    assert np.array_equal(batch.x[0], batch.x[2])
    assert not np.array_equal(batch.x[0], batch.x[1])


def test_batch_follows_the_interface() -> None:
    batch = load_dataset("digit-scenes", split="holdout").batch(range(16))
    assert batch.x.dtype == np.float32
    assert batch.x.shape == (16, 3, 32, 32)
    assert 0.0 <= batch.x.min() < batch.x.max() <= 1.0
    assert batch.y.dtype == np.int64
    assert batch.ids[3] == "holdout/000003"


def test_another_seed_or_split_gives_other_scenes() -> None:
    first = scenes("test").batch(range(20)).x
    assert not np.array_equal(first, scenes("test", seed=1).batch(range(20)).x)
    train, holdout = scenes("train").arrays()[0], scenes("holdout").arrays()[0]
    known = {image.tobytes() for image in train}
    assert not any(image.tobytes() in known for image in holdout)


def test_no_scan_serves_both_training_and_test() -> None:
    used = {split: set(scenes(split).scan_indices().tolist()) for split in SPLIT_SIZES}
    assert len(used["train"]) == 1297
    assert len(used["test"]) == 500
    assert not used["train"] & used["test"]
    assert used["holdout"] <= used["train"]


def test_labels_are_those_of_the_scans() -> None:
    from sklearn.datasets import load_digits

    data = scenes("train")
    assert np.array_equal(data.arrays()[1], load_digits().target[data.scan_indices()])


@pytest.mark.parametrize("split", sorted(SPLIT_SIZES))
def test_every_prefix_is_balanced(split: str) -> None:
    _, labels = scenes(split).arrays()
    counts = np.cumsum(labels[:, None] == np.arange(10), axis=0)
    assert (counts.max(axis=1) - counts.min(axis=1)).max() <= 1


def test_masks_are_where_the_digit_was_drawn() -> None:
    """Against the same scene without ink: the mask changes, and hardly anything far from it."""
    noise = np.stack([random_bytes(0, 2, i, BYTES_PER_SCENE) for i in range(200)])
    empty, none = render(np.zeros((200, 8, 8), dtype=np.uint8), noise)
    assert not none.any()

    data = scenes("test")
    masks, batch = data.masks(range(200)), data.batch(range(200))
    pixels = np.rint(batch.x * 255).astype(np.uint8)
    touched = (pixels != empty).any(axis=1)
    assert (touched & masks).sum() / masks.sum() > 0.99
    padded = np.pad(masks, ((0, 0), (3, 3), (3, 3)))
    near = np.any([padded[:, y : y + 32, x : x + 32] for y in range(7) for x in range(7)], axis=0)
    assert (touched & ~near).sum() / touched.sum() < 0.01
    assert masks.sum(axis=(1, 2)).min() >= 20
    assert masks.mean(axis=(1, 2)).max() < 0.4


def test_digits_stand_out_from_what_surrounds_them() -> None:
    data = scenes("test")
    x, masks = data.batch(range(500)).x, data.masks(range(500))
    grey = np.einsum("bchw,c->bhw", x, np.array([77, 150, 29]) / 256)
    inside = (grey * masks).sum((1, 2)) / masks.sum((1, 2))
    outside = (grey * ~masks).sum((1, 2)) / (~masks).sum((1, 2))
    assert np.quantile(np.abs(inside - outside), 0.02) > 0.1


def test_indices_outside_the_split_are_refused() -> None:
    with pytest.raises(IndexError):
        scenes("test").batch([1000])
    with pytest.raises(IndexError):
        scenes("test").batch([-1])


def test_wrong_requests_get_one_sentence() -> None:
    with pytest.raises(UsageError, match="did you mean 'digit-scenes'"):
        load_dataset("digit-scene")
    with pytest.raises(UsageError, match="no split 'validation'"):
        load_dataset("digit-scenes", split="validation")
    with pytest.raises(UsageError, match="reads no folder"):
        load_dataset("digit-scenes", data_dir=Path("data"))
    with pytest.raises(UsageError, match="32x32"):
        load_dataset("digit-scenes", preprocess=Preprocess(resize=256, crop=224))


def test_listing_data_sets_imports_nothing_heavy() -> None:
    code = (
        "import sys; from robustbench_snn.data import DATASETS\n"
        "cards = [DATASETS.get(n) for n in DATASETS.names()]\n"
        "assert all(len(c.class_names) == c.num_classes for c in cards)\n"
        "print([m for m in ('numpy', 'torch', 'PIL', 'datasets', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
