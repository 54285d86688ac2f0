"""CIFAR from parquet files, from the python archives and from the Hub."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hub_server import serve
from image_files import batch_file, noise, png, python2_pickle, write_parquet

from robustbench_snn.card import Preprocess
from robustbench_snn.data import DATASETS, load_dataset
from robustbench_snn.data.cifar_archive import restricted_loads
from robustbench_snn.errors import UsageError

LABELS = [3, 1, 4, 1, 5, 9, 2, 6]
PIXELS = noise(len(LABELS))


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read from or written to the user's Hub caches."""
    import huggingface_hub.constants

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def use_hub(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    import huggingface_hub.constants

    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def parquet_folder(folder: Path) -> Path:
    write_parquet(folder / "test.parquet", [png(p) for p in PIXELS], LABELS)
    return folder


def python_folder(folder: Path) -> Path:
    inside = folder / "cifar-10-batches-py"
    inside.mkdir(parents=True)
    (inside / "test_batch").write_bytes(batch_file(PIXELS, LABELS))
    for i in range(1, 6):
        (inside / f"data_batch_{i}").write_bytes(batch_file(noise(2, seed=i), [i, i + 1]))
    return folder


def tarball_folder(folder: Path) -> Path:
    source = python_folder(folder / "source") / "cifar-10-batches-py"
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as tar:
        tar.add(source, arcname="cifar-10-batches-py")
    return folder


@pytest.mark.parametrize("layout", [parquet_folder, python_folder, tarball_folder])
def test_every_layout_gives_the_same_rows(layout: Callable[[Path], Path], tmp_path: Path) -> None:
    data = load_dataset("cifar10", data_dir=layout(tmp_path / "data"))
    assert (len(data), data.source, data.split) == (8, "local", "test")
    batch = data.batch([6, 0])
    assert batch.ids == ["test/000006", "test/000000"]
    assert batch.x.dtype == np.float32
    assert batch.x.flags.c_contiguous
    assert np.array_equal(batch.x, PIXELS[[6, 0]].astype(np.float32) / np.float32(255))
    assert batch.y.tolist() == [2, 3]
    assert batch.y.dtype == np.int64


def test_training_batches_follow_one_another(tmp_path: Path) -> None:
    data = load_dataset("cifar10", "train", python_folder(tmp_path))
    pixels, labels = data.arrays()  # type: ignore[attr-defined]
    assert labels.tolist() == [1, 2, 2, 3, 3, 4, 4, 5, 5, 6]
    assert np.array_equal(pixels[6:8], noise(2, seed=4))


def test_folder_of_the_archive_itself_is_accepted(tmp_path: Path) -> None:
    folder = python_folder(tmp_path) / "cifar-10-batches-py"
    assert load_dataset("cifar10", data_dir=folder).batch(range(8)).y.tolist() == LABELS


def test_cifar100_uses_the_fine_labels(tmp_path: Path) -> None:
    images = [png(p) for p in PIXELS[:2]]
    write_parquet(tmp_path / "hub/data/test-0.parquet", images, [99, 0], label_column="fine_label")
    archive = tmp_path / "archive" / "cifar-100-python"
    archive.mkdir(parents=True)
    (archive / "test").write_bytes(batch_file(PIXELS[:2], [99, 0], "fine_labels"))
    for folder in ("hub", "archive"):
        data = load_dataset("cifar100", data_dir=tmp_path / folder)
        assert data.batch([0, 1]).y.tolist() == [99, 0]
    names = DATASETS.get("cifar100").class_names
    assert list(names) == sorted(set(names))
    assert len(names) == 100


def test_revision_follows_the_content(tmp_path: Path) -> None:
    first = load_dataset("cifar10", data_dir=parquet_folder(tmp_path / "a")).revision
    again = load_dataset("cifar10", data_dir=parquet_folder(tmp_path / "b")).revision
    write_parquet(tmp_path / "c/test.parquet", [png(p) for p in PIXELS], LABELS[::-1])
    other = load_dataset("cifar10", data_dir=tmp_path / "c").revision
    assert first == again != other
    assert len(first) == 12


def test_preprocessing_of_the_card_is_applied(tmp_path: Path) -> None:
    data = load_dataset("cifar10", "test", parquet_folder(tmp_path), Preprocess(crop=16))
    assert np.array_equal(data.batch([0]).x[0] * 255, PIXELS[0, :, 8:24, 8:24])


def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    images = [png(PIXELS[0]), png(PIXELS[1][:, :20])]
    write_parquet(tmp_path / "test.parquet", images, [0, 1])
    with pytest.raises(UsageError, match=r"differ in size \(row 1 of"):
        load_dataset("cifar10", data_dir=tmp_path).batch([0, 1])


class Run:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch ran",)


def test_a_pickle_that_runs_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (python_folder(tmp_path) / "cifar-10-batches-py/test_batch").write_bytes(pickle.dumps(Run()))
    with pytest.raises(UsageError, match=r"system, which a CIFAR archive never holds"):
        load_dataset("cifar10", data_dir=tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "named", [b"cbuiltins\neval\n.", b"cnumpy\nload\n.", b"cnumpy\nndarray.tofile\n."]
)
def test_no_other_object_is_looked_up(named: bytes) -> None:
    with pytest.raises(UsageError, match="asks to load"):
        restricted_loads(named, "test_batch")


def test_arrays_and_containers_are_read() -> None:
    stored = python2_pickle({"data": PIXELS, "labels": [1, 2], "name": "x"})
    loaded = restricted_loads(stored, "batch")
    assert np.array_equal(loaded["data"], PIXELS)
    assert (loaded["labels"], loaded["name"]) == ([1, 2], "x")


def test_damaged_archives_get_one_sentence(tmp_path: Path) -> None:
    inside = python_folder(tmp_path) / "cifar-10-batches-py"
    whole = (inside / "test_batch").read_bytes()
    (inside / "data_batch_3").unlink()
    with pytest.raises(UsageError, match="lacks data_batch_3"):
        load_dataset("cifar10", "train", tmp_path)
    for content in (whole[:500], b"", b"<html>"):
        (inside / "test_batch").write_bytes(content)
        with pytest.raises(UsageError, match="not a readable CIFAR batch file"):
            load_dataset("cifar10", data_dir=tmp_path)
    (inside / "test_batch").write_bytes(batch_file(PIXELS, LABELS[:3]))
    with pytest.raises(UsageError, match="lacks 'data'"):
        load_dataset("cifar10", data_dir=tmp_path)
    tarball = tmp_path / "tar" / "cifar-10-python.tar.gz"
    tarball.parent.mkdir()
    tarball.write_bytes(b"not a tarball")
    with pytest.raises(UsageError, match="cannot be unpacked"):
        load_dataset("cifar10", data_dir=tarball.parent)


def test_wrong_parquet_files_get_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "test.parquet"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(UsageError, match="not a readable parquet file"):
        load_dataset("cifar10", data_dir=tmp_path)
    write_parquet(path, [png(PIXELS[0])], [0], image_column="photo")
    with pytest.raises(UsageError, match="has the columns photo, label, but none called img"):
        load_dataset("cifar10", data_dir=tmp_path)
    write_parquet(path, [png(PIXELS[0])], ["cat"])
    with pytest.raises(UsageError, match="must be whole numbers"):
        load_dataset("cifar10", data_dir=tmp_path)
    write_parquet(path, [png(PIXELS[0])], [10])
    with pytest.raises(UsageError, match=r"row 0 of .* is labelled 10"):
        load_dataset("cifar10", data_dir=tmp_path)
    write_parquet(path, [png(PIXELS[0]), b"no image", None], [0, 1, 2])
    data = load_dataset("cifar10", data_dir=tmp_path)
    with pytest.raises(UsageError, match=r"row 1 of .* cannot be decoded"):
        data.batch([0, 1])
    with pytest.raises(UsageError, match=r"row 2 of .* has no image bytes"):
        data.batch([2])
    with pytest.raises(UsageError, match=r"no train\*\.parquet in .*seen: test\.parquet"):
        load_dataset("cifar10", "train", tmp_path)


def test_an_unwritable_cache_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "blocked").write_text("a file where the cache folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "blocked"))
    monkeypatch.setattr("robustbench_snn.data.content._KEPT_FROM", 0)
    monkeypatch.setattr("robustbench_snn.data.content._SETTLED_NS", -1)
    data = load_dataset("cifar10", data_dir=parquet_folder(tmp_path / "data"))
    assert len(data.revision) == 12
    assert data.batch([1]).y.tolist() == [LABELS[1]]


def test_a_missing_shard_is_noticed(tmp_path: Path) -> None:
    write_parquet(tmp_path / "test-00000-of-00002.parquet", [png(PIXELS[0])], [0])
    with pytest.raises(UsageError, match="say there are 2"):
        load_dataset("cifar10", data_dir=tmp_path)
    write_parquet(tmp_path / "test-00001-of-00002.parquet", [png(PIXELS[1])], [7])
    assert load_dataset("cifar10", data_dir=tmp_path).batch([1, 0]).y.tolist() == [7, 0]


def test_wrong_folders_get_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        load_dataset("cifar10", data_dir=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="is empty"):
        load_dataset("cifar10", data_dir=tmp_path / "empty")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        load_dataset("cifar10", data_dir=tmp_path / "notes.txt")
    with pytest.raises(UsageError, match=r"no cifar10 in .* must hold test\*\.parquet"):
        load_dataset("cifar10", data_dir=tmp_path)


def hub_content() -> dict[str, bytes]:
    stream = io.BytesIO()
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = [{"bytes": png(p), "path": None} for p in PIXELS]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"img": pa.array(cells, kind), "label": LABELS}), stream)
    return {
        "README.md": b"# images",
        "plain_text/test-00000-of-00001.parquet": stream.getvalue(),
        "plain_text/train-00000-of-00001.parquet": b"never fetched",
    }


def test_the_hub_is_read_once_and_then_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve("uoft-cs/cifar10", hub_content()) as address:
        use_hub(monkeypatch, address)
        data = load_dataset("cifar10")
        assert (data.source, len(data)) == ("hub", 8)
        assert np.array_equal(data.batch([5]).x[0] * 255, PIXELS[5])
    assert not list((tmp_path / "hub").glob("**/train-*"))
    assert load_dataset("cifar10").revision == data.revision
    with pytest.raises(UsageError, match=r"could not be reached and its cache does not hold it"):
        load_dataset("cifar10", "train")


def test_without_network_or_folder_one_sentence_names_both_ways(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(UsageError) as caught:
        load_dataset("cifar100")
    sentence = str(caught.value)
    for part in ("uoft-cs/cifar100", "network", "--data-dir", "cifar-100-python"):
        assert part in sentence
    assert "\n" not in sentence


def test_terms_that_were_not_accepted_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"data/validation-00000-of-00001.parquet": b"locked"}
    with serve("ILSVRC/imagenet-1k", files, gated=True) as address:
        use_hub(monkeypatch, address)
        with pytest.raises(UsageError, match="accepted its terms"):
            load_dataset("imagenet")


def test_development_copy_of_cifar10(shared_data: Path) -> None:
    data = load_dataset("cifar10", data_dir=shared_data / "cifar10")
    batch = data.batch(range(64))
    assert len(data) == 10_000
    assert batch.x.shape == (64, 3, 32, 32)
    assert batch.y[:10].tolist() == list(range(10))
