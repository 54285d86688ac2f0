"""Losses and regularisers of the adversarial training recipes, on logits of any network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

PROBE = 0.01  # h of the finite difference in the gradient-ratio regulariser


def cross_entropy(logits: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of logits [B, K] against labels [B] or probabilities [B, K]."""
    return functional.cross_entropy(logits.float(), target, label_smoothing=smoothing)


def tet(logits: Tensor, target: Tensor, share: float = 1e-3, mean: float = 1.0) -> Tensor:
    """Temporal efficient training (Deng et al., arXiv 2202.11946, Eq. 9-11).

    ``(1 - share) mean_t CE(z_t) + share MSE(z, mean)``.

    Args:
        logits: [T, B, K].
        target: labels [B] or probabilities [B, K].
        share: weight of the regulariser that keeps logits near ``mean``.
    """
    each = torch.stack([cross_entropy(step, target) for step in logits]).mean()
    return (1 - share) * each + share * functional.mse_loss(
        logits.float(), torch.full_like(logits, mean, dtype=torch.float32)
    )


def divergence(clean: Tensor, other: Tensor, temperature: float = 1.0) -> Tensor:
    """``temperature^2 KL(p(clean) || p(other))``, the TRADES term, mean over the batch.

    Args:
        clean, other: logits [B, K]; neither is detached here.
        temperature: divides both before the softmax.
    """
    q = functional.log_softmax(other.float() / temperature, 1)
    p = functional.log_softmax(clean.float() / temperature, 1)
    return temperature**2 * functional.kl_div(q, p, reduction="batchmean", log_target=True)


def against_runner_up(logits: Tensor, labels: Tensor, runner_up: Tensor | None = None) -> Tensor:
    """``exp(z_y) / (exp(z_y) + exp(max other))`` [B] of logits [B, K].

    Args:
        runner_up: class indices [B] to compare with; None takes the largest other logit.
    """
    if runner_up is None:
        runner_up = runners_up(logits, labels)
    pair = torch.stack([labels, runner_up], 1)
    return logits.float().gather(1, pair).softmax(1)[:, 0]


def runners_up(logits: Tensor, labels: Tensor) -> Tensor:
    """Class [B] of the largest logit other than the label's."""
    others = logits.detach().scatter(1, labels[:, None], -torch.inf)
    return others.argmax(1)


def gradient_ratio(network: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor) -> Tensor:
    """Sparsity regulariser on the input gradient by a finite difference (Liu et al., ICML 2024).

    ``mean(((f(x + h sign g) - f(x)) / h)^2)``, h = 0.01, f against the runner-up, g its gradient;
    the runner-up is that of the first pass.

    Args:
        network: images [B, C, H, W] -> logits [B, K].
        x: images in [0, 1]; labels: [B].
    """
    at = x.detach().requires_grad_()
    logits = network(at)
    rival = runners_up(logits, labels)
    before = against_runner_up(logits, labels, rival)
    (slope,) = torch.autograd.grad(before.sum(), at, retain_graph=True)
    moved = (x + PROBE * slope.sign()).clamp(0, 1)
    after = against_runner_up(network(moved), labels, rival)
    return ((after - before) / PROBE).square().mean()
