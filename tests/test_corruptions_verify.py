"""The comparison of ours with official files, on small files in the official layout."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corruption_files import clean_pictures, write_cifar_c, write_imagenet_tree
from numpy.typing import NDArray
from PIL import Image

from robustbench_snn.corruptions import corrupt, generator
from robustbench_snn.corruptions.comparison import compare
from robustbench_snn.corruptions.verify import main

COUNT = 60
LABELS = (np.arange(COUNT) * 7 % 10).astype(np.uint8)


def write_clean(folder: Path, order: NDArray[np.int64]) -> None:
    rows = []
    for picture in clean_pictures(COUNT)[order]:
        stored = BytesIO()
        Image.fromarray(picture).save(stored, "PNG")
        rows.append({"bytes": stored.getvalue(), "path": ""})
    folder.mkdir()
    table = pa.table({"img": rows, "label": LABELS[order].astype(np.int64)})
    pq.write_table(table, folder / "test.parquet")


Change = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


def official(name: str, change: Change = lambda x: x) -> NDArray[np.uint8]:
    """All severities of one corruption as another run with another seed would store them."""
    out = [
        corrupt(picture, name, s, "cifar", generator(99, name, s, str(i)))
        for s in range(1, 6)
        for i, picture in enumerate(clean_pictures(COUNT))
    ]
    return change(np.stack(out))


def run(tmp_path: Path, *extra: str) -> int:
    where = ["--official", str(tmp_path / "CIFAR-10-C"), "--clean", str(tmp_path / "clean")]
    return main([*where, "--severity", "1,4", *extra])


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    write_clean(tmp_path / "clean", np.arange(COUNT))
    return tmp_path


def test_files_made_with_another_seed_agree(
    clean: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("gaussian_noise", "glass_blur", "snow", "fog", "contrast", "zoom_blur", "frost")
    write_cifar_c(clean / "CIFAR-10-C", {name: official(name) for name in names}, LABELS)
    assert run(clean) == 0
    printed = capsys.readouterr().out
    assert printed.count("  agree\n") == 2 * 4
    assert printed.count("  equal\n") == 2 * 2
    assert printed.count("not comparable: synthetic texture") == 2
    assert "frost: synthetic texture" in printed
    assert printed.endswith("all cells agree\n")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("contrast", lambda x: np.roll(x, 1, axis=2), "pixels differ"),
        ("gaussian_noise", lambda x: x[::-1], "damage differs"),
        ("shot_noise", lambda x: np.maximum(x, 12), "differ"),
    ],
)
def test_other_files_are_found_out(
    clean: Path, name: str, change: Change, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cifar_c(clean / "CIFAR-10-C", {name: official(name, change)}, LABELS)
    assert run(clean) == 3
    printed = capsys.readouterr().out
    assert said in printed
    assert "some cells differ" in printed


def test_one_grey_level_on_few_pixels_is_still_equal_and_jpeg_noise_close() -> None:
    pictures = clean_pictures(20)
    out = np.stack([corrupt(p, "contrast", 2, "cifar", generator(0, "", 2, "")) for p in pictures])
    nudged = out.copy()
    nudged[:, 3, 5, :] += 1
    assert compare("contrast", 2, pictures, nudged, out).verdict == "equal"
    everywhere = out + (np.indices(out.shape).sum(axis=0) % 2).astype(np.uint8)
    result = compare("contrast", 2, pictures, everywhere, out)
    assert result.verdict == "close"
    assert result.equal == pytest.approx(0.5, abs=0.01)
    assert result.max_diff == 1


def test_clean_images_in_another_order_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clean(tmp_path / "clean", np.arange(COUNT)[::-1])
    write_cifar_c(tmp_path / "CIFAR-10-C", {"contrast": official("contrast")}, LABELS)
    assert run(tmp_path) == 2
    assert "not in the order of the original test set" in capsys.readouterr().err


def test_an_empty_folder_is_refused(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (clean / "CIFAR-10-C").mkdir()
    assert run(clean) == 2
    assert "holds no official corruption files" in capsys.readouterr().err


def test_imagenet_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean = tmp_path / "clean" / "val"
    stems = write_imagenet_tree(clean, side=256)
    for wnid in sorted(p.name for p in clean.iterdir()):
        folder = tmp_path / "ImageNet-C" / "contrast" / "2" / wnid
        folder.mkdir(parents=True)
        for path in (clean / wnid).iterdir():
            cropped = np.asarray(Image.open(path).crop((16, 16, 240, 240)))
            out = corrupt(cropped, "contrast", 2, "imagenet", generator(0, "contrast", 2, ""))
            Image.fromarray(out).save(folder / path.name, quality=85, optimize=True)
    where = ["--official", str(tmp_path), "--clean", str(tmp_path / "clean")]
    assert main([*where, "--dataset", "imagenet", "--severity", "2"]) == 0
    printed = capsys.readouterr().out
    assert f"contrast           2 {len(stems):6d}  pixels  100.00     0    inf" in printed


def test_imagenet_pairs_by_file_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_imagenet_tree(tmp_path / "clean" / "val", side=256)
    write_imagenet_tree(tmp_path / "ImageNet-C" / "contrast" / "1")
    where = ["--official", str(tmp_path), "--clean", str(tmp_path / "clean"), "--severity", "1"]
    next((tmp_path / "ImageNet-C").rglob("*00000001.JPEG")).unlink()
    assert main([*where, "--dataset", "imagenet"]) == 3
    assert "contrast           1      5" in capsys.readouterr().out
    next((tmp_path / "clean" / "val").rglob("*00000002.JPEG")).unlink()
    assert main([*where, "--dataset", "imagenet"]) == 2
    assert "such as 'ILSVRC2012_val_00000002', are not among" in capsys.readouterr().err
