"""What goes wrong with a user's own model is told in one sentence, before a number is printed."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from robustbench_snn.adapter import ModelAdapter, load_model
from robustbench_snn.card import Checkpoint, ModelCard, Preprocess, Reported
from robustbench_snn.catalogue import MODELS, Entry, load_plugin
from robustbench_snn.check import main as check
from robustbench_snn.conformance import conformance, preflight
from robustbench_snn.data import load_dataset
from robustbench_snn.errors import PreflightRefused, UsageError
from robustbench_snn.registry import Registry
from robustbench_snn.run import main as run
from robustbench_snn.train import main as train

HEAD = """
import torch
from torch import nn
from robustbench_snn import Checkpoint, ModelAdapter, ModelCard

def card(name, **more):
    return ModelCard(name, "digit-scenes", 10, (3, 32, 32), 1, **more)

def net(classes=10, seed=1):
    torch.manual_seed(seed)
    layers = [nn.Flatten(), nn.Linear(3072, 16), nn.Tanh(), nn.Linear(16, classes)]
    return nn.Sequential(*layers)

class Base(ModelAdapter):
    def encode(self, x):
        return x
"""


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Registry[Entry]:
    """A catalogue that forgets what a test adds."""
    kept = dict(MODELS._targets)
    monkeypatch.setattr(MODELS, "_targets", kept)
    return MODELS


def plugin(folder: Path, body: str, name: str = "mine.py") -> str:
    path = folder / name
    path.write_text(HEAD + body)
    return str(path)


MISTAKES = {
    "a shipped name": (
        'class A(Base):\n    card = card("sdt-tiny.digit-scenes")\n'
        "    def build(self):\n        return net()\n",
        "'sdt-tiny.digit-scenes' is already registered by robustbench_snn.models.adapters",
    ),
    "an inherited card": (
        'class A(Base):\n    card = card("a.own")\n    def build(self):\n        return net()\n'
        "class B(A):\n    def build(self):\n        return net(seed=2)\n",
        "'B' names its model 'a.own', but that name is already registered by 'A'",
    ),
    "no build": ('class A(Base):\n    card = card("a.own")\n', "class 'A' has no build()"),
    "a card that cannot be": (
        'class A(Base):\n    card = card("a.own", mean=(0.5,) * 3, std=(0.2, 0.0, 0.2))\n',
        "card of 'a.own': std is (0.2, 0.0, 0.2), but must be above 0",
    ),
    "a name error": ("x = unknown\n", "mine.py, line 17 (x = unknown): NameError"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.usefixtures("models")
def test_a_plugin_that_cannot_be_used_is_refused(
    mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body, said = MISTAKES[mistake]
    words = ["--plugin", plugin(tmp_path, body), "--attack", "clean", "--n", "4"]
    for command in (run, check):
        assert command(words if command is run else words[:2]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        *_, line = captured.err.splitlines()
        assert said in line


@pytest.mark.usefixtures("models")
def test_a_base_class_may_hold_the_card_of_one_model(tmp_path: Path) -> None:
    body = """
class Half(Base):
    card = card("half.own")
class Whole(Half):
    def build(self):
        return net()
"""
    path = plugin(tmp_path, body)
    assert load_plugin(path) == ["half.own"]
    # The same file again, as workers and libraries do.
    assert load_plugin(path) == ["half.own"]
    assert type(load_model("half.own")).__name__ == "Whole"
    other = plugin(tmp_path, body, "other.py")
    with pytest.raises(UsageError, match=r"'half.own' is already registered by .*mine\.py"):
        load_plugin(other)


BUILDS = {
    "return nn.Linear('a', 2)": r"mine.py, line 20 \(return nn.Linear\('a', 2\)\): TypeError",
    "return None": "returns NoneType",
    "return net(bad=1)": r"line 20 \(return net\(bad=1\)\): TypeError",
}


@pytest.mark.parametrize("line", BUILDS)
@pytest.mark.usefixtures("models")
def test_an_exception_inside_build_shows_its_own_line(
    line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = f'class A(Base):\n    card = card("a.own")\n    def build(self):\n        {line}\n'
    path = plugin(tmp_path, body)
    for command, words in (
        (run, ["--model", "a.own", "--n", "4", "--quiet", "--out", str(tmp_path / "out")]),
        (check, ["a.own"]),
    ):
        assert command(["--plugin", path, *words]) == 2
        *_, said = capsys.readouterr().err.splitlines()
        assert re.search(BUILDS[line], said), said


class Plain(ModelAdapter):
    """Any function of the pixels as a model."""

    card = ModelCard("plain.test", "digit-scenes", 10, (3, 32, 32), 1)

    def build(self) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return x


def scenes(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    batch = load_dataset("digit-scenes").batch(range(n))
    return torch.from_numpy(batch.x), torch.from_numpy(batch.y)


def with_net(net: nn.Module) -> Plain:
    model = Plain()
    model.net = net
    return model.unlock(False)  # type: ignore[return-value]


@pytest.mark.parametrize("classes", [7, 12])
def test_the_number_of_logits_is_checked(classes: int) -> None:
    model = with_net(nn.Sequential(nn.Flatten(), nn.Linear(3072, classes)))
    x, y = scenes(4)
    said = f"network returns {classes} logits, the card says 10"
    with pytest.raises(UsageError, match=said):
        model(x)
    with pytest.raises(PreflightRefused, match=said):
        preflight(model, x, y)
    (finding,) = conformance(model, x, y)
    assert said in finding.verdict + finding.detail
    assert not finding.passed


def test_logits_of_another_shape_are_named() -> None:
    with pytest.raises(UsageError, match=r"returns \[4, 3, 32, 32\] for 4 images"):
        with_net(nn.Identity())(scenes(4)[0])


def test_a_dead_network_does_not_conform() -> None:
    model = with_net(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)))
    with torch.no_grad():
        model.net[1].weight.zero_()  # type: ignore[index]
    x, y = scenes(4)
    failed = [f for f in conformance(model, x, y) if not f.passed]
    assert "answers depend on the image" in [f.name for f in failed]
    assert all("FAIL (" in f.verdict for f in failed)
    # An image given twice says nothing.
    same = conformance(Plain().unlock(False), x[:1].repeat(2, 1, 1, 1), y[:2])
    assert not [f for f in same if not f.passed]
    model.weights_sha256 = "0" * 64
    with pytest.raises(PreflightRefused, match="no spike reaches the last layer"):
        preflight(model, x, y)


class Rates(nn.Module):
    """Numbers of spikes out of four over the classes, differentiable almost everywhere."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Linear(3072, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        smooth = torch.sigmoid(self.head(x.flatten(1)))
        spikes = (4 * smooth).round() / 4
        return self.scale * (smooth + (spikes - smooth).detach())


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(3072, 10), nn.Softmax(1)), "probabilities"),
        (Rates(1.0), "firing rates"),
        (Rates(4.0), "firing rates"),
        (nn.Sequential(nn.Flatten(), nn.Linear(3072, 10), nn.Sigmoid()), ""),
        (nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), ""),
    ],
)
def test_outputs_that_are_no_logits_are_told(net: nn.Module, said: str) -> None:
    model = with_net(net)
    model.time_steps = 4
    x, y = scenes(16)
    notes = preflight(model, x, y)
    assert [said in note for note in notes] == ([True] if said else [])
    (finding,) = [f for f in conformance(model, x, y) if f.name == "outputs are logits"]
    assert finding.passed
    assert finding.verdict.startswith("WARN (" if said else "PASS")


@pytest.mark.usefixtures("models")
def test_a_run_shows_the_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = """
class A(Base):
    card = card("soft.own")
    def build(self):
        return nn.Sequential(net(), nn.Softmax(1))
"""
    words = ["--plugin", plugin(tmp_path, body), "--model", "soft.own", "--attack", "clean"]
    assert run([*words, "--n", "8", "--device", "cpu", "--out", str(tmp_path / "out")]) == 0
    said = "note: model 'soft.own': outputs are logits: they look like probabilities"
    assert said in capsys.readouterr().err
    (tmp_path / "s.toml").write_text('[[step]]\nname = "noise"\ndraws = 1\n[probes]\nn = 0\n')
    suite = ["--suite", str(tmp_path / "s.toml"), "--n", "8", "--out", str(tmp_path / "new")]
    assert run([*words[:4], *suite, "--device", "cpu"]) == 0
    assert said in capsys.readouterr().err


LOADED = """
class A(Base):
    card = card("loaded.own", checkpoint=Checkpoint("build:my archive"{hash}))
    def build(self):
        return net()
"""


@pytest.mark.usefixtures("models")
def test_weights_that_build_loads_count_as_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = plugin(tmp_path, LOADED.format(hash=""))
    words = ["--plugin", path, "--model", "loaded.own", "--attack", "clean", "--n", "8"]
    assert run([*words, "--device", "cpu", "--out", str(tmp_path / "out")]) == 0
    assert "untrained" not in capsys.readouterr().out
    model = load_model("loaded.own")
    assert len(model.weights_sha256) == 64
    assert load_model("loaded.own").weights_sha256 == model.weights_sha256
    wrong = plugin(tmp_path, LOADED.format(hash=', "00"').replace("loaded", "other"), "other.py")
    load_plugin(wrong)
    with pytest.raises(UsageError, match=r"that build\(\) loads have sha256"):
        load_model("other.own")


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.usefixtures("models")
def test_weights_that_are_not_finite_are_named(tmp_path: Path, value: float) -> None:
    body = f"""
class A(Base):
    card = card("broken.own")
    def build(self):
        made = net()
        with torch.no_grad():
            made[1].bias[3] = {value!r}
        made.register_buffer("mask", torch.full((2,), float("-inf")))
        return made
""".replace("= nan", "= float('nan')").replace("= inf", "= float('inf')")
    load_plugin(plugin(tmp_path, body))
    with pytest.raises(UsageError, match=r"not finite: 1\.bias \(1 of 16\); the training"):
        load_model("broken.own")


CARDS = [
    ({"time_steps": 0}, "time_steps is 0"),
    ({"time_steps": True}, "time_steps is True"),
    ({"num_classes": "ten"}, "num_classes is 'ten'"),
    ({"std": (0.2, 0.2), "mean": (0.5, 0.5)}, "one number for each of 3 channels"),
    ({"mean": (0.5,) * 3}, "std is (), but must have one number"),
    ({"mean": 0.5}, "tuple of numbers"),
    ({"mean": (123.7,) * 3, "std": (58.4,) * 3}, "divide by 255"),
    ({"mean": (0.5,) * 3, "std": (0.2, math.nan, 0.2)}, "tuple of numbers"),
    ({"input_shape": (32, 32)}, "must be (C, H, W)"),
    ({"input_shape": (3, 32, 0)}, "whole numbers"),
    ({"max_value": -1.0}, "max_value is -1.0"),
    ({"name": ".."}, "name of a folder"),
    ({"name": "a/b"}, "name of a folder"),
    ({"name": "a\nb"}, "usable as the name"),
    ({"name": ""}, "must be a text"),
    ({"dataset": None}, "dataset is None"),
]


@pytest.mark.parametrize(("wrong", "said"), CARDS, ids=[said for _, said in CARDS])
def test_cards_are_validated(wrong: dict[str, object], said: str) -> None:
    right = {"name": "a.own", "dataset": "digit-scenes", "num_classes": 10}
    right |= {"input_shape": (3, 32, 32), "time_steps": 2}
    assert ModelCard(**right).num_classes == 10  # type: ignore[arg-type]
    with pytest.raises(UsageError) as error:
        ModelCard(**(right | wrong))  # type: ignore[arg-type]
    assert said in str(error.value)


def test_parts_of_cards_are_validated() -> None:
    with pytest.raises(UsageError, match=r"fraction in \[0, 1\]"):
        Reported(96.3, 10_000, "Table 2")
    with pytest.raises(UsageError, match="number of images"):
        Reported(0.963, 0, "Table 2")
    with pytest.raises(UsageError, match="resize is 0"):
        Preprocess(resize=0)
    with pytest.raises(UsageError, match="interpolation"):
        Preprocess(interpolation="cubic")  # type: ignore[arg-type]
    assert Checkpoint("build:my archive").sha256 is None


def test_inputs_of_another_kind_get_one_sentence() -> None:
    model, (x, _) = Plain(), scenes(2)
    with pytest.raises(UsageError, match=r"got float64 inputs and computes in float32"):
        model(x.double())
    with pytest.raises(UsageError, match="uint8 inputs"):
        model((255 * x).to(torch.uint8))
    with pytest.raises(UsageError, match="look like grey levels: divide them by 255"):
        model(255 * x)
    with pytest.raises(UsageError, match="Normalize"):
        model((x - 0.5) / 0.25)


@pytest.mark.usefixtures("models")
def test_an_exception_while_training_shows_its_own_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = """
class Net(nn.Module):
    def forward(self, x):
        return x.nonsense()

class A(Base):
    card = card("bad.own")
    def build(self):
        made = Net()
        made.weight = nn.Parameter(torch.zeros(1))
        return made
"""
    words = ["--plugin", plugin(tmp_path, body), "--model", "bad.own", "--n", "64"]
    assert train([*words, "--epochs", "1", "--out", str(tmp_path / "runs")]) == 2
    *_, said = capsys.readouterr().err.splitlines()
    assert "'bad.own' cannot be trained: mine.py, line 20 (return x.nonsense()): Attr" in said
