"""Adversarial training: what is crafted, how it grows, when it collapses, what is kept."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from robustbench_snn.adapter import ModelAdapter, load_model
from robustbench_snn.errors import UsageError
from robustbench_snn.train import main
from robustbench_snn.training import trainer as trainer_module
from robustbench_snn.training.adversarial import Adversarial
from robustbench_snn.training.crafting import craft
from robustbench_snn.training.monitor import collapsed
from robustbench_snn.training.pictures import Pictures
from robustbench_snn.training.recipe import Recipe
from robustbench_snn.training.recipe_file import read_recipe, shipped_recipes
from robustbench_snn.training.trainer import Trainer

NAME = "sdt-tiny.digit-scenes"
ATTACK = Adversarial(8 / 255)


@pytest.fixture
def model() -> ModelAdapter:
    return load_model(NAME)


def images(n: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, 32, 32, generator=generator), torch.arange(n) % 10


def test_crafted_images_stay_in_ball_and_range_and_leave_the_model_alone(
    model: ModelAdapter,
) -> None:
    x, y = images()
    model.unlock()
    before = {k: v.clone() for k, v in model.net.state_dict().items()}
    start = 2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) - 1
    for attack, steps in ((ATTACK, 1), (Adversarial(8 / 255, steps=3), 3)):
        for scale in (0.25, 1.0):
            moved = craft(model, x, y, attack, steps, scale, start)
            assert float((moved - x).abs().max()) <= scale * 8 / 255 + 1e-6
            assert 0 <= float(moved.min()) <= float(moved.max()) <= 1
    assert model.training
    assert all(torch.equal(before[k], v) for k, v in model.net.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_crafting_uses_running_statistics_and_the_trained_time_steps(model: ModelAdapter) -> None:
    x, y = images(4)
    model.unlock()
    model.time_steps = 1
    seen: list[tuple[bool, int]] = []

    def record(module: Any, inputs: tuple[Tensor, ...]) -> None:
        seen.append((module.training, inputs[0].shape[0]))

    handle = model.net.register_forward_pre_hook(record)
    craft(model, x, y, ATTACK, 1, 1.0, torch.zeros_like(x))
    handle.remove()
    assert seen
    assert set(seen) == {(False, 1)}


def test_a_step_raises_the_loss_and_trades_ascends_the_divergence(model: ModelAdapter) -> None:
    x, y = images()
    start = 2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) - 1
    moved = craft(model, x, y, Adversarial(2 / 255, start=0.0), 1, 1.0, start)
    loss = torch.nn.functional.cross_entropy
    with torch.no_grad():
        assert float(loss(model(moved), y)) > float(loss(model(x), y))
    trades = Adversarial(2 / 255, steps=3, loss="trades")
    apart = craft(model, x, y, trades, 3, 1.0, start)
    with torch.no_grad():
        p = model(x).log_softmax(1)
        near = model((x + 2 / 255 * start).clamp(0, 1)).log_softmax(1)
        far = model(apart).log_softmax(1)
    kl = partial(torch.nn.functional.kl_div, reduction="batchmean")
    assert float(kl(far, p, log_target=True)) > float(kl(near, p, log_target=True))


def test_step_sizes_and_ramp() -> None:
    assert ATTACK.size_of(1) == pytest.approx(10 / 255)
    assert ATTACK.size_of(5) == pytest.approx(4 / 255)
    assert Adversarial(8 / 255, steps=10, step_size=2 / 255).size_of(10) == 2 / 255
    shares = [ATTACK.share_at(epoch, 9) for epoch in range(9)]
    assert shares == pytest.approx([1 / 3, 2 / 3, *[1.0] * 7])
    assert Adversarial(8 / 255, ramp=0.0).share_at(0, 9) == 1.0


def row(epoch: int, fgsm: float, pgd: float, steps: int = 1) -> dict[str, Any]:
    return {"epoch": epoch, "monitor_fgsm": fgsm, "monitor_pgd": pgd, "attack_steps": steps}


def test_collapse_is_pgd_falling_while_fgsm_rises() -> None:
    good = [row(1, 0.3, 0.2), row(2, 0.4, 0.3)]
    assert collapsed([*good, row(3, 0.9, 0.02)]) == good[1]
    assert collapsed([*good, row(3, 0.2, 0.02)]) is None  # both fall: merely a bad epoch
    assert collapsed([*good, row(3, 0.9, 0.2)]) is None
    assert collapsed([*good, row(3, 0.9, 0.02, steps=3)]) is None
    assert collapsed(good[:1]) is None


def trainer(folder: Path, recipe: Recipe, start: int = 0) -> Trainer:
    rng = np.random.default_rng(start)
    labels = (np.arange(64) % 2).astype(np.int64)
    pixels = rng.integers(0, 120, size=(64, 3, 32, 32), dtype=np.uint8)
    pixels[labels == 1] += 100
    data = Pictures(pixels, labels)
    torch.manual_seed(0)
    return Trainer(load_model(NAME), recipe, data, data[:32], folder)


def quiet(step: int, steps: int, loss: Tensor) -> None:
    """Nothing is shown."""


@pytest.mark.parametrize(("fallback", "epochs"), [(2, 4), (0, 3)])
def test_a_collapse_restores_the_last_good_state_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fallback: int, epochs: int
) -> None:
    attack = Adversarial(2 / 255, ramp=0.0, fallback_steps=fallback)
    recipe = Recipe(epochs=4, batch_size=32, one_step=0.0, adversarial=attack, select="robust")
    told = iter([(0.5, 0.4), (0.6, 0.5), (0.9, 0.0), (0.6, 0.45)])
    monkeypatch.setattr(trainer_module, "robustness_of", lambda *_: next(told))
    made = trainer(tmp_path, recipe)
    states: list[dict[str, Tensor]] = []
    original = Trainer.save

    def save(self: Trainer) -> None:
        states.append({k: v.clone() for k, v in self.model.net.state_dict().items()})
        original(self)

    monkeypatch.setattr(Trainer, "save", save)
    made.fit(quiet)
    assert [entry["attack_steps"] for entry in made.log] == [1, 1, 1, fallback][:epochs]
    assert all(torch.equal(states[2][k], states[1][k]) for k in states[1])
    assert "epoch 3: catastrophic overfitting" in made.events[0]
    assert "state after epoch 2 is restored" in made.events[0]
    # Epoch 2 was the best under PGD, so it is what is kept.
    final = made.model.net.state_dict()
    assert made.selected == 2
    assert all(torch.equal(states[1][k], final[k]) for k in final)


def test_an_unwatched_collapse_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attack = Adversarial(2 / 255, ramp=0.0, watch=False)
    recipe = Recipe(epochs=2, batch_size=32, one_step=0.0, adversarial=attack)
    told = iter([(0.5, 0.4), (0.9, 0.0)])
    monkeypatch.setattr(trainer_module, "robustness_of", lambda *_: next(told))
    made = trainer(tmp_path, recipe)
    made.fit(quiet)
    assert made.events == []
    assert made.selected == 2


def test_only_epochs_at_the_final_time_steps_and_eps_are_selected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = Adversarial(2 / 255, ramp=1.0)
    recipe = Recipe(epochs=3, batch_size=32, one_step=0.4, adversarial=attack, select="robust")
    told = iter([(0.9, 0.9), (0.8, 0.8), (0.5, 0.5)])
    monkeypatch.setattr(trainer_module, "robustness_of", lambda *_: next(told))
    made = trainer(tmp_path, recipe)
    made.fit(quiet)
    assert made.selected == 3


@pytest.mark.parametrize(
    "extra",
    [
        {"adversarial": Adversarial(2 / 255, clean_share=0.5)},
        {"adversarial": Adversarial(2 / 255, steps=2, loss="trades")},
        {"parseval": 5e-4, "optimizer": "sgd", "lr": 0.05},
        {"ema": 0.5, "mixup": 0.5, "augment": ("erase",)},
        {"gradient_ratio": 1e-3},
    ],
    ids=["half clean", "trades", "parseval", "average", "gradient ratio"],
)
def test_every_kind_of_recipe_trains_and_resumes_to_the_same_weights(
    tmp_path: Path, extra: dict[str, Any]
) -> None:
    recipe = Recipe(**{"epochs": 2, "batch_size": 32, "one_step": 0.0, **extra})
    whole = trainer(tmp_path / "whole", recipe)
    whole.fit(quiet)
    first = trainer(tmp_path / "cut", recipe)

    class CutError(Exception):
        pass

    original = first.one_epoch

    def once(tick: Any) -> dict[str, Any]:
        if first.epoch == 1:
            raise CutError
        return original(tick)

    first.one_epoch = once  # type: ignore[method-assign]
    with pytest.raises(CutError):
        first.fit(quiet)
    second = trainer(tmp_path / "cut", recipe)
    assert second.resume()
    second.fit(quiet)
    a, b = whole.model.net.state_dict(), second.model.net.state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert whole.log[-1]["loss"] > 0


def test_shipped_recipes_state_the_published_settings() -> None:
    assert shipped_recipes() == ["pgd", "rat", "single-step", "trades"]
    rat = Recipe(**read_recipe("rat", NAME))
    assert (rat.epochs, rat.batch_size, rat.optimizer, rat.lr) == (200, 64, "sgd", 0.1)
    assert (rat.weight_decay, rat.final_lr, rat.parseval) == (0.0, 0.0, 5e-4)
    assert rat.adversarial is not None
    assert rat.adversarial.eps == pytest.approx(2 / 255)
    assert (rat.adversarial.steps, rat.adversarial.size_of(2)) == (2, pytest.approx(1 / 255))
    for name in shipped_recipes():
        Recipe(**read_recipe(name, NAME))


RECIPE = """
[[entry]]
model = "sdt-tiny-at8.digit-scenes"
[entry.recipe]
start = "sdt-tiny.digit-scenes"
epochs = 1
batch_size = 32
select = "robust"
[entry.recipe.adversarial]
eps = "8/255"
"""


def test_command_trains_from_given_weights_and_states_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = tmp_path / "list.toml"
    listed.write_text(RECIPE)
    name = "sdt-tiny-at8.digit-scenes"
    words = ["--model", name, "--recipe", str(listed), "--n", "64", "--threads", "1"]
    words += ["--one-step", "0", "--out", str(tmp_path / "runs")]
    assert main(words) == 0
    folder = tmp_path / "runs" / name
    card = json.loads((folder / f"{name}.json").read_text())
    assert card["start"]["model"] == NAME
    assert card["recipe"]["adversarial"]["eps"] == pytest.approx(8 / 255)
    assert card["selected_epoch"] == 1
    # One epoch of two steps is close to the start, and not equal to it.
    begun, ended = load_model(NAME).net.state_dict(), load_file(folder / f"{name}.safetensors")
    key = next(k for k in ended if k.endswith("conv.weight"))
    assert 0 < float((begun[key] - ended[key]).abs().max()) < 0.05
    logged = list(csv.DictReader((folder / "log.csv").open()))
    assert float(logged[0]["monitor_pgd"]) <= float(logged[0]["monitor_accuracy"])
    assert "PGD-10" in capsys.readouterr().out
    # Other weights to start from are another training.
    other = tmp_path / "other.safetensors"
    from safetensors.torch import save_file

    save_file({k: v * 1.01 if v.is_floating_point() else v for k, v in begun.items()}, other)
    assert main([*words, "--start-file", str(other)]) == 2
    assert "other data, code or weights (start)" in capsys.readouterr().err
    assert main([*words[:5], "32", *words[6:]]) == 2
    assert "other data, code or weights (n)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[adversarial]\neps = "8"', "8 grey levels are written 8/255"),
        ("[adversarial]\nsteps = 2", "needs eps"),
        ('[adversarial]\neps = "8/255"\nstep = 1', "did you mean 'steps'"),
        ("epoch = 3", "unknown setting 'epoch': did you mean 'epochs'"),
        ('epochs = "many"', "wrong type"),
        ('select = "robust"', "needs an adversary"),
        ('optimizer = "adam"', "optimizer 'adam' is unknown"),
        ("epochs = ", "no readable TOML file"),
        ('[[entry]]\nmodel = "other"', "has no entry for"),
        ('loss = "tet"', "needs logits of every time step"),
    ],
)
def test_wrong_recipes_are_one_sentence(
    tmp_path: Path, text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    out = ["--out", str(tmp_path / "runs"), "--n", "64", "--threads", "1"]
    assert main(["--model", NAME, "--recipe", str(path), *out]) == 2
    assert words in capsys.readouterr().err


def test_unknown_start_and_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--model", NAME, "--out", str(tmp_path), "--n", "64"]
    assert main([*out, "--recipe", "ratt"]) == 2
    assert "did you mean 'rat'" in capsys.readouterr().err
    assert main([*out, "--start", "qkformer-tiny.digit-scenes"]) == 2
    assert "does not fit model" in capsys.readouterr().err
    assert main([*out, "--start", "sdt-small.cifar100"]) == 2
    assert "comes without weights to start from" in capsys.readouterr().err


def test_two_processes_do_not_train_in_one_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from robustbench_snn.train import alone

    (tmp_path / NAME).mkdir()
    with alone(tmp_path / NAME), pytest.raises(UsageError, match="another process trains"):
        with alone(tmp_path / NAME):
            pass
