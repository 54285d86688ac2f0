"""Reading the official layouts, and one clear sentence for every way they can be broken."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from corruption_files import INDEX_OF, WNIDS, clean_pictures, write_cifar_c, write_imagenet_tree
from PIL import Image

from robustbench_snn.corruptions.official import available, open_official
from robustbench_snn.errors import UsageError

COUNT = 6
LABELS = np.array([3, 8, 0, 6, 1, 9], dtype=np.uint8)


@pytest.fixture
def cifar_c(tmp_path: Path) -> Path:
    clean = clean_pictures(COUNT)
    shifted = np.concatenate([np.clip(clean.astype(int) + s, 0, 255) for s in range(1, 6)])
    write_cifar_c(tmp_path / "CIFAR-10-C", {"fog": shifted.astype(np.uint8)}, LABELS)
    return tmp_path


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_cifar_severity_slice(cifar_c: Path, severity: int) -> None:
    images = open_official("cifar10", cifar_c, "fog", severity)
    batch = images.batch([5, 0])
    wanted = np.clip(clean_pictures(COUNT)[[5, 0]].astype(int) + severity, 0, 255)
    assert len(images) == COUNT
    assert images.source == "official"
    assert batch.ids == ["test/000005", "test/000000"]
    assert batch.y.tolist() == [9, 3]
    assert batch.x.dtype == np.float32
    assert np.array_equal(np.rint(batch.x * 255), wanted.transpose(0, 3, 1, 2))


def test_revision_is_the_md5_of_the_file_and_the_folder_itself_may_be_given(cifar_c: Path) -> None:
    inner = cifar_c / "CIFAR-10-C"
    images = open_official("cifar10", inner, "fog", 2)
    fog, labels = (
        hashlib.md5((inner / name).read_bytes()).hexdigest() for name in ("fog.npy", "labels.npy")
    )
    assert images.revision == f"{fog}-{labels[:12]}"
    assert available("cifar10", inner) == ["fog"]


def test_cifar100_checks_its_own_label_range(cifar_c: Path) -> None:
    inner = cifar_c / "CIFAR-10-C"
    np.save(inner / "labels.npy", np.tile(LABELS + 80, 5))
    assert open_official("cifar100", inner, "fog", 1).batch([0]).y.tolist() == [83]
    with pytest.raises(UsageError, match=r"classes 0\.\.9"):
        open_official("cifar10", inner, "fog", 1)


def damage(folder: Path, what: str) -> None:
    fog, labels = folder / "fog.npy", folder / "labels.npy"
    if what == "truncated":
        fog.write_bytes(fog.read_bytes()[:-1000])
    elif what == "cut header":
        fog.write_bytes(fog.read_bytes()[:20])
    elif what == "web page":
        fog.write_bytes(b"\n<!DOCTYPE html><html><body>404</body></html>")
    elif what == "not npy":
        fog.write_bytes(b"PK\x03\x04" + bytes(100))
    elif what == "pickle":
        np.save(fog, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif what == "shape":
        np.save(fog, np.zeros((30, 3, 32, 32), np.uint8))
    elif what == "type":
        np.save(fog, np.zeros((30, 32, 32, 3), np.float32))
    elif what == "not five":
        np.save(fog, np.zeros((31, 32, 32, 3), np.uint8))
    elif what == "labels length":
        np.save(labels, np.tile(LABELS, 4))
    elif what == "labels type":
        np.save(labels, np.tile(LABELS, 5) / 2)
    elif what == "labels shuffled":
        np.save(labels, np.repeat(LABELS, 5))
    elif what == "labels missing":
        labels.unlink()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("truncated", "truncated or damaged"),
        ("cut header", "truncated or damaged"),
        ("web page", "is a web page, not data"),
        ("not npy", "is not a .npy file"),
        ("pickle", "truncated or damaged"),
        ("shape", r"shape \(30, 3, 32, 32\)"),
        ("type", "holds a float32 array"),
        ("not five", "not five severities"),
        ("labels length", "need 30 whole-number labels"),
        ("labels type", "need 30 whole-number labels"),
        ("labels shuffled", "does not repeat the same labels"),
        ("labels missing", r"labels\.npy' does not exist"),
    ],
)
def test_broken_cifar_files(cifar_c: Path, what: str, said: str) -> None:
    damage(cifar_c / "CIFAR-10-C", what)
    with pytest.raises(UsageError, match=said):
        open_official("cifar10", cifar_c, "fog", 1)


@pytest.mark.parametrize("nesting", ["fog", "weather/fog"])
def test_imagenet_both_nestings_keep_ids_pixels_and_the_fixed_class_index(
    tmp_path: Path, nesting: str
) -> None:
    stems = write_imagenet_tree(tmp_path / "ImageNet-C" / nesting / "3")
    images = open_official("imagenet", tmp_path, "fog", 3)
    batch = images.batch(range(6))
    assert batch.ids == stems
    assert batch.y.tolist() == [INDEX_OF[WNIDS[i % 3]] for i in range(6)]
    assert batch.x.shape == (6, 3, 224, 224)
    stored = tmp_path / "ImageNet-C" / nesting / "3" / WNIDS[1] / f"{stems[1]}.JPEG"
    assert np.array_equal(
        np.rint(batch.x[1] * 255), np.asarray(Image.open(stored)).transpose(2, 0, 1)
    )
    assert images.source == "official"


def test_imagenet_missing_severity_is_named(tmp_path: Path) -> None:
    write_imagenet_tree(tmp_path / "fog" / "1")
    with pytest.raises(UsageError, match=r"no severity 4 of fog.*there: 1"):
        open_official("imagenet", tmp_path, "fog", 4)


def test_imagenet_files_of_another_size_are_not_resized(tmp_path: Path) -> None:
    write_imagenet_tree(tmp_path / "fog" / "1", side=256)
    with pytest.raises(UsageError, match=r"is 256x256.*not resized again"):
        open_official("imagenet", tmp_path, "fog", 1).batch([0])


def test_imagenet_folder_of_no_class_and_broken_jpeg(tmp_path: Path) -> None:
    stems = write_imagenet_tree(tmp_path / "fog" / "1")
    (tmp_path / "fog" / "1" / WNIDS[0] / f"{stems[0]}.JPEG").write_bytes(b"<html>")
    with pytest.raises(UsageError, match="cannot be decoded"):
        open_official("imagenet", tmp_path, "fog", 1).batch([0])
    (tmp_path / "fog" / "1" / "cats").mkdir()
    with pytest.raises(UsageError, match="not named after one of the 1,000"):
        open_official("imagenet", tmp_path, "fog", 1)


@pytest.mark.parametrize(
    ("dataset", "corruption", "severity", "said"),
    [
        ("digit-scenes", "fog", 1, "no official corruption files for 'digit-scenes'"),
        ("cifar10", "snow", 1, "holds no snow of CIFAR-10-C: there are fog"),
        ("cifar10", "fogg", 1, "did you mean 'fog'"),
        ("cifar10", "fog", 6, "severity 6"),
    ],
)
def test_what_is_not_there(
    cifar_c: Path, dataset: str, corruption: str, severity: int, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        open_official(dataset, cifar_c, corruption, severity)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        open_official("cifar10", tmp_path / "nowhere", "fog", 1)
