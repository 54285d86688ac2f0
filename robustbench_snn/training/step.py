"""One optimiser step: craft, forward, loss, update."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.errors import UsageError
from robustbench_snn.training.crafting import craft
from robustbench_snn.training.losses import cross_entropy, divergence, gradient_ratio, tet
from robustbench_snn.training.recipe import Recipe

MOMENTUM = 0.9


def make_optimizer(
    network: nn.Module, recipe: Recipe, device: torch.device
) -> torch.optim.Optimizer:
    """The recipe's optimiser; biases and norms do not decay."""
    groups = [
        {
            "params": [p for p in network.parameters() if p.dim() > 1],
            "weight_decay": recipe.weight_decay,
        },
        {"params": [p for p in network.parameters() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    on_gpu = device.type == "cuda"
    # Graphs keep the address of the rate, so that it has to be a tensor there.
    lr = torch.tensor(recipe.lr, device=device) if on_gpu else recipe.lr
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=MOMENTUM, fused=on_gpu)
    return torch.optim.AdamW(groups, lr=lr, fused=on_gpu, capturable=on_gpu)


class TrainingStep:
    """``step(x, target, start, scale)`` -> (loss, logits of the last term), both detached.

    Args:
        model: in training mode.
        recipe: losses, precision, adversary.
        optimizer: updates the model.
    """

    def __init__(
        self, model: ModelAdapter, recipe: Recipe, optimizer: torch.optim.Optimizer
    ) -> None:
        self.model, self.recipe, self.optimizer = model, recipe, optimizer
        self.device = next(model.parameters()).device
        self.attack_steps = recipe.adversarial.steps if recipe.adversarial else 0

    def __call__(
        self, x: Tensor, target: Tensor, start: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One update.

        Args:
            x: images [B, C, H, W] in [0, 1].
            target: labels [B] or probabilities [B, K].
            start: noise in [-1, 1] of the shape of ``x``; empty without an adversary.
            scale: share of the adversary's eps, a scalar tensor.
        """
        autocast = torch.autocast(
            self.device.type,
            torch.bfloat16,
            enabled=self.recipe.precision == "bfloat16",
            cache_enabled=self.device.type != "cuda",
        )
        with autocast:
            loss, logits = self.loss(x, target, start, scale)
        self.optimizer.zero_grad(set_to_none=True)
        # In this thread: the compile limit of others is the default one, and too low.
        with torch.autograd.set_multithreading_enabled(False):
            loss.backward()
        self.optimizer.step()
        return loss.detach(), logits.detach()

    def loss(
        self, x: Tensor, target: Tensor, start: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(loss, logits of its last term)."""
        attack, seen = self.recipe.adversarial, x
        if attack is not None:
            left = int(attack.clean_share * len(x))
            moved = craft(
                self.model, x[left:], target[left:], attack, self.attack_steps, scale, start[left:]
            )
            seen = torch.cat([x[:left], moved]) if left else moved
        if attack is not None and attack.loss == "trades":
            return self.trades(x, seen, target)
        loss, logits = self.plain(seen, target)
        if self.recipe.gradient_ratio:
            if target.dim() > 1:
                raise UsageError("gradient_ratio compares labels, and mixup gives none: drop one.")
            slope = gradient_ratio(lambda z: self.model.training_logits(z)[-1][1], x, target)
            loss = loss + self.recipe.gradient_ratio * slope
        return loss, logits

    def plain(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of every term, or TET over the time steps."""
        if self.recipe.loss == "tet":
            logits = self.model.net(self.model.prepare(x))
            if logits.dim() != 3:
                raise UsageError(
                    f"loss 'tet' needs logits of every time step, and '{self.model.card.name}' "
                    "returns their mean: use loss = 'ce'."
                )
            return tet(logits, target), logits.mean(0)
        terms = self.model.training_logits(x)
        smoothing = self.recipe.label_smoothing
        parts = [weight * cross_entropy(z, target, smoothing) for weight, z in terms]
        return torch.stack(parts).sum(), terms[-1][1]

    def trades(self, x: Tensor, moved: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of clean images and divergence of perturbed ones; no side is detached."""
        attack, smoothing = self.recipe.adversarial, self.recipe.label_smoothing
        assert attack is not None
        other = self.model.training_logits(moved)
        clean = self.model.training_logits(x)
        parts = [
            weight
            * (
                cross_entropy(z, target, smoothing)
                + attack.trades_beta * divergence(z, z_moved, attack.temperature)
            )
            for (weight, z), (_, z_moved) in zip(clean, other, strict=True)
        ]
        return torch.stack(parts).sum(), clean[-1][1]
