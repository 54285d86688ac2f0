import random

import numpy as np
import pytest
import torch
import torchattacks
from attack_nets import conv_net, frozen, images, spiking_net
from torch import nn

from robustbench_snn.attacks import attack_type, budget, build, make_spec
from robustbench_snn.attacks.torchattacks_bridge import batch_seed, seeded
from robustbench_snn.errors import UsageError


def run(name, net, batch, seed=0, **options):
    x, y, ids = batch
    return build(name, seed).run(net, x, y, ids, [make_spec(name, options)])[0]


def test_bim_is_torchattacks_own():
    net, (x, y, ids) = spiking_net(), images(4)
    found = run("torchattacks:BIM", net, (x, y, ids), eps="4/255", steps="5")
    assert torch.equal(found.x, torchattacks.BIM(net, eps=4 / 255, steps=5)(x, y))
    assert found.health.forward_calls == found.health.backward_calls == 5
    assert found.health.gradients == 20
    assert found.health.zero_grad_frac == 0.0


def test_our_pgd_and_theirs_through_the_bridge_agree_from_the_image():
    net, batch = spiking_net(), images(4)
    theirs = run("torchattacks:PGD", net, batch, random_start="off")
    ours = run("pgd", net, batch, random_start="off")
    assert torch.equal(theirs.x, ours.x)
    assert theirs.health == ours.health


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("torchattacks:APGD", {"steps": 3}),
        ("torchattacks:APGDT", {"steps": 2}),
        ("torchattacks:Square", {"n_queries": 20, "eps": 0.3}),
        ("torchattacks:PGDL2", {"eps": "1/2", "steps": 3}),
        ("torchattacks:Pixle", {"restarts": 2, "x_dimensions": "2,4"}),
    ],
)
def test_attacks_with_random_choices_repeat_and_follow_the_seed(name, options):
    net, (x, _, ids) = conv_net(), images(4)
    batch = (x, net(x).argmax(1), ids)
    first = run(name, net, batch, **options)
    assert torch.equal(first.x, run(name, net, batch, **options).x)
    assert not torch.equal(first.x, run(name, net, batch, seed=1, **options).x)
    assert first.x.shape == x.shape
    assert first.health.forward_calls > 0


def test_the_number_of_classes_comes_from_the_model():
    torch.manual_seed(0)
    net = frozen(nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 4)))
    x, _, ids = images(2)
    found = run("torchattacks:APGDT", net, (x, net(x).argmax(1), ids), steps=2)
    assert float((found.x - x).abs().max()) <= 8 / 255 + 1e-6


def test_global_generators_are_seeded_inside_and_restored_outside():
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    expected = (random.random(), np.random.rand(), torch.rand(1))
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    draws = []
    for _ in range(2):
        with seeded(11):
            draws.append((random.random(), np.random.rand(), float(torch.rand(1))))
    assert draws[0] == draws[1]
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected


def test_batch_seed_follows_run_seed_and_first_sample():
    assert batch_seed(0, ["a", "b"]) == batch_seed(0, ["a"])
    assert len({batch_seed(0, ["a"]), batch_seed(0, ["b"]), batch_seed(1, ["a"])}) == 3


def test_every_module_comes_back_in_its_own_mode():
    net = spiking_net()
    net.norm.train()
    before = [module.training for module in net.modules()]
    statistics = net.norm.running_mean.clone()
    run("torchattacks:BIM", net, images(2), steps=2)
    assert [module.training for module in net.modules()] == before
    assert torch.equal(net.norm.running_mean, statistics)
    assert not net._forward_hooks
    assert not net._forward_pre_hooks


def test_results_depend_on_the_batch_and_say_so():
    assert attack_type("torchattacks:PGD").batch_dependent
    assert not attack_type("pgd").batch_dependent


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("torchattacks:BIM", {"eps": "4/255"}, ("linf", 4 / 255)),
        ("torchattacks:PIFGSM", {}, ("linf", 16 / 255)),
        ("torchattacks:APGD", {"norm": "L2", "eps": "3"}, ("l2", 3.0)),
        ("torchattacks:CW", {}, ("l2", None)),
        ("torchattacks:GN", {}, ("none", None)),
    ],
)
def test_budget_of_bridged_attacks(name, options, expected):
    assert budget(make_spec(name, options)) == expected


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("torchattacks:BIMM", {}, "unknown torchattacks attack 'BIMM': did you mean 'BIM'"),
        ("torchattacks:pgd", {}, "did you mean 'PGD'"),
        ("torchattacks:MultiAttack", {}, "needs other attacks as an argument"),
        ("torchattacks:LGV", {}, "needs a training set as an argument"),
        ("torchattacks:BIM", {"step-size": "1/255"}, "it has eps, alpha, steps"),
        ("torchattacks:APGD", {"seed": "1"}, "the run's own seed is used"),
        ("torchattacks:APGD", {"norm": "l2"}, "none of Linf, L2"),
        ("torchattacks:APGD", {"eps": "8"}, "pixel units"),
        ("torchattacks:BIM", {"steps": "many"}, "steps 'many' is not a number"),
        ("torchattacks:PGD", {"random_start": "7"}, "neither on nor off"),
    ],
)
def test_bad_names_and_options_are_one_sentence(name, options, message):
    with pytest.raises(UsageError, match=message):
        make_spec(name, options)


def test_event_frames_and_unbounded_inputs_are_refused():
    net = conv_net()
    with pytest.raises(UsageError, match=r"takes images \[B, C, H, W\]"):
        run("torchattacks:BIM", net, (torch.rand(1, 2, 3, 4, 4), torch.tensor([0]), ["a"]))

    class Card:
        max_value = None

    net.card = Card()
    with pytest.raises(UsageError, match="not bounded by 1"):
        run("torchattacks:BIM", net, images(1))


def test_a_tuple_that_is_none_is_refused():
    with pytest.raises(UsageError, match="list of whole numbers"):
        run("torchattacks:Pixle", conv_net(), images(1), x_dimensions="a,b")
