"""Adversarial images for training: in evaluation mode, at the time steps that are trained."""

from __future__ import annotations

import torch
from torch import Tensor

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.training.adversarial import Adversarial
from robustbench_snn.training.losses import cross_entropy, divergence


def craft(
    model: ModelAdapter,
    x: Tensor,
    target: Tensor,
    attack: Adversarial,
    steps: int,
    scale: Tensor | float,
    start: Tensor,
) -> Tensor:
    """The final iterate of the training attack on ``x`` [B, C, H, W], in [0, 1].

    Batch norm is in evaluation mode meanwhile, so that its statistics neither follow nor serve the
    attack; the model is left as it was.

    Args:
        target: labels [B] or probabilities [B, K].
        steps: how many are taken.
        scale: share of the attack's eps and step size that this epoch uses.
        start: uniform noise in [-1, 1] of the shape of ``x``.
    """
    training = model.training
    model.eval()
    eps, size = attack.eps * scale, attack.size_of(steps) * scale
    low, high = (x - eps).clamp(min=0), (x + eps).clamp(max=1)
    with torch.no_grad():
        clean = model(x) if attack.loss == "trades" else None
        moved = torch.clamp(x + eps * attack.start * start, min=low, max=high)
    for _ in range(steps):
        moved = moved.detach().requires_grad_()
        logits = model(moved)
        if clean is None:
            loss = cross_entropy(logits, target)
        else:
            loss = divergence(clean, logits, attack.temperature)
        # In this thread: the compile limit of others is the default one, and too low.
        with torch.autograd.set_multithreading_enabled(False):
            (slope,) = torch.autograd.grad(loss, moved)
        moved = torch.clamp(moved.detach() + size * slope.sign(), min=low, max=high)
    model.train(training)
    return moved.detach()
