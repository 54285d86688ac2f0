"""The strong attacks on models whose answer is known, and what all of them promise."""

import itertools

import pytest
import torch
from attack_nets import conv_net, images, spiking_net
from plain_cnn import cached, unseen
from torch import nn

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.attacks import build, group, make_spec, transfer
from robustbench_snn.attacks.apgd import checkpoints
from robustbench_snn.attacks.losses import LOSSES, margin
from robustbench_snn.attacks.sapgd import descend
from robustbench_snn.attacks.strong_specs import parse_source
from robustbench_snn.errors import UsageError

EPS = 0.1
STRONG = [
    ("apgd", {"loss": "ce", "steps": 20}),
    ("apgd", {"loss": "dlr", "steps": 20}),
    ("apgd", {"loss": "margin", "steps": 20, "norm": "l2", "eps": 1.0}),
    ("apgd", {"loss": "dlr-targeted", "steps": 10, "targets": 3}),
    ("sapgd", {"steps": 20}),
    ("pgd-worst", {"steps": 20, "restarts": 2, "step_size": 0.02}),
    ("pgd-worst", {"steps": 20, "norm": "l2", "eps": 1.0, "step_size": 0.1}),
    ("square", {"queries": 60}),
    ("square", {"queries": 60, "norm": "l2", "eps": 1.0}),
    ("noise", {"draws": 20}),
]


def spec_of(name, params):
    return make_spec(name, {"eps": EPS, **params})


class Linear(nn.Module):
    """Two and more classes, logits linear in x: the best perturbation is known in closed form."""

    def __init__(self, classes=4):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(12, classes)

    def forward(self, x):
        return self.head(x.flatten(1))


def linear_case(classes=4, n=40):
    net = Linear(classes).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    x = 0.3 + 0.4 * torch.rand(n, 3, 2, 2, generator=generator)
    y = net(x).argmax(1)
    return net, x, y, [f"line/{i}" for i in range(n)]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    ("loss", "classes"), [("ce", 2), ("margin", 2), ("dlr", 4), ("dlr-targeted", 4)]
)
def test_apgd_finds_exactly_what_a_linear_model_allows(norm, loss, classes):
    """Fooled iff margin / ||w_y - w_j||_dual <= eps for some j.

    Only plain DLR may miss one: it climbs towards whichever class comes first.
    """
    net, x, y, ids = linear_case(classes)
    weight = net.head.weight
    gaps = net(x).gather(1, y[:, None]) - net(x)
    slopes = weight[y][:, None] - weight[None]
    dual = slopes.abs().sum(2) if norm == "linf" else slopes.norm(dim=2)
    needed = (gaps / dual.clamp_min(1e-9)).scatter(1, y[:, None], torch.inf).amin(1)
    eps = float(needed.quantile(0.5))
    spec = make_spec("apgd", {"norm": norm, "eps": eps, "loss": loss})
    found = build("apgd").perturb(net, x, y, ids, [spec])[0]
    clear = (needed - eps).abs() > 0.02 * eps
    assert int(clear.sum()) > 30
    fooled, possible = (net(found).argmax(1) != y)[clear], (needed < eps)[clear]
    assert not bool((fooled & ~possible).any())
    assert int((possible & ~fooled).sum()) <= (2 if loss == "dlr" else 0)


def test_losses_by_hand():
    logits = torch.tensor([[3.0, 1.0, 0.5, -1.0], [3.0, 1.0, 0.5, -1.0]])
    y = torch.tensor([0, 2])
    assert torch.allclose(margin(logits, y), torch.tensor([2.0, -2.5]))
    assert torch.allclose(LOSSES["dlr"](logits, y, None), torch.tensor([-2.0 / 2.5, 2.5 / 2.5]))
    aimed = LOSSES["dlr-targeted"](logits, y, torch.tensor([1, 1]))
    assert torch.allclose(aimed, torch.tensor([-2.0 / 3.25, 0.5 / 3.25]))
    assert torch.allclose(LOSSES["margin"](logits, y, None), torch.tensor([-2.0, 2.5]))


def test_step_sizes_are_checked_when_the_papers_say():
    found, at = [], 0
    for gap in checkpoints(100):
        at += gap
        if at > 100:
            break
        found.append(at)
    assert found == [22, 41, 57, 70, 80, 87, 93, 99]


def test_sapgd_by_hand():
    """Two pixels: scaled momentum and clipped steps, computed with pen and paper formulas."""

    class Fixed:
        separable = False
        active = None

        def __init__(self):
            self.asked = []

        def at(self, point, y, target=None):
            from robustbench_snn.attacks.pursuit import Seen

            gradient = torch.tensor([[3.0, -1.0], [0.0, 0.0]]) * (1 + len(self.asked))
            self.asked.append(point.clone())
            return Seen(torch.zeros(2), torch.ones(2), gradient)

        def margin(self, point, y):
            self.asked.append(point.clone())
            return torch.ones(2)

    from robustbench_snn.attacks.ball import Ball

    x = torch.full((2, 2), 0.5)
    gradients, eps = Fixed(), 0.1
    descend(gradients, Ball("linf", eps, 0, 1), x, torch.zeros(2).long(), x.clone(), 2)
    m, v, point = torch.zeros(2), torch.zeros(2), torch.full((2,), 0.5)
    eta = eps
    for step in range(2):
        g = torch.tensor([3.0, -1.0]) * (1 + step)
        m = 0.5 * m + g / g.abs().mean()
        v = 0.8 * v + g**2 / (g**2).mean()
        point = (point + (eta * m / (v.sqrt() + 1e-12)).clamp(-eta, eta)).clamp(0.4, 0.6)
        assert torch.allclose(gradients.asked[step + 1][0], point, atol=1e-6)
        assert torch.equal(gradients.asked[step + 1][1], x[1]), "no gradient, no step, no NaN"
        eta /= 2


@pytest.mark.parametrize(("name", "params"), STRONG)
def test_promises_of_every_attack(name, params):
    """Within the budget and range, never undoing a clean mistake, free of batch and order."""
    net, (x, y, ids) = cached(), unseen(48)
    spec = spec_of(name, params)
    whole = build(name).run(net, x, y, ids, [spec])[0]
    delta = (whole.x - x).flatten(1)
    size = delta.norm(dim=1) if spec.params.get("norm") == "l2" else delta.abs().amax(1)
    assert float(size.max()) <= float(spec.params["eps"]) + 1e-5
    assert 0 <= float(whole.x.min()) <= float(whole.x.max()) <= 1
    wrong = net(x).argmax(1) != y
    assert torch.equal(whole.x[wrong], x[wrong])
    assert int((net(whole.x).argmax(1) != y).sum()) > int(wrong.sum())
    order = torch.randperm(48, generator=torch.Generator().manual_seed(0))
    parts = []
    for rows in order.split(11):
        names = [ids[row] for row in rows.tolist()]
        parts.append(build(name).perturb(net, x[rows], y[rows], names, [spec])[0])
    outcome = net(torch.cat(parts)).argmax(1) != y[order]
    assert int((outcome ^ (net(whole.x).argmax(1) != y)[order]).sum()) <= 1
    assert whole.health.forward_calls > 1


@pytest.mark.parametrize(("name", "params"), STRONG)
def test_eps_zero_changes_nothing(name, params):
    net, (x, y, ids) = cached(), unseen(8)
    spec = make_spec(name, {**params, "eps": 0})
    assert torch.allclose(build(name).perturb(net, x, y, ids, [spec])[0], x, atol=1e-7)


def test_one_trajectory_serves_every_number_of_steps():
    net, (x, y, ids) = cached(), unseen(40)
    specs = [spec_of("pgd-worst", {"steps": steps, "step_size": 0.02}) for steps in (3, 10, 30)]
    assert group(specs) == [specs]
    together = build("pgd-worst").run(net, x, y, ids, specs)
    fooled = [net(found.x).argmax(1) != y for found in together]
    for spec, found in zip(specs, fooled, strict=True):
        alone = build("pgd-worst").perturb(net, x, y, ids, [spec])[0]
        assert torch.equal(net(alone).argmax(1) != y, found)
    assert all(bool((later | ~earlier).all()) for earlier, later in itertools.pairwise(fooled))
    calls = [found.health.backward_calls for found in together]
    assert calls == sorted(calls)


def test_restarts_only_ever_help():
    net, (x, y, ids) = cached(), unseen(64)
    counts = []
    for restarts in (1, 4):
        spec = spec_of("pgd-worst", {"steps": 5, "restarts": restarts, "step_size": 0.02})
        counts.append(net(build("pgd-worst").perturb(net, x, y, ids, [spec])[0]).argmax(1) != y)
    assert bool((counts[1] | ~counts[0]).all())


@pytest.mark.parametrize("estimator", ["atan:4", "assg", "pdsg", "pdsg:batch"])
@pytest.mark.parametrize("name", ["apgd", "sapgd", "pgd-worst"])
def test_estimators_in_attacks_leave_the_model_as_it_was(name, estimator):
    net = spiking_net()
    x, _, ids = images(12)
    y = net(x).argmax(1)
    own = [net.lif1.surrogate_function, net.lif2.surrogate_function]
    spec = make_spec(name, {"eps": EPS, "estimator": estimator, "steps": 8})
    found = build(name).perturb(net, x, y, ids, [spec])[0]
    assert [net.lif1.surrogate_function, net.lif2.surrogate_function] == own
    assert int((net(found).argmax(1) != y).sum()) > 0


ASSG, PDSG = "assg:target=0.425:relax=1.5:beta=0.9", "pdsg:over=sample"


@pytest.mark.parametrize("estimator", [ASSG, PDSG])
@pytest.mark.parametrize("name", ["sapgd", "transfer"])
def test_adaptive_estimators_do_not_depend_on_the_batch(name, estimator, monkeypatch):
    net = spiking_net()
    given = {"step_size": 0.01, "source": "other"} if name == "transfer" else {}
    spec = AttackSpec(
        name, make_spec(name, {"eps": 0.05, "steps": 10, "estimator": estimator}).params | given
    )
    monkeypatch.setattr(transfer, "load_source", lambda *_: net)
    x, _, ids = images(12)
    y = net(x).argmax(1)
    # One is wrong already, and some fall before the end.
    y[0] = (y[0] + 1) % 10
    whole = build(spec.name).perturb(net, x, y, ids, [spec])[0]
    parts = [
        build(spec.name).perturb(net, x[i : i + 1], y[i : i + 1], ids[i : i + 1], [spec])[0]
        for i in range(12)
    ]
    same = (net(torch.cat(parts)).argmax(1) != y) == (net(whole).argmax(1) != y)
    assert int((~same).sum()) <= 1


class Noisy(nn.Module):
    """A linear model behind a random encoder."""

    def __init__(self):
        super().__init__()
        self.net = Linear()

    def forward(self, x):
        return self.net(x + 0.2 * torch.randn_like(x))


def test_eot_averages_gradients_and_counts_them():
    net, x, y, ids = Noisy().requires_grad_(False), *linear_case()[1:]
    spec = make_spec("apgd", {"eps": 0.05, "eot": 4, "steps": 5})
    health = build("apgd").run(net, x, y, ids, [spec])[0].health
    assert health.backward_calls == 4 * 6


def test_bad_input():
    with pytest.raises(UsageError, match="outside \\[0, 1\\]"):
        make_spec("apgd", {"eps": "8"})
    assert make_spec("apgd", {"norm": "l2", "eps": 3}).params["eps"] == 3.0
    with pytest.raises(UsageError, match="did you mean 'atan'"):
        make_spec("apgd", {"estimator": "atn:2"})
    with pytest.raises(UsageError, match="choose one of ce, dlr"):
        make_spec("apgd", {"loss": "cw"})
    with pytest.raises(UsageError, match="--source"):
        build("transfer").perturb(*linear_case(), [make_spec("transfer")])
    with pytest.raises(UsageError, match="are untrained"):
        parse_source("qkformer-4-384.cifar100@123456789abc", "source")
    net, (x, y, ids) = Linear(3).requires_grad_(False), linear_case()[1:]
    spec = make_spec("apgd", {"loss": "dlr-targeted"})
    with pytest.raises(UsageError, match="the model has 3 classes"):
        build("apgd").perturb(net, x, y.clamp_max(2), ids, [spec])
    video = torch.rand(2, 4, 2, 6, 6)
    with pytest.raises(UsageError, match="draws squares on images"):
        build("square").perturb(conv_net(), video, y[:2], ids[:2], [make_spec("square")])
