"""SNN-RAT's regularisation of the weights after every step (Ding et al., NeurIPS 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDE, SHARE = 200, 0.3  # linear layers this wide are updated on a random share of their rows


def parseval(weight: Tensor, beta: float) -> Tensor:
    """One Parseval step ``(1 + beta) W - beta W W^T W`` on a weight viewed as [out, rest]."""
    w = weight.flatten(1)
    return ((1 + beta) * w - beta * (w @ w.T) @ w).view_as(weight)


def on_simplex(point: Tensor) -> Tensor:
    """Projection of a vector [n] on the probability simplex.

    As published: the search for the support stops at the first component that fails.
    """
    ordered, _ = torch.sort(point, descending=True)
    total = torch.cumsum(ordered, 0)
    count = torch.arange(1, len(point) + 1, device=point.device)
    holds = (1 + count * ordered > total).long().cumprod(0)
    k = int(holds.sum())
    return torch.relu(point - (total[k - 1] - 1) / k)


@torch.no_grad()
def regularise(network: nn.Module, beta: float, generator: torch.Generator) -> None:
    """Move all convolutions and linear layers towards orthogonal rows, in place.

    Linear layers with 200 and more outputs: only a fresh 30 % of the rows, against each other.
    Learned convex combinations (parameters named ``comb``) are projected on the simplex.

    Args:
        beta: size of the step.
        generator: on the CPU; draws the rows.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d)):
            module.weight.copy_(parseval(module.weight, beta))
        elif isinstance(module, nn.Linear):
            rows = torch.arange(module.out_features)
            if module.out_features >= WIDE:
                order = torch.randperm(module.out_features, generator=generator)
                rows = order[: int(SHARE * module.out_features)]
            rows = rows.to(module.weight.device)
            module.weight[rows] = parseval(module.weight[rows], beta)
    for name, value in network.named_parameters():
        if name.rpartition(".")[2] == "comb":
            value.copy_(on_simplex(value))
