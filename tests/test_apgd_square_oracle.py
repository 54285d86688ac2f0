"""APGD and Square against the published AutoAttack code: live where installed, else recorded."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from autoattack_oracle import CASES, fooled
from plain_cnn import cached, network, unseen
from torch import nn

from robustbench_snn.attacks import build, make_spec

GOLDEN = Path(__file__).parent / "golden"
RECORD = json.loads((GOLDEN / "autoattack_oracle.json").read_text())


def ours(net, case):
    name, params = CASES[case]
    x, y, ids = unseen()
    found = build(name, seed=0).perturb(net, x, y, ids, [make_spec(name, params)])[0]
    return net(found).argmax(1) != y


def recorded_network():
    net = network().eval().requires_grad_(False)
    arrays = np.load(GOLDEN / "autoattack_cnn.npz")
    net.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays})
    return net


@pytest.mark.parametrize("case", CASES)
def test_robust_accuracy_is_that_of_the_published_code_as_recorded(case):
    """Same starts, same squares: the same samples fall, but for at most one."""
    entry = RECORD["cases"][case]
    assert (entry["attack"], entry["params"]) == CASES[case]
    found = set(ours(recorded_network(), case).nonzero()[:, 0].tolist())
    expected = set(entry["fooled"])
    assert 0.05 < len(expected) / RECORD["n"] < 0.95, "the case must be neither easy nor hopeless"
    assert len(found ^ expected) <= 1


@pytest.mark.parametrize("case", [case for case in CASES if "targeted" not in case])
def test_robust_accuracy_is_that_of_the_published_code_as_run_here(case):
    """On a network trained a moment ago, with the published code itself."""
    pytest.importorskip("pyautoattack", reason="the published AutoAttack code is not installed")
    net = cached()
    x, y, ids = unseen()
    expected = fooled(net, x, y, ids, *CASES[case])
    assert int((ours(net, case) ^ expected).sum()) <= 1


@pytest.mark.parametrize(("loss", "kind"), [("ce", "apgd-ce"), ("dlr-targeted", "apgd-t")])
def test_the_published_attack_with_its_own_random_numbers_agrees(loss, kind):
    """Nothing shared but the algorithm: robust accuracy within one sample."""
    package = pytest.importorskip(
        "pyautoattack", reason="the published AutoAttack code is not installed"
    )
    net, (x, y, _) = cached(), unseen()
    attack = package.AutoAttack(
        net, attacks=[kind], norm="Linf", eps=0.1, device="cpu", seed=0, version="custom"
    )
    theirs = net(attack.run_standard_evaluation(x, y, batch_size=128)[0]).argmax(1) == y
    spec = make_spec("apgd", {"eps": 0.1, "loss": loss})
    found = build("apgd").perturb(net, x, y, unseen()[2], [spec])[0]
    mine = net(found).argmax(1) == y
    assert abs(int(theirs.sum()) - int(mine.sum())) <= 1


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_square_on_images_of_few_pixels(side, norm):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(2 * side * side, 3)).requires_grad_(False)
    x = 0.4 + 0.2 * torch.rand(3, 2, side, side)
    spec = make_spec("square", {"norm": norm, "eps": 0.1, "queries": 20})
    found = build("square", 0).run(net, x, net(x).argmax(1), ["a", "b", "c"], [spec])[0].x
    delta = (found - x).flatten(1)
    size = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    assert found.isfinite().all()
    assert (size <= 0.1 + 1e-6).all()
    assert (size > 0.05).all()
