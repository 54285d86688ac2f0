"""Gradient estimators: formulas against hand computation, gates, restoration, the fused path."""

import math

import pytest
import torch
from attack_nets import conv_net, images, spiking_net
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import nn

from robustbench_snn import load_model
from robustbench_snn.errors import UsageError
from robustbench_snn.estimators import ESTIMATORS, estimator_name
from robustbench_snn.estimators.install import installed, not_applicable, spiking_units
from robustbench_snn.models.neuron import LIF

SWAPS = ["atan", "sigmoid:2", "triangle", "rect", "exp", "exp:scale=0.3", "ste", "assg", "pdsg"]
WHOLE = ["bptr", "rga", "hart"]


class OneNeuron(nn.Module):
    """x [B, 1] * weights over time -> mean spike: small enough to do by hand."""

    def __init__(self, unit=None, weights=(1.0, 1.0, 1.0)):
        super().__init__()
        self.unit = unit or LIF(0.5)
        self.weights = torch.tensor(weights)

    def forward(self, x):
        functional.reset_net(self)
        return self.unit(self.weights.view(-1, 1, 1) * x).sum(0)


def gradient(net, x, estimator, repeats=1, restart=False):
    with installed(net, estimator, x) as active:
        for _ in range(repeats):
            point = x.clone().requires_grad_()
            found = torch.autograd.grad(net(point).sum(), point)[0]
            if restart:
                active.restart()
    return found


def by_hand(x, slope, weights=(1.0, 1.0, 1.0), th=0.5, tau=2.0):
    """Spikes and d(sum of spikes)/dx of a LIF: h = v + (w x - v) / tau, v = h (1 - s)."""
    v, dv, total, spikes = 0.0, 0.0, 0.0, []
    for t, w in enumerate(weights):
        h, dh = v + (w * x - v) / tau, dv + (w - dv) / tau
        s = float(h >= th)
        total += slope(h - th, t) * dh
        v, dv = h * (1 - s), dh * (1 - s)
        spikes.append(s)
    return spikes, total


FORMULAS = {
    "atan:2": lambda u: 1.0 / (1 + (math.pi * u) ** 2),
    "sigmoid:4": lambda u: 4 / (1 + math.exp(-4 * u)) * (1 - 1 / (1 + math.exp(-4 * u))),
    "triangle:0.5": lambda u: max(0.0, 0.5 - abs(u)) / 0.25,
    "rect:0.5": lambda u: 2.0 if abs(u) < 0.25 else 0.0,
    "exp:beta=2:scale=0.3": lambda u: 0.3 * math.exp(-2 * abs(u)),
    "ste": lambda u: 1.0,
}


@pytest.mark.parametrize("estimator", FORMULAS)
@pytest.mark.parametrize("x", [0.3, 0.8, 1.2])
def test_fixed_slopes_by_hand(estimator, x):
    _, expected = by_hand(x, lambda u, t: FORMULAS[estimator](u))
    found = gradient(OneNeuron(), torch.tensor([[x]]), estimator)
    assert found.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("target", [0.35, 0.425])
def test_assg_by_hand_over_two_iterations(target):
    """M and D per time step, updated before use, carried from one forward pass to the next."""
    x, beta, relax = 0.8, 0.9, 1.5
    a = 2 / math.pi * math.tan(math.pi * target)
    seen = {t: (1.0, 0.0) for t in range(3)}

    def slope(u, t):
        m, d = seen[t]
        m = beta * m + (1 - beta) * abs(u)
        d = beta * d + (1 - beta) * abs(abs(u) - m)
        seen[t] = m, d
        alpha = a / (m + relax * d + 1e-4)
        return alpha / 2 / (1 + (math.pi / 2 * alpha * u) ** 2)

    for repeats in (1, 2):
        _, expected = by_hand(x, slope)
        found = gradient(OneNeuron(), torch.tensor([[x]]), f"assg:{target}", repeats=repeats)
        assert found.item() == pytest.approx(expected, abs=1e-6)
    again = gradient(OneNeuron(), torch.tensor([[x]]), f"assg:{target}", repeats=2, restart=True)
    seen = {t: (1.0, 0.0) for t in range(3)}
    assert again.item() == pytest.approx(by_hand(x, slope)[1], abs=1e-6)


def test_assg_published_constants():
    for target, sharpness in [(0.425, 2.65), (0.435, 3.07), (0.35, 1.25), (0.49, 20.3)]:
        assert 2 / math.pi * math.tan(math.pi * target) == pytest.approx(sharpness, rel=5e-3)
        from robustbench_snn.estimators.adaptive import AdaptiveSharpness

        made = AdaptiveSharpness(target, 1.5, 0.9)
        assert made.sharpness == pytest.approx(sharpness, rel=5e-3)


@pytest.mark.parametrize("over", ["sample", "batch"])
def test_pdsg_by_hand(over):
    """Two samples of two features; sigma over time (and features, or the batch), shift sigma/2."""
    x = torch.tensor([[0.3, 0.9], [1.2, 0.5]])
    weights = (1.0, 1.5)
    h = torch.zeros(2, 2, 2)
    v = torch.zeros(2, 2)
    for t, w in enumerate(weights):
        h[t] = v + (w * x - v) / 2
        v = h[t] * (h[t] < 0.5)
    expected = torch.zeros(2, 2)
    dv = torch.zeros(2, 2)
    for t, w in enumerate(weights):
        seen = h[: t + 1]
        if over == "sample":
            sigma = torch.stack([seen[:, b].std() for b in range(2)])[:, None]
        else:
            sigma = torch.stack([seen[:, :, c].std() for c in range(2)])[None]
        u = h[t] - 0.5
        slope = torch.exp(-((u - sigma / 2) ** 2) / (2 * sigma**2)) / (
            math.sqrt(2 * math.pi) * sigma
        )
        dh = dv + (w - dv) / 2
        expected += slope * dh
        dv = dh * (h[t] < 0.5)
    found = gradient(OneNeuron(weights=weights), x, f"pdsg:{over}")
    assert torch.allclose(found, expected, atol=1e-5)


def test_pdsg_keeps_samples_apart_by_default_and_not_over_the_batch():
    x = torch.rand(4, 6, generator=torch.Generator().manual_seed(0)) * 2
    alone = torch.cat([gradient(OneNeuron(), row[None], "pdsg") for row in x])
    assert torch.allclose(gradient(OneNeuron(), x, "pdsg"), alone, atol=1e-6)
    alone = torch.cat([gradient(OneNeuron(), row[None], "pdsg:batch") for row in x])
    assert not torch.allclose(gradient(OneNeuron(), x, "pdsg:batch"), alone, atol=1e-3)


def test_bptr_by_hand():
    """x = 0.3 never fires (0.15, 0.225, 0.2625): no gradient; x = 0.8 fires: one for each t.

    The input enters with weight 1/tau = 1/2, unless one asks for 1.
    """
    net, weights = OneNeuron(weights=(1.0, 2.0, 1.0)), 4.0
    assert gradient(net, torch.tensor([[0.2]]), "bptr").item() == 0.0
    assert gradient(net, torch.tensor([[0.8]]), "bptr").item() == weights / 2
    assert gradient(net, torch.tensor([[0.8]]), "bptr:gain=one").item() == weights
    whole = neuron.LIFNode(tau=2.0, v_threshold=0.5, decay_input=False, step_mode="m")
    assert gradient(OneNeuron(whole), torch.tensor([[0.8]]), "bptr").item() == 3.0


class Published(nn.Module):
    """Layers of the published neuron: h = v / 2 + x, straight through rates, no input weight."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x):
        for layer in self.layers:
            x = PublishedRate.apply(layer(x))
        return x.mean(0)


class PublishedRate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        v, spikes = torch.zeros_like(x[0]), []
        for step in x:
            h = v / 2 + step
            spikes.append((h >= 1).float())
            v = h * (1 - spikes[-1])
        spikes = torch.stack(spikes)
        ctx.save_for_backward((spikes.mean(0) > 0).float())
        return spikes

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0]


def test_bptr_through_three_layers_is_the_published_one():
    torch.manual_seed(0)
    layers = nn.ModuleList([nn.Linear(6, 6) for _ in range(3)])
    with torch.no_grad():
        for layer in layers:
            layer.weight.abs_()
    # spikingjelly's LIF halves its input, so twice the input makes the same neuron.
    ours = nn.Sequential()
    for layer in layers:
        twice = nn.Linear(6, 6)
        twice.load_state_dict({k: 2 * v for k, v in layer.state_dict().items()})
        ours.extend([twice, neuron.LIFNode(tau=2.0, step_mode="m")])

    class Ours(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = ours

        def forward(self, x):
            functional.reset_net(self)
            return self.net(x.expand(4, *x.shape)).mean(0)

    x = torch.rand(5, 6)
    point = x.clone().requires_grad_()
    logits = Published(layers)(point.expand(4, *x.shape))
    expected = torch.autograd.grad(logits.sum(), point)[0]
    assert torch.equal(logits, Ours()(x))
    assert expected.any()
    assert torch.allclose(gradient(Ours(), x, "bptr"), expected, rtol=1e-5)
    assert torch.allclose(gradient(Ours(), x, "bptr:gain=one"), 8 * expected, rtol=1e-5)


def test_rga_by_hand():
    """LIF tau 2, decay_input, th 0.5: leak 0.5, z = mean(x) * 0.5 / 0.5, factor 1."""
    gamma, kappa, leak = 0.2, 1.0, 0.5
    second = (1 - gamma + gamma * leak) / (leak + kappa)
    for x, slope in [
        (0.3, gamma),
        (0.5, gamma),
        (0.8, second),
        (1.9, second),
        (2.1, 0.0),
        (-1.0, 0.0),
    ]:
        found = gradient(OneNeuron(), torch.tensor([[x]]), "rga").item()
        assert found == pytest.approx(3 * slope, abs=1e-6), x
    # The two pieces reach rate 1 at z = 1 + kappa.
    assert gamma * (1 - leak) + second * (leak + kappa) == pytest.approx(1.0)


def test_rga_without_leak_is_the_published_special_case():
    net = OneNeuron(neuron.IFNode(v_threshold=2.0, step_mode="m"))
    found = gradient(net, torch.tensor([[1.0]]), "rga:kappa=3").item()
    assert found == pytest.approx(3 * (1 / (1 + 3)) / 2)


def test_hart_by_hand():
    """u from the exact membrane; no carry: dh/dx = 1/2 each step; then averaged over time."""
    x, gamma, weights = 0.8, 0.5, (1.0, 0.5, 2.0)
    v, local = 0.0, []
    for w in weights:
        h = v + (w * x - v) / 2
        local.append(max(0.0, gamma - abs(h - 0.5)) / gamma**2 / 2)
        v = h * (h < 0.5)
    expected = sum(weights) * sum(local) / 3
    found = gradient(OneNeuron(weights=weights), torch.tensor([[x]]), "hart:0.5")
    assert found.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("estimator", [*SWAPS, *WHOLE])
def test_gates_on_a_real_model_and_restoration(estimator):
    model = load_model("spiliformer-tiny.digit-scenes")
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = model(x)
    own = {name: unit.surrogate_function for name, unit in model.spiking_units().items()}
    with installed(model, estimator, x) as active:
        assert active.units == len(own) > 30
        assert torch.equal(model(x), before)
        point = x.clone().requires_grad_()
        changed = torch.autograd.grad(model(point).sum(), point)[0]
        assert changed.isfinite().all()
    assert {n: u.surrogate_function for n, u in model.spiking_units().items()} == own
    assert not any("multi_step_forward" in vars(unit) for unit in model.spiking_units().values())
    assert not model._forward_pre_hooks
    point = x.clone().requires_grad_()
    assert not torch.equal(torch.autograd.grad(model(point).sum(), point)[0], changed)


def test_restored_after_an_exception():
    net = spiking_net()
    own = net.lif1.surrogate_function
    x, _, _ = images(2)
    with pytest.raises(RuntimeError, match="Expected"), installed(net, "atan"):
        net(x.flatten(1))
    assert net.lif1.surrogate_function is own


@pytest.mark.parametrize("estimator", ["atan:2", "assg", "pdsg", "ste"])
def test_the_fused_path_gives_the_gradient_of_the_plain_one(estimator):
    """Our LIF computes all steps at once; spikingjelly's, one by one through the surrogate."""
    torch.manual_seed(0)
    x = torch.rand(3, 5) * 1.5
    plain = neuron.LIFNode(
        tau=2.0,
        v_threshold=0.5,
        detach_reset=True,
        step_mode="m",
        surrogate_function=surrogate.Sigmoid(4.0),
    )
    net = OneNeuron(plain)
    net.time_steps = 3
    for repeats in (1, 3):
        fused = gradient(OneNeuron(), x, estimator, repeats=repeats)
        assert torch.allclose(fused, gradient(net, x, estimator, repeats=repeats), atol=1e-6)


def test_sigmoid_estimator_is_the_training_surrogate_of_our_models():
    model = load_model("qkformer-tiny.digit-scenes")
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    point = x.clone().requires_grad_()
    own = torch.autograd.grad(model(point).sum(), point)[0]
    with installed(model, "sigmoid:4", x):
        swapped = torch.autograd.grad(model(point).sum(), point)[0]
    assert torch.allclose(own, swapped, rtol=1e-4, atol=1e-7)


def test_single_step_neurons_take_swaps_but_not_whole_neuron_rules():
    net = spiking_net()
    x, _, _ = images(3)
    assert not_applicable(net, "assg", x) == ""
    for estimator in WHOLE:
        assert "single steps" in not_applicable(net, estimator, x)


def test_shrinking_the_batch_keeps_the_statistics_of_those_left():
    x = torch.rand(4, 5, generator=torch.Generator().manual_seed(0)) * 1.5
    keep = torch.tensor([1, 3])
    found = []
    for start in (x, x[keep]):
        net = OneNeuron()
        with installed(net, "assg", x) as active:
            for step in range(3):
                if step == 2 and len(start) == 4:
                    start = start[keep]
                    active.select(keep)
                point = start.clone().requires_grad_()
                gradient_ = torch.autograd.grad(net(point).sum(), point)[0]
        found.append(gradient_)
    assert torch.allclose(*found)


def test_without_spiking_units_it_says_so():
    x, _, _ = images(2)
    assert "no spiking units" in not_applicable(conv_net(), "atan", x)
    with installed(conv_net(), "training", x) as active:
        assert active.units == 0


def test_an_undeclared_spike_emitter_is_named():
    net = spiking_net()
    net.spiking_units = lambda: {"lif1": net.lif1}
    assert list(spiking_units(net)) == ["lif1"]
    assert "1 of 2 spike emitters and misses lif2" in not_applicable(net, "atan", images(2)[0])


def test_changed_logits_are_refused():
    class Strict(neuron.LIFNode):
        """Fires at u > 0 unlike its surrogate: a swap would fire at ties too."""

        def multi_step_forward(self, x_seq):
            own = self.surrogate_function
            return own(x_seq - self.v_threshold - (1e-3 if type(own) is surrogate.Sigmoid else 0))

    net = OneNeuron(Strict(v_threshold=0.5, step_mode="m"))
    assert "another model" in not_applicable(net, "atan", torch.tensor([[0.5]]))


def test_formulas_are_refused_where_there_are_none():
    net = OneNeuron(neuron.LIFNode(tau=2.0, v_reset=None, step_mode="m"))
    assert "reset to 0" in not_applicable(net, "rga", torch.ones(1, 1))
    quadratic = OneNeuron(neuron.QIFNode(step_mode="m"))
    assert "QIFNode" in not_applicable(quadratic, "hart", torch.ones(1, 1))
    assert not_applicable(quadratic, "bptr", torch.ones(1, 1)) == ""


def test_names():
    assert estimator_name("atan") == "atan:alpha=2"
    assert estimator_name("atan:16") == "atan:alpha=16"
    assert estimator_name("exp:beta=0.5") == "exp:beta=0.5:scale=1"
    assert estimator_name("training") == "training"
    assert all(estimator_name(estimator_name(name)) for name in ESTIMATORS.names())
    for text, words in {
        "atn": "did you mean 'atan'",
        "atan:gamma=1": "no parameter 'gamma'",
        "ste:1": "it has none",
        "atan:-1": "not a number above 0",
        "assg:0.6": "between 0 and 0.5",
        "pdsg:images": "choose sample or batch",
    }.items():
        with pytest.raises(UsageError, match=words):
            estimator_name(text)
