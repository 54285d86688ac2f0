"""Training: it learns, resumes to the same weights, and refuses what cannot work."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from robustbench_snn.adapter import load_model
from robustbench_snn.train import main
from robustbench_snn.training.augment import augment
from robustbench_snn.training.recipe import Recipe
from robustbench_snn.training.trainer import Pictures, Trainer

NAME = "sdt-tiny.digit-scenes"
QUICK = ["--n", "192", "--batch-size", "32", "--one-step", "0.5", "--threads", "1"]


def command(out: Path, *more: str) -> int:
    return main(["--model", NAME, "--out", str(out), *QUICK, *more])


def test_card_log_and_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(tmp_path, "--epochs", "2") == 0
    folder = tmp_path / NAME
    card = json.loads((folder / f"{NAME}.json").read_text())
    assert card["clean"]["n"] == 1000
    low, high = card["clean"]["interval_95"]
    assert low <= card["clean"]["accuracy"] <= high
    assert card["recipe"]["epochs"] == 2
    assert card["training_images"] == 192
    rows = list(csv.DictReader((folder / "log.csv").open()))
    assert [row["time_steps"] for row in rows] == ["1", "2"]
    model = load_model(NAME, weights=str(folder / f"{NAME}.safetensors"))
    assert model.weights_sha256 == card["sha256"]
    assert "clean accuracy" in capsys.readouterr().out


def test_interrupted_training_ends_in_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(tmp_path / "whole", "--epochs", "2") == 0
    original = Trainer.one_epoch

    def die_in_second(self: Trainer, tick: object) -> tuple[float, float]:
        if self.epoch == 1:
            raise KeyboardInterrupt
        return original(self, tick)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "one_epoch", die_in_second)
    assert command(tmp_path / "cut", "--epochs", "2") == 130
    monkeypatch.setattr(Trainer, "one_epoch", original)
    assert command(tmp_path / "cut", "--epochs", "2") == 0
    whole, cut = (load_file(tmp_path / d / NAME / f"{NAME}.safetensors") for d in ("whole", "cut"))
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_other_settings_do_not_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(tmp_path, "--epochs", "1") == 0
    assert command(tmp_path, "--epochs", "1", "--lr", "0.1") == 2
    assert "other settings (lr)" in capsys.readouterr().err


def test_loss_falls_on_a_few_images(tmp_path: Path) -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    labels = np.arange(32) % 2
    pixels = rng.integers(0, 60, size=(32, 3, 32, 32), dtype=np.uint8)
    pixels[labels == 1] += 150
    pictures = Pictures(pixels, labels.astype(np.int64))
    recipe = Recipe(epochs=8, batch_size=16, one_step=1.0, lr=3e-3)
    trainer = Trainer(
        load_model("spiliformer-tiny.digit-scenes"), recipe, pictures, pictures, tmp_path
    )
    trainer.fit(lambda step, steps, loss: None)
    assert trainer.log[-1]["loss"] < 0.5 * trainer.log[0]["loss"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epochs", "0"], "epochs must be at least 1"),
        (["--lr", "-1"], "lr must be positive"),
        (["--one-step", "2"], "one_step is a share"),
        (["--batch-size", "4000"], "batch size 4000 is larger"),
        (["--augment", "flipp"], "unknown augmentation 'flipp': did you mean 'flip'"),
        (["--dataset", "digit-scene"], "did you mean"),
        (["--device", "tpu"], "device 'tpu' is unknown"),
    ],
)
def test_bad_settings(
    tmp_path: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path, *arguments) == 2
    assert words in capsys.readouterr().err


def test_unwritable_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert command(tmp_path / "file", "--epochs", "1") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_augmentations_keep_shape_and_content() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, size=(16, 3, 32, 32), dtype=np.uint8)
    for name in ("shift", "flip", "cutout", "channels"):
        y = augment(x, [name], np.random.default_rng(1))
        assert y.shape == x.shape
        assert y.dtype == np.uint8
        assert not np.array_equal(x, y)
    mirrored = augment(x, ["flip"], np.random.default_rng(1))
    assert all(
        np.array_equal(a, b) or np.array_equal(a[..., ::-1], b)
        for a, b in zip(x, mirrored, strict=True)
    )
    permuted = augment(x, ["channels"], np.random.default_rng(1))
    assert np.array_equal(np.sort(x, axis=1), np.sort(permuted, axis=1))
