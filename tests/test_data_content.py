"""The identity of data covers every byte of it, labels included, whatever the clock says."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_files import noise, png
from PIL import Image

from robustbench_snn.card import Preprocess
from robustbench_snn.corruptions.official import open_official
from robustbench_snn.data import content, load_dataset
from robustbench_snn.data.digit_scenes import DigitScenes
from robustbench_snn.errors import UsageError
from robustbench_snn.explain.boxes import fingerprint

PROTOCOL = Preprocess(resize=256, crop=224)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(content, "_known", {})


def put(path, data):
    """Write a file in place and give it the times it had."""
    before = path.stat() if path.exists() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    if before is not None:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_mtime_ns == before.st_mtime_ns


def parquet(images, labels, **settings):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = pa.array([{"bytes": image, "path": None} for image in images], kind)
    stream = pa.BufferOutputStream()
    pq.write_table(pa.table({"img": cells, "label": labels}), stream, **settings)
    return stream.getvalue().to_pybytes()


def test_a_parquet_file_replaced_under_its_old_time_is_read_anew(tmp_path):
    path, labels = tmp_path / "d" / "test.parquet", [0, 1, 2, 3]
    first, second = ([png(p) for p in noise(4, seed)] for seed in (1, 2))
    put(path, parquet(first, labels))
    old = load_dataset("cifar10", "test", path.parent)
    old.batch([0])
    revision = old.revision
    put(path, parquet(second, labels[::-1]))
    new = load_dataset("cifar10", "test", path.parent)
    assert np.array_equal(np.rint(new.batch([2]).x[0] * 255), noise(4, 2)[2])
    assert new.batch([0]).y.tolist() == [3]
    assert new.revision != revision


def test_the_middle_of_a_large_file_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(content, "_KEPT_FROM", 1 << 20)
    path = tmp_path / "d" / "test.parquet"
    images = [png(p) for p in noise(1400, 1)]
    whole = parquet(images, list(range(10)) * 140, compression="none")
    assert len(whole) > 4 << 20
    put(path, whole)
    first = load_dataset("cifar10", "test", path.parent).revision
    middle = len(whole) // 2
    put(path, whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    assert load_dataset("cifar10", "test", path.parent).revision != first


def test_hashes_of_large_files_are_kept_and_verified(tmp_path, monkeypatch):
    monkeypatch.setattr(content, "_KEPT_FROM", 0)
    monkeypatch.setattr(content, "_SETTLED_NS", -1)
    path = tmp_path / "file"
    path.write_bytes(b"a" * 1000)
    first = content.content_sha256([path])
    (kept,) = (tmp_path / "cache" / "robustbench_snn" / "contents").iterdir()
    content._known.clear()
    kept.write_text("b" * 64)
    assert content.content_sha256([path]) == "b" * 64, "the kept hash is what saves the reading"
    content._known.clear()
    kept.write_text("damaged")
    assert content.content_sha256([path]) == first
    put(path, b"a" * 999 + b"b")
    assert content.content_sha256([path]) not in (first, "b" * 64)


def test_a_file_that_changes_while_it_is_read_is_one_sentence(tmp_path):
    path = tmp_path / "d" / "test.parquet"
    put(path, parquet([png(p) for p in noise(4, 1)], [0, 1, 2, 3], row_group_size=1))
    data = load_dataset("cifar10", "test", path.parent)
    data.batch([0])
    put(path, parquet([png(p) for p in noise(4, 2)], [0, 1, 2, 3], row_group_size=1))
    with pytest.raises(UsageError, match="changed since this run opened it"):
        data.batch([3])


def test_rows_come_in_file_order_then_row_order(tmp_path):
    pixels = noise(7, 3)
    for i, part in enumerate((pixels[:5], pixels[5:])):
        data = parquet([png(p) for p in part], list(range(len(part))), row_group_size=2)
        put(tmp_path / "d" / f"test-0000{i}-of-00002.parquet", data)
    data = load_dataset("cifar10", "test", tmp_path / "d")
    batch = data.batch([6, 0, 4, 5, 3])
    assert np.array_equal(np.rint(batch.x * 255), pixels[[6, 0, 4, 5, 3]])
    assert batch.y.tolist() == [1, 0, 4, 0, 3]


def test_pictures_of_equal_size_are_told_apart(tmp_path):
    folder = tmp_path / "val" / "n01440764"
    folder.mkdir(parents=True)
    for i in range(2):
        Image.fromarray(noise(1, i)[0].transpose(1, 2, 0)).save(folder / f"{i}.JPEG", "BMP")
    first = load_dataset("imagenet", "test", tmp_path, PROTOCOL)
    revision = first.revision
    other = (folder / "0.JPEG").read_bytes()
    put(folder / "1.JPEG", other)
    assert load_dataset("imagenet", "test", tmp_path, PROTOCOL).revision != revision
    with pytest.raises(UsageError, match="changed since this run opened it"):
        first.batch([1])


def test_labels_of_official_corruptions_count(tmp_path):
    images = np.zeros((50, 32, 32, 3), dtype=np.uint8)
    np.save(tmp_path / "fog.npy", images)
    np.save(tmp_path / "labels.npy", np.tile(np.arange(10), 5))
    first = open_official("cifar10", tmp_path, "fog", 1).revision
    np.save(tmp_path / "labels.npy", np.tile(np.arange(10)[::-1], 5))
    assert open_official("cifar10", tmp_path, "fog", 1).revision != first


def test_labels_of_the_embedded_scenes_count():
    from robustbench_snn.data import DATASETS

    one, two = (DigitScenes(DATASETS.get("digit-scenes"), "holdout") for _ in range(2))
    two._labels = (two._labels + 1) % 10
    assert one.revision != two.revision


def test_boxes_of_equal_size_are_told_apart(tmp_path):
    (tmp_path / "a.xml").write_text("<xmin>1</xmin>")
    first = fingerprint(tmp_path)
    put(tmp_path / "a.xml", b"<xmin>2</xmin>")
    assert fingerprint(tmp_path) != first
