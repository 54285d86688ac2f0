"""Training: it learns, resumes to the same weights, and refuses what cannot work."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import robustbench_snn.train as train_module
from robustbench_snn.adapter import load_model
from robustbench_snn.data import load_dataset
from robustbench_snn.errors import UsageError
from robustbench_snn.report.training_curves import TrainingCurves
from robustbench_snn.train import main
from robustbench_snn.training.augment import AUGMENTS, augment
from robustbench_snn.training.monitor import accuracy_of
from robustbench_snn.training.pictures import Pictures, resized
from robustbench_snn.training.recipe import AUGMENTATION_NAMES, Recipe, recipe_from
from robustbench_snn.training.trainer import Trainer
from robustbench_snn.weights import file_sha256

SHIPPED = Path(train_module.__file__).parent / "checkpoints"
NAME = "sdt-tiny.digit-scenes"
QUICK = ["--n", "192", "--batch-size", "32", "--one-step", "0.5", "--threads", "1"]


def command(out: Path, *more: str) -> int:
    return main(["--model", NAME, "--out", str(out), *QUICK, *more])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two epochs leave behind."""
    out = tmp_path_factory.mktemp("trained")
    assert command(out, "--epochs", "2") == 0
    return out


def test_card_log_and_weights(trained: Path) -> None:
    folder = trained / NAME
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


def test_interrupted_training_ends_in_the_same_weights(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    original = Trainer.one_epoch

    def die_in_second(self: Trainer, tick: object) -> tuple[float, float]:
        if self.epoch == 1:
            raise KeyboardInterrupt
        return original(self, tick)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "one_epoch", die_in_second)
    assert command(tmp_path / "cut", "--epochs", "2") == 130
    monkeypatch.setattr(Trainer, "one_epoch", original)
    assert command(tmp_path / "cut", "--epochs", "2") == 0
    assert "clean accuracy" in capsys.readouterr().out
    folders = (trained, tmp_path / "cut")
    whole, cut = (load_file(folder / NAME / f"{NAME}.safetensors") for folder in folders)
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_other_settings_do_not_resume(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    assert command(tmp_path, "--epochs", "2", "--lr", "0.1") == 2
    assert "other settings (lr)" in capsys.readouterr().err


def test_a_damaged_state_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "checkpoint.pt").write_text("cut off")
    assert command(tmp_path, "--epochs", "1") == 2
    assert "no readable training state" in capsys.readouterr().err


@pytest.mark.slow
def test_half_writes_and_measures_rounded_weights(tmp_path: Path) -> None:
    assert command(tmp_path, "--epochs", "1", "--half") == 0
    path = tmp_path / NAME / f"{NAME}.safetensors"
    kinds = {(v.dim() > 1, v.dtype) for v in load_file(path).values() if v.is_floating_point()}
    assert kinds == {(True, torch.float16), (False, torch.float32)}
    model, test = load_model(NAME, weights=str(path)), load_dataset("digit-scenes", "test")
    card = json.loads((tmp_path / NAME / f"{NAME}.json").read_text())
    found = accuracy_of(model, Pictures(*test.arrays()))
    assert float(found.mean()) == card["clean"]["accuracy"]


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
        (["--sides", "16"], "is not SIDE:SHARE"),
        (["--sides", "15:0.5"], "divisible by 4"),
        (["--sides", "16:0.7,24:0.7"], "shares of at most 1"),
        (["--augment", "flipp"], "unknown augmentation 'flipp': did you mean 'flip'"),
        (["--lr", "inf"], "lr must be positive"),
        (["--weight-decay", "-1"], "weight_decay must be at least 0"),
        (["--seed", "-1"], "seed must be at least 0"),
        (["--n", "-5"], "--n '-5' is not a whole number of at least 1"),
        (["--threads", "0"], "--threads '0' is not a whole number"),
        (["--dataset", "digit-scene"], "did you mean"),
        (["--device", "tpu"], "device 'tpu' is unknown"),
    ],
)
def test_bad_settings(
    tmp_path: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path, *arguments) == 2
    assert words in capsys.readouterr().err


def test_a_wrong_augmentation_is_told_before_anything_is_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_module, "run", lambda *_: pytest.fail("data were opened"))
    assert command(tmp_path, "--augment", "bogus") == 2
    assert "known: shift, crop, flip, cutout, channels" in capsys.readouterr().err
    assert list(AUGMENTS) == list(AUGMENTATION_NAMES)


def test_every_option_is_explained() -> None:
    for action in train_module.parser()._actions:
        assert action.help, action.dest


def test_unwritable_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert command(tmp_path / "file", "--epochs", "1") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_augmentations_keep_shape_and_content() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, size=(16, 3, 32, 32), dtype=np.uint8)
    for name in ("shift", "flip", "cutout", "channels", "erase"):
        y = augment(x, [name], np.random.default_rng(1))
        assert y.shape == x.shape
        assert y.dtype == np.uint8
        assert not np.array_equal(x, y)
    window = augment(x, ["crop"], np.random.default_rng(1))
    assert window.shape == (16, 3, 28, 28)
    places = np.lib.stride_tricks.sliding_window_view(x[0], (28, 28), axis=(1, 2))
    assert (places == window[0][:, None, None]).all(axis=(0, 3, 4)).any()
    mirrored = augment(x, ["flip"], np.random.default_rng(1))
    assert all(
        np.array_equal(a, b) or np.array_equal(a[..., ::-1], b)
        for a, b in zip(x, mirrored, strict=True)
    )
    permuted = augment(x, ["channels"], np.random.default_rng(1))
    assert np.array_equal(np.sort(x, axis=1), np.sort(permuted, axis=1))


@pytest.mark.slow
def test_first_epochs_see_smaller_images(tmp_path: Path) -> None:
    recipe = Recipe(epochs=8, sides=((16, 0.25), (24, 0.5)))
    assert [recipe.side_at(epoch) for epoch in range(8)] == [16] * 2 + [24] * 4 + [None] * 2
    assert recipe_from(json.loads(json.dumps(recipe.facts()))) == recipe
    assert command(tmp_path, "--epochs", "2", "--sides", "16:0.5", "--augment", "crop") == 0
    rows = list(csv.DictReader((tmp_path / NAME / "log.csv").open()))
    assert [row["side"] for row in rows] == ["16", "28"]
    assert all(float(row["cpu_seconds"]) > 0 for row in rows)


def test_resized_images_keep_range_and_mean() -> None:
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    small = resized(x, 16)
    assert small.shape == (2, 3, 16, 16)
    assert 0 <= float(small.min()) <= float(small.max()) <= 1
    assert torch.allclose(small.mean((2, 3)), x.mean((2, 3)), atol=0.02)
    assert resized(x, None) is x


def test_curves_come_from_logs_and_cards(tmp_path: Path) -> None:
    curves = TrainingCurves.load(SHIPPED, "digit-scenes")
    assert {point["model"] for point in curves.points()} == set(curves.cards)
    paths = curves.write(tmp_path)
    assert all(path.stat().st_size > 500 for path in paths)
    with pytest.raises(UsageError, match="no training log"):
        TrainingCurves.load(tmp_path, "cifar100")


@pytest.mark.parametrize(
    ("pattern", "spread", "mebibytes"),
    [("*-small.cifar10.json", 1.1, 7.6), ("*-[24]-*.cifar10.json", 1.6, 20)],
)
def test_shipped_cifar10_models_are_comparable(
    pattern: str, spread: float, mebibytes: float
) -> None:
    cards = [json.loads(path.read_text()) for path in SHIPPED.glob(pattern)]
    assert len(cards) == 3
    assert max(c["parameters"] for c in cards) <= spread * min(c["parameters"] for c in cards)
    for card in cards:
        weights = SHIPPED / f"{card['name']}.safetensors"
        assert weights.stat().st_size <= mebibytes * 2**20
        assert file_sha256(weights) == card["sha256"]
        assert card["clean"]["accuracy"] >= 0.75
        assert card["clean"]["n"] == 10_000
    same = [(c["recipe"], c["data"], c["training_images"], c["time_steps"]) for c in cards]
    assert same[0] == same[1] == same[2]
