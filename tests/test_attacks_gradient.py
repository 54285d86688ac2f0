import pytest
import torch
import torchattacks
from attack_nets import DeadNet, conv_net, frozen, images, spiking_net
from torch import nn

from robustbench_snn.attacks import build, make_spec
from robustbench_snn.attacks.base import uniform_noise
from robustbench_snn.attacks.gradient import trajectory

FIRST_NOISE = [-0.07379424571990967, -0.8730858564376831, 0.6797198057174683, -0.2244861125946045]
NETS = {"conv": conv_net, "spiking": spiking_net}


@pytest.fixture(params=list(NETS))
def net(request):
    return NETS[request.param]()


def one(name, net, batch, seed=0, **options):
    x, y, ids = batch
    return build(name, seed).perturb(net, x, y, ids, [make_spec(name, options)])[0]


@pytest.mark.parametrize("eps", [2 / 255, 8 / 255, 0.3])
@pytest.mark.parametrize("n", [1, 7, 8])
def test_fgsm_is_that_of_torchattacks_bit_for_bit(net, n, eps):
    x, y, ids = images(n)
    theirs = torchattacks.FGSM(net, eps=eps)(x, y)
    assert torch.equal(one("fgsm", net, (x, y, ids), eps=eps), theirs)
    assert not torch.equal(theirs, x)


@pytest.mark.parametrize("n", [1, 7, 8])
def test_pgd_from_the_image_is_that_of_torchattacks_bit_for_bit(net, n):
    x, y, ids = images(n)
    theirs = torchattacks.PGD(net, steps=10, random_start=False)(x, y)
    assert torch.equal(one("pgd", net, (x, y, ids), random_start=False), theirs)


def test_pgd_from_the_same_random_start_is_that_of_torchattacks_bit_for_bit(net):
    x, y, _ = images(8)
    torch.manual_seed(5)
    theirs = torchattacks.PGD(net, eps=8 / 255, alpha=2 / 255, steps=10)(x, y)
    torch.manual_seed(5)
    start = (x + torch.empty_like(x).uniform_(-8 / 255, 8 / 255)).clamp(0, 1)
    path = list(trajectory(net, x, y, start, 8 / 255, 2 / 255, steps=10))
    assert torch.equal(path[-1].x, theirs)
    assert not torch.equal(path[-1].x, one("pgd", net, (x, y, ["a"] * 8)))


def test_one_trajectory_equals_separate_runs_bit_for_bit(net):
    x, y, ids = images(6)
    specs = [make_spec("pgd", {"steps": steps}) for steps in (30, 5, 10)]
    shared = build("pgd").run(net, x, y, ids, specs)
    for spec, found in zip(specs, shared, strict=True):
        alone = build("pgd").run(net, x, y, ids, [spec])[0]
        assert torch.equal(found.x, alone.x)
        assert found.health == alone.health
        assert found.health.backward_calls == spec.params["steps"]


def test_one_gradient_serves_every_eps_of_fgsm(net):
    x, y, ids = images(6)
    specs = [make_spec("fgsm", {"eps": eps}) for eps in (0.3, 0.05)]
    shared = build("fgsm").perturb(net, x, y, ids, specs)
    assert torch.equal(shared[0], one("fgsm", net, (x, y, ids), eps=0.3))
    assert torch.equal(shared[1], one("fgsm", net, (x, y, ids), eps=0.05))


def test_results_depend_neither_on_batch_size_nor_on_order(net):
    # In float64, so that kernels chosen by batch size cannot turn a sign by rounding.
    net, (x, y, ids) = net.double(), images(6)
    x = x.double()
    whole = one("pgd", net, (x, y, ids), steps=5)
    singles = [
        one("pgd", net, (x[i : i + 1], y[i : i + 1], ids[i : i + 1]), steps=5) for i in range(6)
    ]
    assert torch.equal(whole, torch.cat(singles))
    order = [3, 0, 5, 1, 4, 2]
    shuffled = one("pgd", net, (x[order], y[order], [ids[i] for i in order]), steps=5)
    assert torch.equal(whole[order], shuffled)


def test_random_starts_belong_to_seed_sample_and_restart():
    noise = uniform_noise(0, ["a", "b"], (3, 8, 8))
    assert torch.equal(noise[1], uniform_noise(0, ["b"], (3, 8, 8))[0])
    assert not torch.equal(noise[0], noise[1])
    assert not torch.equal(noise, uniform_noise(1, ["a", "b"], (3, 8, 8)))
    assert not torch.equal(noise, uniform_noise(0, ["a", "b"], (3, 8, 8), restart=1))
    assert noise.dtype == torch.float32
    assert -1 <= noise.min() < -0.9 < 0.9 < noise.max() < 1
    assert abs(float(noise.mean())) < 0.1


def test_random_start_values_are_fixed_for_ever():
    expected = torch.tensor(FIRST_NOISE)
    assert torch.equal(uniform_noise(0, ["test/000000"], (4,))[0], expected)


def test_seed_changes_pgd(net):
    batch = images(4)
    assert torch.equal(one("pgd", net, batch, steps=2), one("pgd", net, batch, steps=2))
    assert not torch.equal(one("pgd", net, batch, steps=2), one("pgd", net, batch, 1, steps=2))


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_eps_zero_returns_the_image_itself(net, name):
    x, y, ids = images(5)
    assert torch.equal(one(name, net, (x, y, ids), eps=0), x)


@pytest.mark.parametrize(("name", "eps"), [("fgsm", 0.3), ("pgd", 8 / 255), ("pgd", 0.3)])
def test_norm_and_range_hold_and_the_bound_is_reached(net, name, eps):
    x, y, ids = images(5)
    options = {"eps": eps} if name == "fgsm" else {"eps": eps, "step_size": eps / 2}
    adversarial = one(name, net, (x, y, ids), **options)
    assert float((adversarial - x).abs().max()) == pytest.approx(eps, abs=1e-6)
    assert 0 <= float(adversarial.min())
    assert float(adversarial.max()) <= 1
    assert not adversarial.requires_grad


def test_attack_raises_the_loss(net):
    x, _, ids = images(8)
    y = net(x).argmax(1)
    before = nn.functional.cross_entropy(net(x), y)
    after = nn.functional.cross_entropy(net(one("pgd", net, (x, y, ids))), y)
    assert after > before


def test_a_card_without_an_upper_bound_clamps_below_only():
    class Card:
        max_value = None

    net = conv_net()
    net.card = Card()
    x, y, ids = images(4)
    adversarial = one("fgsm", net, (3.0 * x, y, ids), eps=0.3)
    assert float(adversarial.max()) > 3.0
    assert float(adversarial.min()) == 0.0


def test_event_frames_are_attacked_like_images():
    torch.manual_seed(0)
    net = frozen(nn.Sequential(nn.Flatten(), nn.Linear(2 * 3 * 4 * 4, 5)))
    x = torch.rand(3, 2, 3, 4, 4)
    adversarial = one("pgd", net, (x, torch.tensor([0, 1, 2]), ["a", "b", "c"]))
    assert adversarial.shape == x.shape
    assert not torch.equal(adversarial, x)


def test_health_counts_dead_gradients():
    x, y, ids = images(8)
    x[:4] = x[:4] * 0.5
    x[4:] = x[4:] * 0.5 + 0.5
    health = build("fgsm").run(frozen(DeadNet()), x, y, ids, [make_spec("fgsm")])[0].health
    assert health.zero_grad_frac == 0.5
    assert health.zero_pixel_frac == 0.5
    assert health.nonfinite_grad_frac == 0.0
    assert (health.gradients, health.forward_calls, health.backward_calls) == (8, 1, 1)


def test_health_counts_saturated_cross_entropy():
    torch.manual_seed(0)
    net = frozen(nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 10)))
    net[1].weight.mul_(1000.0)
    x, _, ids = images(4)
    found = build("pgd").run(net, x, net(x).argmax(1), ids, [make_spec("pgd")])[0]
    assert found.health.zero_grad_frac == 1.0


def test_health_counts_nonfinite_gradients_and_the_image_stays_finite():
    class Broken(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :10].sub(x.flatten(1)[:, :10]).sqrt()

    x, y, ids = images(4)
    found = build("fgsm").run(Broken(), x, y, ids, [make_spec("fgsm")])[0]
    assert found.health.nonfinite_grad_frac == 1.0
    assert bool(found.x.isfinite().all())


def test_health_of_batches_adds_up():
    net, (x, y, ids) = spiking_net(), images(6)
    spec = [make_spec("pgd", {"steps": 3})]
    whole = build("pgd").run(net, x, y, ids, spec)[0].health
    first = build("pgd").run(net, x[:2], y[:2], ids[:2], spec)[0].health
    rest = build("pgd").run(net, x[2:], y[2:], ids[2:], spec)[0].health
    both = first + rest
    assert both.gradients == whole.gradients == 18
    assert both.zero_pixels == whole.zero_pixels
    assert both.forward_calls == 2 * whole.forward_calls


class ModeSpy(nn.Module):
    """Fails a forward in train mode and, on request, any forward."""

    def __init__(self, fail=False):
        super().__init__()
        self.net, self.drop, self.fail = conv_net(), nn.Dropout(0.5), fail

    def forward(self, x):
        assert not any(module.training for module in self.modules())
        if self.fail:
            raise ArithmeticError("broken")
        return self.drop(self.net(x))


@pytest.mark.parametrize("fail", [False, True])
def test_every_module_comes_back_in_its_own_mode(fail):
    spy = ModeSpy(fail)
    spy.eval()
    spy.drop.train()
    spy.net[1].train()
    before = [module.training for module in spy.modules()]
    if fail:
        with pytest.raises(ArithmeticError):
            one("pgd", spy, images(2))
    else:
        one("pgd", spy, images(2))
    assert [module.training for module in spy.modules()] == before


def test_no_parameter_gets_a_gradient_and_buffers_do_not_move():
    net = spiking_net().requires_grad_(True)
    before = {name: value.clone() for name, value in net.named_buffers()}
    one("pgd", net, images(4))
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())


def test_an_attack_works_inside_no_grad():
    net, batch = conv_net(), images(3)
    with torch.no_grad():
        inside = one("pgd", net, batch)
    assert torch.equal(inside, one("pgd", net, batch))


def test_mismatched_batches_are_refused():
    x, y, ids = images(3)
    with pytest.raises(ValueError, match="3 images, 3 labels and 2 ids"):
        one("pgd", conv_net(), (x, y, ids[:2]))
