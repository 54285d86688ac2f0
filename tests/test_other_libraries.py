"""Networks of snnTorch, sinabs and norse: the adapters of the documentation, and what is done to
their neurons. Where a library is absent its neurons are stood in for."""

from __future__ import annotations

import importlib
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.attacks.base import cross_entropy_gradient
from robustbench_snn.card import ModelCard
from robustbench_snn.catalogue import MODELS, load_plugin
from robustbench_snn.conformance import conformance, preflight
from robustbench_snn.data import load_dataset
from robustbench_snn.diagnostics.health import gradient_health
from robustbench_snn.estimators import NotApplicable
from robustbench_snn.estimators.install import installed, not_applicable
from robustbench_snn.estimators.libraries import library_of, reset_state, surrogate_of
from robustbench_snn.registry import import_target
from robustbench_snn.run import main as run

DOCS = (Path(__file__).parents[1] / "docs" / "other_libraries.md").read_text()
ADAPTERS = re.findall(r"```python\n(.*?)```", DOCS, re.S)
SURROGATES = {
    "snntorch": "atan(alpha=2)",
    "sinabs": "singleexponential(grad_width=0.5, grad_scale=1)",
    "norse": "super(alpha=10)",
    "control": "none",
}
SUITE = """
needs_spikes = {spikes}
[screen]
n = 8
steps = 1
keep = 1
estimators = ["training", "atan:2", "ste"]
[[step]]
name = "apgd"
steps = 2
estimator = ["training", "assg", "bptr"]
[[step]]
name = "apgd"
steps = 2
estimator = "screen:1"
[probes]
n = 0
"""


@pytest.fixture(params=SURROGATES)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A library that is installed, with a catalogue that forgets what the test adds."""
    name = str(request.param)
    if name != "control":
        pytest.importorskip("norse.torch" if name == "norse" else name)
    monkeypatch.setattr(MODELS, "_targets", dict(MODELS._targets))
    return name


def documented(name: str, folder: Path) -> str:
    """The adapter of the documentation in a file of its own."""
    (text,) = [text for text in ADAPTERS if f'ModelCard("{name}.' in text]
    path = folder / f"{name}_model.py"
    path.write_text(text)
    return str(path)


def scenes(n: int) -> tuple[Tensor, Tensor]:
    batch = load_dataset("digit-scenes").batch(range(n))
    return torch.from_numpy(batch.x), torch.from_numpy(batch.y)


def test_the_documentation_has_an_adapter_for_each_in_25_lines() -> None:
    assert len(ADAPTERS) == len(SURROGATES)
    assert max(len(text.splitlines()) for text in ADAPTERS) <= 25
    for text in SURROGATES.values():
        assert f"`{text.replace('=10)', '=100)')}`" in DOCS


def test_adapters_conform_and_their_surrogates_are_shown(library: str, tmp_path: Path) -> None:
    (name,) = load_plugin(documented(library, tmp_path))
    model = import_class(name)()
    model.unlock(False)
    x, y = scenes(16)
    assert not [f for f in conformance(model, x, y) if not f.passed]
    assert preflight(model, x, y) == []
    assert model.surrogate == SURROGATES[library]
    health = gradient_health(model, x, y)
    assert bool(health) == (library != "control")
    assert all(0 <= unit.rate <= 1 for unit in health if library != "sinabs")


def import_class(name: str) -> type[ModelAdapter]:
    adapter = MODELS.get(name).adapter
    found: type[ModelAdapter] = import_target(adapter) if isinstance(adapter, str) else adapter
    return found


def test_suites_run_where_neurons_allow_it(
    library: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = documented(library, tmp_path)
    (tmp_path / "s.toml").write_text(SUITE.format(spikes=str(library != "control").lower()))
    words = ["--suite", str(tmp_path / "s.toml"), "--plugin", path, "--n", "12", "--device", "cpu"]
    # Untrained, it calls every scene the same, which is right once in ten; that one must survive.
    words += ["--eps", "0.01/255"]
    model = f"{library}.digit-scenes"
    assert run([*words, "--model", model, "--out", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    said = captured.out + captured.err
    # Who takes which: the screen's candidates, adaptive slopes, backward passes of whole neurons.
    assert ("neurons of norse leave no place" in said) == (library == "norse")
    assert ("no spiking units" in said) == (library == "control")
    assert ("backwards in time" in said) == (library == "sinabs")
    assert ("it needs multi-step neurons" in said) == (library not in ("control",))
    assert re.search(r"\| apgd ce assg\S* +\| +1 \|", captured.out) or library != "snntorch"


class SnnTorchLike(nn.Module):
    """A leaky neuron with snnTorch's attributes: state in a buffer, reset by a second question."""

    def __init__(self, alpha: float = 2.0) -> None:
        super().__init__()
        self.spike_grad = arctangent(alpha)
        self.inhibition = False
        self.asked = 0
        self.register_buffer("mem", torch.zeros(0), persistent=False)

    def fire(self, mem: Tensor) -> Tensor:
        self.asked += 1
        return self.spike_grad(mem - 0.3)

    def forward(self, x: Tensor) -> Tensor:
        if self.mem.shape != x.shape:
            self.mem = torch.zeros_like(x)
        self.reset = self.spike_grad(self.mem - 0.3).clone().detach()
        self.mem = 0.9 * self.mem + x - 0.3 * self.reset
        return self.fire(self.mem)


class Arctangent(torch.autograd.Function):
    """Fires above 0; the slope of snnTorch's documentation, with alpha."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, alpha: float) -> Tensor:
        ctx.save_for_backward(u)
        ctx.alpha = alpha
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (u,) = ctx.saved_tensors
        return grads[0] * ctx.alpha / 2 / (1 + (math.pi / 2 * ctx.alpha * u) ** 2), None


def arctangent(alpha: float) -> Any:
    def inner(u: Tensor) -> Any:
        return Arctangent.apply(u, alpha)

    return inner


class StoodIn(ModelAdapter):
    """The documentation's snnTorch adapter around the neuron above."""

    card = ModelCard("stood-in.test", "digit-scenes", 10, (3, 32, 32), 3)

    def build(self) -> nn.Module:
        torch.manual_seed(0)
        return nn.ModuleList([nn.Conv2d(3, 16, 5, 4), SnnTorchLike(), nn.Linear(16 * 49, 10)])

    def forward(self, x: Tensor) -> Tensor:
        conv, spikes, head = self.net  # type: ignore[misc]
        steps = [head(spikes(conv(frame)).flatten(1)) for frame in self.prepare(x)]
        return torch.stack(steps).mean(0)


def test_state_in_buffers_is_reset_and_no_mistake() -> None:
    model, (x, y) = StoodIn(), scenes(8)
    model.unlock(False)
    assert not [f for f in conformance(model, x, y) if not f.passed]
    (found,) = [f for f in conformance(model, x, y) if f.name == "stays in eval mode"]
    assert "0 buffers moved" in found.detail
    unit = model.net[1]  # type: ignore[index]
    assert unit.mem.shape[0] > 0
    reset_state(model.net)
    assert unit.mem.shape == (0,)
    # Without the reset a second image finds what the first has left.
    forgetful = StoodIn()
    forgetful.prepare = lambda x: forgetful.encode(x)  # type: ignore[method-assign]
    failed = {f.name for f in conformance(forgetful, x, y) if not f.passed}
    assert "two calls equal" in failed


def test_a_buffer_that_moves_elsewhere_is_named() -> None:
    class Counts(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(x)

    model, (x, y) = StoodIn(), scenes(8)
    counting = Counts(3, 16, 5, 4)
    counting.register_buffer("calls", torch.zeros(1))
    model.net[0] = counting  # type: ignore[index,operator]
    model.unlock(False)
    (found,) = [f for f in conformance(model, x, y) if not f.passed]
    assert "1 buffers moved (0.calls)" in found.detail


def test_estimators_replace_the_slope_where_a_neuron_fires() -> None:
    """The neuron's own arctangent as an estimator gives its own gradient; others do not."""
    model, (x, y) = StoodIn(), scenes(8)
    model.unlock(False)
    own = cross_entropy_gradient(model, x, y)
    unit = model.net[1]  # type: ignore[index]
    held = unit.spike_grad
    with installed(model, "atan:alpha=2", x) as active:
        assert active.units == 1
        torch.testing.assert_close(cross_entropy_gradient(model, x, y), own)
    with installed(model, "atan:alpha=8", x):
        other = cross_entropy_gradient(model, x, y)
    assert not torch.allclose(other, own)
    unit.spike_grad = arctangent(8.0)
    torch.testing.assert_close(cross_entropy_gradient(model, x, y), other)
    unit.spike_grad = held
    assert "fire" not in unit.__dict__
    assert torch.equal(cross_entropy_gradient(model, x, y), own)


def test_adaptive_estimators_see_each_time_step_once() -> None:
    model, (x, y) = StoodIn(), scenes(4)
    model.unlock(False)
    with installed(model, "assg", x) as active:
        active.restart()
        cross_entropy_gradient(model, x, y)
        (slope,) = active._slopes
        assert sorted(slope._seen) == [0, 1, 2]  # type: ignore[attr-defined]


def test_what_a_library_leaves_no_place_for_is_told() -> None:
    model, (x, _) = StoodIn(), scenes(2)
    unit = model.net[1]  # type: ignore[index]
    assert "takes single steps" in not_applicable(model, "bptr", x)
    unit.inhibition = True
    with pytest.raises(NotApplicable, match="inhibit each other"), installed(model, "ste"):
        pytest.fail("installed")
    del unit.spike_grad
    unit.p = SimpleNamespace(method="super", alpha=torch.tensor(100.0))
    assert (library_of(unit), surrogate_of(unit)) == ("norse", "super(alpha=100)")
    with pytest.raises(NotApplicable, match="norse leave no place"), installed(model, "ste"):
        pytest.fail("installed")


def test_slopes_of_sinabs_are_its_own_where_they_are_the_same() -> None:
    pytest.importorskip("sinabs")
    layers: Any = importlib.import_module("sinabs.layers")
    unit = layers.LIF(tau_mem=10.0, spike_threshold=torch.tensor(0.5))
    net = nn.Sequential(unit)
    x = torch.linspace(0, 1, 24).view(2, 4, 3).requires_grad_()
    (own,) = torch.autograd.grad(unit(x).sum(), x)
    reset_state(net)
    # Its default: exp(-|v - 0.5| / w) / w with w half the threshold.
    with installed(net, "exp:beta=4:scale=4"):
        (same,) = torch.autograd.grad(net(x).sum(), x)
    torch.testing.assert_close(same, own)
    reset_state(net)
    with installed(net, "ste"):
        (other,) = torch.autograd.grad(net(x).sum(), x)
    assert not torch.allclose(other, own)
    with pytest.raises(NotApplicable, match="backwards in time"), installed(net, "assg"):
        pytest.fail("installed")
