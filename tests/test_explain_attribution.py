"""Attributions through captum, Grad-CAM, infidelity and sensitivity."""

import numpy as np
import pytest
import torch
from captum.attr import Occlusion
from explain_nets import LinearAdapter, golden, lively, scenes
from spikingjelly.activation_based import neuron

from robustbench_snn import ModelAdapter, ModelCard, UsageError
from robustbench_snn.explain import attribute, grad_cam
from robustbench_snn.explain.attribution import (
    ResetSafe,
    Settings,
    infidelity_of,
    sensitivity_of,
    surrogate_gap,
)
from robustbench_snn.explain.kinds import REFUSED, map_kind, parse_maps

KINDS = (
    "saliency",
    "input_x_gradient",
    "integrated_gradients",
    "occlusion",
    "noise_tunnel",
    "grad_cam",
)
QUICK = Settings(steps=4, noise_samples=2, window=0.25)
IDS = ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def model():
    return lively("qkformer-tiny.digit-scenes")


@pytest.mark.parametrize("kind", KINDS)
def test_twice_equal_and_batch_equals_samples(model, kind):
    x, target = torch.from_numpy(scenes(side=16)), torch.arange(4)
    first = attribute(model, x, target, kind, IDS, settings=QUICK)
    second = attribute(model, x, target, kind, IDS, settings=QUICK)
    assert torch.equal(first, second)
    assert first.any()
    alone = torch.cat(
        [
            attribute(model, x[i : i + 1], target[i : i + 1], kind, IDS[i : i + 1], settings=QUICK)
            for i in (2, 3)
        ]
    )
    assert torch.allclose(first[2:], alone, rtol=1e-3, atol=1e-4 * float(first.abs().max()))


def test_linear_model_in_closed_form():
    model = LinearAdapter()
    x = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    target = torch.zeros(2, dtype=torch.int64)
    weights = model.net.scale.detach()
    by_pixel = x.mean(1) * weights
    expected = {
        "saliency": weights.expand(2, 4, 4),
        "input_x_gradient": by_pixel,
        "integrated_gradients": by_pixel,
        "noise_tunnel": weights.expand(2, 4, 4),
    }
    for kind, value in expected.items():
        found = attribute(model, x, target, kind, ["a", "b"], settings=Settings(noise=0.01))
        assert torch.allclose(found, value, atol=1e-5), kind
    gap = surrogate_gap(model, x, target, by_pixel[:, None])
    assert torch.allclose(gap, torch.zeros(2), atol=1e-5)
    occluded = attribute(model, x, target, "occlusion", ["a", "b"], settings=Settings(window=0.25))
    # A window of one pixel replaced by the mean colour.
    change = (x - x.mean((2, 3), keepdim=True)).mean(1) * weights
    assert torch.allclose(occluded, 3 * change, atol=1e-5)
    assert infidelity_of(model, x, target, by_pixel * 0 + weights, ["a", "b"]).max() < 1e-6
    assert infidelity_of(model, x, target, by_pixel * 0 + weights.flip(0), ["a", "b"]).min() > 1e-2


class Leaky(torch.nn.Module):
    """A neuron that keeps its membrane, as users' models do: [T, B, 3, 4, 4] to [B, 2]."""

    def __init__(self):
        super().__init__()
        self.fire = neuron.LIFNode(step_mode="m")
        self.head = torch.nn.Linear(48, 2)

    def forward(self, x):
        return self.head(self.fire(3 * x).flatten(2)).mean(0)


class LeakyAdapter(ModelAdapter):
    card = ModelCard("leaky.test", "digit-scenes", 2, (3, 4, 4), 3)

    def build(self):
        torch.manual_seed(0)
        return Leaky()


def test_wrapper_makes_captum_right_where_a_bare_network_is_wrong():
    model = LeakyAdapter()
    x = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    target = torch.zeros(2, dtype=torch.int64)

    def occlude(function):
        with torch.no_grad():
            return Occlusion(function).attribute(x, (3, 1, 1), target=target)

    safe = ResetSafe(model)
    assert torch.equal(occlude(safe), occlude(safe))
    bare = lambda x: model.net(model.encode(x))  # noqa: E731
    assert not torch.allclose(occlude(bare), occlude(safe), atol=1e-3)
    assert isinstance(model.net.fire.v, float)  # nothing left behind by the wrapper's last call


def test_wrapper_keeps_eval_mode_and_takes_noise_outside_the_range():
    model = LinearAdapter()
    model.train()
    assert not model.training
    wrapped = ResetSafe(model)
    x = torch.full((1, 3, 4, 4), 1.5)
    assert torch.equal(wrapped(x), wrapped(torch.ones_like(x)))


def test_grad_cam_on_a_spiking_layer_by_its_definition():
    model, content = golden("sdt_cifar")
    x, target = content["input"], content["labels"]
    block = model.net.block[1].attn
    seen = {}

    def hook(module, inputs, output):
        output.retain_grad()
        seen["a"] = output

    handle = block.register_forward_hook(hook)
    logits = model(x.clone().requires_grad_())
    handle.remove()
    logits.gather(1, target[:, None]).sum().backward()
    a, g = seen["a"].detach(), seen["a"].grad
    weight = g.mean((3, 4), keepdim=True)
    expected = (weight * a).sum((0, 2)).clamp_min(0)
    found = grad_cam(model, x, target)
    assert found.shape == (3, 8, 8)
    assert found.any()
    assert torch.allclose(found, expected, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(grad_cam(model, x, target), found)


def test_sensitivity_of_constant_and_changing_maps():
    x = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    ids = ["a", "b"]
    assert sensitivity_of(lambda im: torch.ones(len(im), 2, 2), x, ids).tolist() == [0, 0]
    moved = sensitivity_of(lambda im: im.mean(1), x, ids, radius=0.02)
    assert (moved > 0).all()
    assert (moved < 0.1).all()
    assert torch.equal(moved, sensitivity_of(lambda im: im.mean(1), x, ids, radius=0.02))
    swapped = sensitivity_of(lambda im: im.mean(1), x.flip(0), ids[::-1], radius=0.02)
    assert torch.equal(moved, swapped.flip(0))


@pytest.mark.parametrize(
    "name", ["DeepLift", "guided-backprop", "Deconvolution", "lrp", "LayerGradCam", "rollout"]
)
def test_methods_that_would_mislead_are_refused_with_the_reason(name):
    with pytest.raises(UsageError, match=r"is not offered: it .*: use "):
        map_kind(name)
    assert len(REFUSED) == 6


def test_names_of_maps():
    assert parse_maps(["rate,class", "rate"]) == ("rate", "class")
    assert "grad_cam" in parse_maps(["all"])
    assert map_kind("Integrated-Gradients").class_specific
    with pytest.raises(UsageError, match=r"unknown map 'rats': did you mean 'rate'"):
        parse_maps(["rats"])
    with pytest.raises(UsageError, match="no map was named"):
        parse_maps([","])


def test_attribution_refuses_what_it_cannot_do():
    model, content = golden("sdt_dvs")
    with pytest.raises(UsageError, match="takes event frames"):
        attribute(model, content["input"], content["labels"], "saliency", IDS[:3])
    with pytest.raises(UsageError, match="read from spikes"):
        attribute(model, content["input"], content["labels"], "rate", IDS[:3])


def test_random_numbers_of_the_caller_are_left_alone(model):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    x = torch.from_numpy(scenes(1))
    attribute(model, x, torch.zeros(1, dtype=torch.int64), "noise_tunnel", ["a"], settings=QUICK)
    assert torch.equal(torch.rand(1), expected)
    assert np.isfinite(scenes(1)).all()


class Split(ModelAdapter):
    """A logit that weighs each pixel by a number of its own, so its gradient is known."""

    card = ModelCard("split.test", "cifar10", 2, (3, 8, 8), 1)

    def build(self):
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2))

    def encode(self, x):
        return x

    def readout(self, output):
        return output


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_saturated_pixels_keep_their_gradient_under_noise(value):
    model = Split()
    model.unlock(False)
    x = torch.full((2, 3, 8, 8), value)
    found = attribute(model, x, torch.tensor([0, 1]), "noise_tunnel", ["a", "b"])
    # Saliency of a linear logit is the size of its weights, wherever it is asked.
    expected = model.net[1].weight.detach().abs().view(2, 3, 8, 8).sum(1)
    assert torch.allclose(found, expected, rtol=1e-5)
    wrapped = ResetSafe(model)
    outside = x + torch.where(x > 0.5, 0.3, -0.3)
    assert torch.equal(wrapped(outside), wrapped(x)), "the value is that of the clamped image"
