"""Files of one data set given as another are refused, not measured as 0 per cent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from image_files import batch_file, noise, png, python2_pickle, write_parquet

from robustbench_snn.data import DATASETS, load_dataset
from robustbench_snn.errors import UsageError

# From https://www.cs.toronto.edu/~kriz/cifar.html, in label order.
TEN = "airplane automobile bird cat deer dog frog horse ship truck".split()


def named_parquet(path: Path, labels: list[int], column: str, names: list[str]) -> None:
    """A parquet file as the Hub writes it, with the names of its classes in the metadata."""
    write_parquet(path, [png(p) for p in noise(len(labels))], labels, label_column=column)
    table = pq.read_table(path)
    features = {
        "img": {"_type": "Image"},
        column: {"names": names, "_type": "ClassLabel"},
    }
    told = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pq.write_table(table.replace_schema_metadata(told), path)


def test_cifar10_files_are_not_cifar100(tmp_path: Path) -> None:
    labels = [i % 10 for i in range(30)]
    write_parquet(tmp_path / "test.parquet", [png(p) for p in noise(30)], labels)
    assert len(load_dataset("cifar10", data_dir=tmp_path)) == 30
    with pytest.raises(UsageError, match=r"only reach 9: .* another data set"):
        load_dataset("cifar100", data_dir=tmp_path)


def test_few_or_wide_labels_say_nothing(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a/test.parquet", [png(p) for p in noise(3)], [1, 2, 3])
    assert len(load_dataset("cifar100", data_dir=tmp_path / "a")) == 3
    labels = [4 * i % 100 for i in range(30)]
    write_parquet(tmp_path / "b/test.parquet", [png(p) for p in noise(30)], labels)
    assert len(load_dataset("cifar100", data_dir=tmp_path / "b")) == 30


def test_class_names_in_the_file_decide(tmp_path: Path) -> None:
    hundred = list(DATASETS.get("cifar100").class_names)
    named_parquet(tmp_path / "ten/test.parquet", [3, 8], "label", TEN)
    batch = load_dataset("cifar10", data_dir=tmp_path / "ten").batch([0, 1])
    assert [TEN[label] for label in batch.y] == ["cat", "ship"]
    for name in ("cifar100", "imagenet"):
        (tmp_path / "ten/validation.parquet").write_bytes(
            (tmp_path / "ten/test.parquet").read_bytes()
        )
        with pytest.raises(UsageError, match=r"says that it has 10 classes \(airplane, "):
            load_dataset(name, data_dir=tmp_path / "ten")
    swapped = [*TEN[:3], TEN[5], TEN[4], TEN[3], *TEN[6:]]
    named_parquet(tmp_path / "swapped/test.parquet", [3, 8], "label", swapped)
    with pytest.raises(UsageError, match=r"calls class 3 'dog', and in cifar10 it is 'cat' \(2 "):
        load_dataset("cifar10", data_dir=tmp_path / "swapped")
    # The Hub's copy misspells one name of a hundred.
    misspelt = [name if name != "crab" else "cra" for name in hundred]
    named_parquet(tmp_path / "hundred/test.parquet", [0, 99], "fine_label", misspelt)
    assert len(load_dataset("cifar100", data_dir=tmp_path / "hundred")) == 2


def test_cifar100_files_are_not_cifar10(tmp_path: Path) -> None:
    images = [png(p) for p in noise(2)]
    write_parquet(tmp_path / "a/test.parquet", images, [4, 5], label_column="fine_label")
    with pytest.raises(UsageError, match="give the files of this data set"):
        load_dataset("cifar10", data_dir=tmp_path / "a")
    write_parquet(tmp_path / "b/test.parquet", images, [4, 55])
    with pytest.raises(UsageError, match=r"labels 0\.\.9, but row 1"):
        load_dataset("cifar10", data_dir=tmp_path / "b")


@pytest.mark.parametrize("order", [TEN, TEN[::-1]], ids=["right", "reversed"])
def test_names_beside_the_archive_are_read(tmp_path: Path, order: list[str]) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "test_batch").write_bytes(batch_file(noise(2), [3, 8]))
    (folder / "batches.meta").write_bytes(python2_pickle({"label_names": order}))
    if order == TEN:
        assert load_dataset("cifar10", data_dir=tmp_path).batch([0]).y.tolist() == [3]
        return
    with pytest.raises(UsageError, match="calls class 0 'truck'"):
        load_dataset("cifar10", data_dir=tmp_path)


def test_official_corruptions_of_the_other_set(tmp_path: Path) -> None:
    from robustbench_snn.corruptions.official import open_official

    folder = tmp_path / "CIFAR-100-C"
    folder.mkdir()
    images = np.tile(noise(20).transpose(0, 2, 3, 1), (5, 1, 1, 1))
    np.save(folder / "fog.npy", images)
    np.save(folder / "labels.npy", np.tile(np.arange(20) % 10, 5))
    with pytest.raises(UsageError, match="only reach 9"):
        open_official("cifar100", tmp_path, "fog", 1)
