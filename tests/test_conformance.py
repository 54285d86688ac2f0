"""Every registered model passes the checks; adapters with the classic mistakes do not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from robustbench_snn.adapter import ModelAdapter, load_model
from robustbench_snn.card import Checkpoint, ModelCard, Reported
from robustbench_snn.catalogue import MODELS, model_card
from robustbench_snn.check import main
from robustbench_snn.conformance import clean_accuracy, conformance, preflight
from robustbench_snn.data import load_dataset
from robustbench_snn.errors import PreflightRefused
from robustbench_snn.registry import import_target

CARDS = [model_card(name) for name in MODELS.names()]
SHIPPED = [c.name for c in CARDS if c.checkpoint and not c.checkpoint.fetched]
# Of one published network's checkpoints the first stands for all: they are not at hand.
FETCHED = [c.name for c in CARDS if c.checkpoint and c.checkpoint.fetched]


def scenes(n: int) -> tuple[Tensor, Tensor]:
    batch = load_dataset("digit-scenes").batch(range(n))
    return torch.from_numpy(batch.x), torch.from_numpy(batch.y)


def noise(model: ModelAdapter) -> tuple[Tensor, Tensor]:
    # One time step and a small side: what is checked does not depend on either.
    model.time_steps = 1
    shape = list(model.card.input_shape)
    shape[-2:] = [32, 32]
    if len(shape) == 4:
        shape[0] = 2
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, *shape, generator=generator)
    return x, torch.zeros(2, dtype=torch.int64)


def opened(name: str) -> ModelAdapter:
    """The model, untrained where its weights would have to be fetched."""
    if name not in FETCHED:
        return load_model(name)
    entry = MODELS.get(name)
    model = import_target(entry.adapter)(replace(entry.card, checkpoint=None, reported=None))
    model.unlock(False)
    return model


def one_of_each_kind() -> list[object]:
    """All registered models; the default tier takes one of each family and of each data set."""
    seen: set[str] = set()
    found = []
    for name in [n for n in MODELS.names() if n not in FETCHED[1:]]:
        kinds = {name.partition("-")[0], model_card(name).dataset}
        found.append(pytest.param(name, marks=[pytest.mark.slow] if kinds <= seen else []))
        seen |= kinds
    return found


@pytest.mark.parametrize("name", one_of_each_kind())
def test_every_registered_model_conforms(name: str) -> None:
    model = opened(name)
    shipped = name in SHIPPED and model.card.dataset == "digit-scenes"
    x, y = scenes(64) if shipped else noise(model)
    with torch.no_grad():
        calibrate(model, x)
    failed = [f for f in conformance(model, x, y) if not f.passed]
    assert not failed


def calibrate(model: ModelAdapter, x: Tensor) -> None:
    """Give an untrained network batch statistics, without which deep layers stay silent."""
    if model.weights_sha256 != "untrained":
        return
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    model.unlock()
    model(x)
    model.unlock(False)


class Toy(ModelAdapter):
    card = ModelCard("toy.test", "digit-scenes", 10, (3, 32, 32), 2)

    def build(self) -> nn.Module:
        torch.manual_seed(0)
        return ToyNet()


class ToyNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 5, stride=4)
        self.bn = nn.BatchNorm2d(8)
        self.lif = neuron.LIFNode(tau=2.0, v_threshold=0.2, step_mode="m")
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x.flatten(0, 1)))
        return self.head(self.lif(y.view(*x.shape[:2], *y.shape[1:])).mean((-1, -2)))


class Forgetful(Toy):
    """Does not reset its neurons."""

    def prepare(self, x: Tensor) -> Tensor:
        return self.encode(self.normalise(x))


class Moving(Toy):
    """Lets libraries switch it to train mode."""

    def train(self, mode: bool = True) -> ModelAdapter:
        return nn.Module.train(self, mode)  # type: ignore[return-value]


class Masked(Toy):
    """Hides its gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.detach()) + 0 * x.sum()


class Mixing(Toy):
    """Lets batch mates influence each other."""

    def normalise(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class Private(Toy):
    """Its neuron ignores the surrogate that is installed, and reports none."""

    def spiking_units(self) -> dict[str, nn.Module]:
        return {}


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (Forgetful, "two calls equal"),
        (Moving, "stays in eval mode"),
        (Masked, "input gradient alive"),
        (Mixing, "batch of n equals n batches of 1"),
        (Private, "surrogate swap leaves logits"),
    ],
)
def test_each_mistake_is_found_by_its_check(kind: type[Toy], check: str) -> None:
    x, y = scenes(16)
    failed = {finding.name for finding in conformance(kind(), x, y) if not finding.passed}
    assert check in failed
    assert not [f for f in conformance(Toy(), x, y) if not f.passed]


def test_preflight_refuses_a_wrong_accuracy_claim() -> None:
    x, y = scenes(64)
    model = Toy()
    preflight(model, x, y)
    model.weights_sha256 = "0" * 64
    model.card = replace(
        model.card,
        reported=Reported(0.95, 1000, "a claim"),
        checkpoint=Checkpoint("package:toy.safetensors", "0" * 64),
    )
    with pytest.raises(
        PreflightRefused, match=r"wrong mean and std.*checkpoint of another variant"
    ):
        preflight(model, x, y)


def test_an_accuracy_without_a_hash_belongs_to_the_cards_own_source() -> None:
    x, y = scenes(64)
    model, source = Toy(), "hub:owner/name/toy.pth"
    model.card = replace(
        model.card, reported=Reported(0.95, 1000, "a claim"), checkpoint=Checkpoint(source)
    )
    model.weights_sha256, model.weights_source = "0" * 64, "/somewhere/own.pth"
    preflight(model, x, y)
    model.weights_source = source
    with pytest.raises(PreflightRefused, match="checkpoint of another variant"):
        preflight(model, x, y)


def test_a_lucky_sample_does_not_refuse_an_honest_model() -> None:
    # 108 of 128 right where the card says 75.17 %: one honest model in a hundred looks like this.
    model = Toy()
    model.weights_sha256 = "0" * 64
    card = replace(
        model.card,
        reported=Reported(0.7517, 10_000, "its training card"),
        checkpoint=Checkpoint("package:toy.safetensors", "0" * 64),
    )
    model.card = card
    x, _ = scenes(128)
    said = model(x).argmax(1)
    y = torch.where(torch.arange(128) < 108, said, (said + 1) % 10)
    assert clean_accuracy(model, x, y).passed
    model.card = replace(card, reported=Reported(0.5, 10_000, "its training card"))
    assert not clean_accuracy(model, x, y).passed


def test_check_command(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sdt-tiny.digit-scenes", "--n", "8"]) == 0
    assert "10 checks on 8 images of digit-scenes" in capsys.readouterr().out
    assert main(["sdt-tinny.digit-scenes"]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert main(["--n", "0"]) == 2
