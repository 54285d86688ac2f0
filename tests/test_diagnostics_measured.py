"""Diagnostics measured on the model itself: gradient health, D10, D11, D13, D15, D17, D20."""

import torch
from attack_nets import DeadNet, SpikingNet, conv_net, images, spiking_net
from masked_models import Control, Masked, RandomEncoder
from torch import nn

from robustbench_snn.diagnostics.health import gradient_health
from robustbench_snn.diagnostics.measurements import (
    averaging,
    dead_neurons,
    determinism,
    gradient_scale,
    untouched,
    uphill,
    uphill_share,
    zero_gradients,
)


def batch(n=12):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n, 3, 32, 32, generator=generator)
    return x, torch.arange(n) % 10, [f"x/{i}" for i in range(n)]


def test_d10_names_samples_and_pixels_without_gradient():
    x, y, _ = images(20)
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 10)).requires_grad_(False)
    alive = zero_gradients(linear, {"clean": x}, y)
    assert alive.status == "pass"
    dead = zero_gradients(DeadNet().requires_grad_(False), {"clean": x}, y)
    assert dead.status == "fail"
    share = float((x.flatten(1).mean(1) > 0.5).float().mean())
    assert f"{100 * share:.1f} % of samples" in dead.figure


def test_d11_calls_a_step_function_shattered():
    class Shattered(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.head = nn.Linear(3 * 12 * 12, 10)

        def forward(self, x):
            return self.head(torch.sin(801 * x.flatten(1)))

    x, y, ids = images(20)
    assert gradient_scale(conv_net(), x, y, ids, 0).status == "pass"
    assert gradient_scale(Shattered().requires_grad_(False), x, y, ids, 0).status == "warn"


def test_d13_tells_a_gradient_that_points_down():
    class Backwards(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return -grad

    class Net(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner(Backwards.apply(x))

    x, y, _ = images(40)
    assert uphill(conv_net(), x, y, ["training"]).status == "pass"
    assert uphill(Net(conv_net()), x, y, ["training"]).status == "warn"
    assert uphill_share(conv_net(), x, y, "training") > 0.95
    assert uphill_share(conv_net(), x, y, "atan") == -1, "not applicable without spikes"


def test_d15_and_d17_on_honest_networks_and_on_one_that_forgets_to_reset():
    x, y, _ = batch()
    assert determinism(Control(), x, y).status == "pass"
    assert untouched(Control(), x, y, ("atan:2", "assg", "bptr", "hart")).status == "pass"

    class Drifting(Control):
        def forward(self, x):
            self.calls = getattr(self, "calls", 0) + 1
            return super().forward(x) + 1e-3 * self.calls

    assert determinism(Drifting(), x, y).status == "fail"


def test_d19_and_d15_on_a_random_encoder():
    x, y, _ = batch()
    assert averaging(Control()).status == "pass"
    assert averaging(RandomEncoder()).status == "info"
    assert "declared stochastic" in determinism(RandomEncoder(), x, y).figure


def test_gradient_health_covers_every_layer_and_step():
    x, y, _ = batch()
    model = Control()
    before = model(x)
    table = gradient_health(model, x, y)
    assert [(unit.name, unit.step) for unit in table] == [
        (name, t) for name in ("lif1", "lif2", "lif3") for t in (0, 1)
    ]
    assert torch.equal(model(x), before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    masked = gradient_health(Masked(), x, y)
    assert all(a.rate == b.rate for a, b in zip(table, masked, strict=True))
    assert sum(u.zero_share for u in masked) > sum(u.zero_share for u in table)
    assert any(unit.moved > 0.5 for unit in table)


def test_gradient_health_of_single_step_neurons_counts_calls_as_time():
    torch.manual_seed(0)
    net = SpikingNet(time_steps=3).eval().requires_grad_(False)
    x, y, _ = images(10)
    table = gradient_health(net, x, y)
    assert {(unit.name, unit.step) for unit in table} == {
        (name, t) for name in ("lif1", "lif2") for t in range(3)
    }


def test_gradient_health_probe_is_a_test_of_the_gradient():
    """The head's gradient is exact, so moving the last layer's currents along it pays off."""
    x, _, _ = images(40)
    net = spiking_net()
    table = gradient_health(net, x, net(x).argmax(1))
    last = [unit for unit in table if unit.name == "lif2" and unit.moved > 0]
    assert last
    assert all(unit.uphill > 0.7 for unit in last)


def test_d20_reports_silence():
    x, y, _ = images(10)
    net = spiking_net()
    net.conv.weight.zero_()
    net.conv.bias.fill_(-1.0)
    table = gradient_health(net, x, y)
    assert all(unit.rate == 0 for unit in table if unit.name == "lif1")
    assert "layer-steps silent" in dead_neurons(table).figure
    assert dead_neurons([]).figure == "no spiking units"
    assert gradient_health(conv_net(), x, y) == []


def test_records_are_plain_values():
    x, y, _ = batch(4)
    record = gradient_health(Control(), x, y)[0].record()
    assert record["name"] == "lif1"
    assert record["uphill"] is None or 0 <= record["uphill"] <= 1
