"""The boundary: shapes, ranges, normalisation, reset, modes."""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn

from robustbench_snn.adapter import ModelAdapter, load_model
from robustbench_snn.card import ModelCard
from robustbench_snn.catalogue import load_plugin
from robustbench_snn.errors import UsageError

CARD = ModelCard(
    name="small.test",
    dataset="digit-scenes",
    num_classes=3,
    input_shape=(3, 8, 8),
    time_steps=4,
    mean=(0.5, 0.4, 0.3),
    std=(0.1, 0.2, 0.3),
)


class Small(ModelAdapter):
    """A stateful network of spikingjelly's own neuron."""

    card = CARD

    def build(self) -> nn.Module:
        torch.manual_seed(0)
        return Net()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.bn = nn.BatchNorm2d(8)
        self.lif = neuron.LIFNode(step_mode="m", surrogate_function=surrogate.Sigmoid())
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x.flatten(0, 1)))
        return self.head(self.lif(y.view(*x.shape[:2], *y.shape[1:])).mean((-1, -2)))


def images(n: int = 4) -> Tensor:
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_forward_normalises_resets_and_averages_over_time() -> None:
    model, x = Small(), images()
    model.net(x.expand(4, *x.shape))  # leaves charge behind, which forward must clear
    normalised = (x - model.mean) / model.std
    fresh = Small()
    expected = fresh.net(normalised.expand(4, *x.shape)).mean(0)
    assert torch.equal(model(x), expected)
    assert torch.equal(model(x), expected)


def test_train_stays_in_eval_until_unlocked() -> None:
    model = Small()
    model.train()
    assert not any(module.training for module in model.modules())
    model.unlock()
    assert model.net.bn.training
    assert all(p.requires_grad for p in model.parameters())
    model.unlock(False)
    assert not model.net.bn.training
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (images() * 4 - 2, r"got inputs in \[-\d\.\d\d, \d\.\d\d\]; adapters take \[0, 1\]"),
        (images().movedim(1, -1), "takes inputs"),
        (images()[0], "takes inputs"),
        (torch.full((1, 3, 8, 8), float("nan")), r"\[nan, nan\]"),
    ],
    ids=["normalised already", "channels last", "no batch", "nan"],
)
def test_wrong_inputs_get_one_sentence(x: Tensor, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        Small()(x)
    assert "\n" not in str(caught.value)


def test_trace_is_batch_first_and_leaves_no_hooks() -> None:
    model = Small()
    trace = model.forward_trace(images())
    assert list(trace.spikes) == ["lif"]
    assert trace.spikes["lif"][0].shape == (4, 4, 8, 6, 6)
    assert torch.equal(trace.logits, model(images()))
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("mode", ["per_sample", "official"])
@pytest.mark.parametrize("batch", [1, 3])
def test_trace_of_both_proj_lif_modes_has_one_shape(mode: str, batch: int) -> None:
    model = load_model("qkformer-tiny.digit-scenes", model_args={"ssa_proj_lif": mode})
    x = torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    spikes = model.forward_trace(x).spikes["stage3.1.ssa.proj_lif"][0]
    assert spikes.shape == (batch, model.time_steps, 64, 64)


def test_spiliformer_trace_has_both_passes() -> None:
    model = load_model("spiliformer-tiny.digit-scenes")
    trace = model.forward_trace(torch.rand(2, 3, 32, 32))
    assert len(trace.spikes["stage3.1.ssa.q_lif"]) == 2
    assert len(trace.spikes["patch_embed1.proj_lif"]) == 1


def test_event_frames_are_turned_time_first() -> None:
    model = load_model("qkformer-2-256.cifar10-dvs")
    x = torch.randint(0, 5, (1, 4, 2, 32, 32), generator=torch.Generator().manual_seed(0)).float()
    assert model.encode(x).shape == (4, 1, 2, 32, 32)
    assert model(x).shape == (1, 10)


def test_model_args_overrule_the_card_and_unknown_ones_are_refused() -> None:
    model = load_model("spiliformer-tiny.digit-scenes", model_args={"logits": "first"})
    assert model.net.logits == "first"
    assert '"logits":"first"' in model.config_json
    with pytest.raises(UsageError, match="cannot be built with"):
        load_model("spiliformer-tiny.digit-scenes", model_args={"logit": "first"})


def test_surrogate_is_named() -> None:
    assert load_model("sdt-tiny.digit-scenes").surrogate == "sigmoid(alpha=4)"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise RuntimeError('broken inside')", "failed while it was imported"),
        ("x = 1", "defines no subclass of ModelAdapter"),
        ("def broken(:", "failed while it was imported"),
    ],
)
def test_bad_plugins(tmp_path, text: str, words: str) -> None:
    file = tmp_path / "plugin.py"
    file.write_text(text)
    with pytest.raises(UsageError, match=words):
        load_plugin(str(file))
    with pytest.raises(UsageError, match="no such file"):
        load_plugin(str(tmp_path / "absent.py"))


class SingleStep(ModelAdapter):
    """Neurons that are called once a time step, as beginners write them, and a pass more."""

    card = ModelCard("single.test", "cifar10", 10, (3, 32, 32), 4)
    passes = 1

    def build(self) -> nn.Module:
        torch.manual_seed(0)
        conv, pool = nn.Conv2d(3, 8, 3, 2), nn.AdaptiveAvgPool2d(4)
        head = [nn.Flatten(), nn.Linear(128, 10)]
        return nn.Sequential(conv, neuron.LIFNode(), pool, *head)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.passes):
            steps = self.prepare(x)
            logits = self.readout(torch.stack([self.net(step) for step in steps]))
        return logits


@pytest.mark.parametrize("batch", [1, 4, 5])
@pytest.mark.parametrize("passes", [1, 2])
def test_trace_of_single_step_units_is_batch_first(batch: int, passes: int) -> None:
    model = SingleStep()
    model.passes = passes
    model.unlock(False)
    x = torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    trace = model.forward_trace(x)
    assert [tuple(v.shape) for v in trace.spikes["1"]] == [(batch, 4, 8, 15, 15)] * passes
    assert [tuple(v.shape) for v in trace.currents["1"]] == [(batch, 4, 8, 15, 15)] * passes
    for sample in range(batch):
        alone = model.forward_trace(x[sample : sample + 1])
        assert torch.equal(alone.spikes["1"][0][0], trace.spikes["1"][0][sample])


def test_trace_of_units_without_a_step_mode_that_return_their_state() -> None:
    class Leaky(nn.Module):
        surrogate_function = staticmethod(lambda u: (u >= 0).to(u.dtype))

        def forward(self, current: Tensor) -> tuple[Tensor, Tensor]:
            return self.surrogate_function(current), current

    class First(nn.Module):
        def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
            return pair[0]

    class Other(SingleStep):
        def build(self) -> nn.Module:
            return nn.Sequential(Leaky(), First(), nn.Flatten(), nn.Linear(3072, 10))

    trace = Other().forward_trace(torch.rand(3, 3, 32, 32))
    assert [tuple(v.shape) for v in trace.spikes["0"]] == [(3, 4, 3, 32, 32)]
