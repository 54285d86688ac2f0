"""ImageNet-1K from class folders and parquet files, and the resize and crop of its protocol."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_files import noise, png, write_parquet
from PIL import Image

from robustbench_snn.card import Preprocess
from robustbench_snn.data import DATASETS, load_dataset
from robustbench_snn.data.imagenet_classes import CLASS_NAMES, WORDNET_IDS
from robustbench_snn.data.preprocessing import to_pixels
from robustbench_snn.errors import UsageError

PROTOCOL = Preprocess(resize=256, crop=224)
PICTURE = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def save(path: Path, picture: Image.Image | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture or Image.fromarray(PICTURE)).save(path, format="JPEG")
    return path


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    """Two classes far apart in the list; file names in the official order mix them."""
    save(tmp_path / "val/n15075141/ILSVRC2012_val_00000001.JPEG")
    save(tmp_path / "val/n01443537/ILSVRC2012_val_00000002.JPEG")
    save(tmp_path / "val/n15075141/ILSVRC2012_val_00000003.JPEG")
    return tmp_path


def test_classes_are_the_fixed_list() -> None:
    assert len(set(WORDNET_IDS)) == len(CLASS_NAMES) == 1000
    assert list(WORDNET_IDS) == sorted(WORDNET_IDS)
    assert (WORDNET_IDS[0], WORDNET_IDS[1], WORDNET_IDS[999]) == (
        "n01440764",
        "n01443537",
        "n15075141",
    )
    assert CLASS_NAMES[:2] == ("tench", "goldfish")
    assert DATASETS.get("imagenet").num_classes == 1000


def test_index_comes_from_the_list_not_from_the_folders(class_folders: Path) -> None:
    data = load_dataset("imagenet", "test", class_folders, PROTOCOL)
    batch = data.batch([0, 1, 2])
    assert batch.y.tolist() == [999, 1, 999]
    assert batch.ids == [f"ILSVRC2012_val_0000000{i}" for i in (1, 2, 3)]
    assert batch.x.shape == (3, 3, 224, 224)
    assert batch.x.dtype == np.float32
    assert 0.0 <= batch.x.min() < batch.x.max() <= 1.0
    assert data.source == "local"


@pytest.mark.parametrize("given", ["val", "."])
def test_the_split_folder_may_be_named_itself(class_folders: Path, given: str) -> None:
    assert len(load_dataset("imagenet", "test", class_folders / given, PROTOCOL)) == 3


def test_files_of_one_name_in_two_classes_stay_apart(tmp_path: Path) -> None:
    for wnid in ("n01440764", "n01443537"):
        save(tmp_path / "val" / wnid / "first.JPEG")
    ids = load_dataset("imagenet", "test", tmp_path, PROTOCOL).batch([0, 1]).ids
    assert ids == ["n01440764/first", "n01443537/first"]


def test_revision_follows_the_files(class_folders: Path) -> None:
    first = load_dataset("imagenet", "test", class_folders, PROTOCOL).revision
    assert first == load_dataset("imagenet", "test", class_folders, PROTOCOL).revision
    save(class_folders / "val/n01440764/ILSVRC2012_val_00000004.JPEG")
    assert first != load_dataset("imagenet", "test", class_folders, PROTOCOL).revision


def test_parquet_files_of_the_validation_set_are_the_test_split(tmp_path: Path) -> None:
    images = [png(p) for p in noise(2)]
    write_parquet(tmp_path / "data/validation-00000-of-00001.parquet", images, [998, 7], "image")
    write_parquet(tmp_path / "data/test-00000-of-00001.parquet", images, [-1, -1], "image")
    data = load_dataset("imagenet", "test", tmp_path, PROTOCOL)
    batch = data.batch([1, 0])
    assert batch.y.tolist() == [7, 998]
    assert batch.ids == ["test/000001", "test/000000"]
    assert batch.x.shape == (2, 3, 224, 224)


def test_large_sets_are_not_held_in_memory(class_folders: Path) -> None:
    data = load_dataset("imagenet", "test", class_folders, PROTOCOL)
    with pytest.raises(UsageError, match="too large"):
        data.arrays()  # type: ignore[attr-defined]


def test_wrong_folders_get_one_sentence(class_folders: Path, tmp_path: Path) -> None:
    save(class_folders / "val/n99999999/x.JPEG")
    with pytest.raises(UsageError, match="n99999999 is not named after one of the 1,000"):
        load_dataset("imagenet", "test", class_folders, PROTOCOL)
    save(tmp_path / "flat/val/ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(UsageError, match=r"must lie in val/<wnid>/"):
        load_dataset("imagenet", "test", tmp_path / "flat", PROTOCOL)
    with pytest.raises(UsageError, match=r"must hold train/<wnid>/"):
        load_dataset("imagenet", "train", tmp_path / "flat", PROTOCOL)
    with pytest.raises(UsageError, match="does not exist"):
        load_dataset("imagenet", "test", tmp_path / "nowhere", PROTOCOL)


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_a_corrupt_image_is_named(class_folders: Path, damage: str) -> None:
    path = class_folders / "val/n01443537/ILSVRC2012_val_00000002.JPEG"
    whole = path.read_bytes()
    path.write_bytes(
        {"truncated": whole[: len(whole) // 2], "text": b"x" * 99, "empty": b""}[damage]
    )
    data = load_dataset("imagenet", "test", class_folders, PROTOCOL)
    assert len(data.batch([0, 2]).ids) == 2
    with pytest.raises(UsageError, match=r"00000002\.JPEG cannot be decoded"):
        data.batch([0, 1])


def test_images_of_several_sizes_need_a_protocol(class_folders: Path) -> None:
    save(class_folders / "val/n01440764/a.JPEG", Image.new("RGB", (30, 40)))
    data = load_dataset("imagenet", "test", class_folders)
    with pytest.raises(UsageError, match="differ in size"):
        data.batch(range(4))


def test_grey_and_four_ink_images_become_rgb(class_folders: Path) -> None:
    for mode in ("L", "CMYK"):
        save(
            class_folders / f"val/n01440764/{mode}.JPEG",
            Image.new(mode, (40, 40), 128 if mode == "L" else 0),
        )
    data = load_dataset("imagenet", "test", class_folders, Preprocess(resize=32, crop=32))
    assert data.batch(range(5)).x.shape == (5, 3, 32, 32)


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((500, 375), (341, 256)),
        ((375, 500), (256, 341)),
        ((256, 300), (256, 300)),
        ((9, 9), (256, 256)),
    ],
)
def test_resize_keeps_the_ratio_rounded_down(
    size: tuple[int, int], resized: tuple[int, int]
) -> None:
    pixels = to_pixels(Image.new("RGB", size), Preprocess(resize=256))
    assert pixels.shape == (3, resized[1], resized[0])


def test_resize_uses_the_named_filter() -> None:
    picture = Image.fromarray(PICTURE)
    for name, kind in (
        ("bicubic", Image.Resampling.BICUBIC),
        ("bilinear", Image.Resampling.BILINEAR),
    ):
        pixels = to_pixels(picture, Preprocess(resize=24, interpolation=name))  # type: ignore[arg-type]
        assert np.array_equal(pixels.transpose(1, 2, 0), np.asarray(picture.resize((32, 24), kind)))


@pytest.mark.parametrize(("side", "start"), [(12, 1), (13, 2), (15, 2), (17, 4)])
def test_centre_crop_rounds_half_to_even(side: int, start: int) -> None:
    row = np.arange(side, dtype=np.uint8)
    picture = Image.fromarray(np.stack([np.tile(row, (side, 1))] * 3, axis=-1))
    pixels = to_pixels(picture, Preprocess(crop=10))
    assert pixels[0, 0].tolist() == list(range(start, start + 10))


def test_a_crop_larger_than_the_image_is_refused() -> None:
    with pytest.raises(UsageError, match="32x32 pixels is smaller than the model's centre crop"):
        to_pixels(Image.new("RGB", (32, 32)), Preprocess(crop=224))


def test_development_sample(shared_data: Path) -> None:
    data = load_dataset("imagenet", "test", shared_data / "imagenet_sample", PROTOCOL)
    batch = data.batch(range(len(data)))
    assert batch.y.tolist() == list(range(0, 1000, 10))
    assert batch.x.shape == (100, 3, 224, 224)
