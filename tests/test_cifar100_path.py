"""CIFAR-100 from its original archive: train, load what was trained, attack it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from image_files import batch_file, noise

from robustbench_snn.run import main as run
from robustbench_snn.store import Results
from robustbench_snn.train import main as train

MODEL = "qkformer-small.cifar100"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    inside = folder / "cifar-100-python"
    inside.mkdir()
    for name, n in (("train", 8), ("test", 6)):
        labels = [(37 * i + 5) % 100 for i in range(n)]
        (inside / name).write_bytes(batch_file(noise(n, seed=n), labels, "fine_labels"))
    return folder


def test_training_and_evaluation_share_the_path(archive: Path, tmp_path: Path) -> None:
    where = ["--data-dir", str(archive)]
    words = ["--model", MODEL, "--epochs", "30", "--batch-size", "3", "--threads", "1"]
    assert train([*words, *where, "--out", str(tmp_path / "runs")]) == 0
    folder = tmp_path / "runs" / MODEL
    card = json.loads((folder / f"{MODEL}.json").read_text())
    assert (card["clean"]["n"], card["training_images"]) == (6, 7)
    weights = ["--weights", str(folder / f"{MODEL}.safetensors"), "--model", MODEL]
    words = ["--dataset", "cifar100", "--attack", "fgsm", "--n", "6", "--quiet"]
    assert run([*words, *where, *weights, "--out", str(tmp_path / "results")]) == 0
    frame = Results.load(tmp_path / "results").frame()
    assert set(frame["weights_sha256"]) == {card["sha256"]}
    assert set(frame["dataset_source"]) == {"local"}
    assert frame["correct_clean"].sum() / 6 == card["clean"]["accuracy"]
