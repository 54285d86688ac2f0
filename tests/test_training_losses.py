"""Losses and regularisers against recordings of the published recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from robustbench_snn.training.losses import (
    PROBE,
    against_runner_up,
    divergence,
    gradient_ratio,
    tet,
)
from robustbench_snn.training.orthogonal import on_simplex, parseval, regularise

RECORDED = Path(__file__).parent / "golden" / "training" / "recipes.pt"


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    return torch.load(RECORDED, weights_only=True)


def test_parseval_on_convolutions_and_linear_layers(recorded: dict[str, Any]) -> None:
    for name in ("conv", "linear"):
        found = parseval(recorded[f"{name}_in"], recorded["beta"])
        torch.testing.assert_close(found, recorded[f"{name}_out"], atol=3e-7, rtol=0)


def test_projection_on_the_simplex(recorded: dict[str, Any]) -> None:
    found = torch.stack([on_simplex(row) for row in recorded["comb_in"]])
    torch.testing.assert_close(found, recorded["comb_out"], atol=3e-7, rtol=0)


def test_tet(recorded: dict[str, Any]) -> None:
    logits = recorded["logits_btk"].transpose(0, 1)
    found = tet(logits, recorded["labels"], recorded["lamb"], recorded["means"])
    assert float(found) == pytest.approx(recorded["tet_loss"], abs=3e-7)


def test_trades_divergence_at_temperature_two(recorded: dict[str, Any]) -> None:
    clean, other = (recorded[k].mean(1) for k in ("logits_btk", "logits_adv_btk"))
    assert float(divergence(clean, other, 2.0)) == pytest.approx(recorded["trades_kl"], abs=3e-7)


def test_probability_against_the_runner_up(recorded: dict[str, Any]) -> None:
    found = against_runner_up(recorded["logits_btk"].mean(1), recorded["labels"])
    torch.testing.assert_close(found, recorded["sr_f"], atol=3e-7, rtol=0)


def test_gradient_ratio_of_a_linear_network_is_the_sum_of_its_slope() -> None:
    # Along sign(g), f rises by h |g|_1 to first order; near zero weights that order is all.
    torch.manual_seed(0)
    weight = torch.randn(2, 12) * 1e-2
    x = torch.full((4, 3, 2, 2), 0.5)
    labels = torch.tensor([0, 1, 0, 1])
    found = gradient_ratio(lambda z: z.flatten(1) @ weight.T, x, labels)
    logits = x.flatten(1) @ weight.T
    f = against_runner_up(logits, labels)
    slope = f * (1 - f) * (weight[0] - weight[1]).abs().sum()
    assert found.item() == pytest.approx(slope.square().mean().item(), rel=5 * PROBE)


def test_regularisation_moves_rows_towards_orthogonality() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(10, 6), nn.Linear(6, 300))
    before = [p.clone() for p in network.parameters()]
    regularise(network, 0.01, torch.Generator().manual_seed(0))
    after = list(network.parameters())
    changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert changed == [True, False, True, False, True, False]
    rows = (before[4] != after[4]).any(1)
    assert int(rows.sum()) == 90
    own = before[4][rows]
    torch.testing.assert_close(after[4][rows], parseval(own, 0.01))
    again = [p.clone() for p in before]
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), again, strict=True):
            parameter.copy_(value)
    for _ in range(400):
        regularise(network, 0.02, torch.Generator().manual_seed(0))
    w = network[0].weight.flatten(1)
    torch.testing.assert_close(w @ w.T, torch.eye(4), atol=1e-2, rtol=0)


def test_learned_combinations_stay_on_the_simplex() -> None:
    class Convex(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.comb = nn.Parameter(torch.tensor([0.9, 0.4]))

    network = Convex()
    regularise(network, 0.01, torch.Generator())
    torch.testing.assert_close(network.comb.data, torch.tensor([0.75, 0.25]))
