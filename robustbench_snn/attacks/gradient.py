"""FGSM and PGD in the L-infinity norm, bit for bit those of torchattacks from the same start.

Sources: Goodfellow et al. 2015 (arXiv 1412.6572, section 4) and Madry et al. 2018
(arXiv 1706.06083, section 2.1). Distances are in pixel units of images in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.attacks.base import (
    Attack,
    Perturbed,
    answer_and_gradient,
    cross_entropy_gradient,
    gradient_health,
    input_range,
    mixes_images,
    uniform_noise,
)
from robustbench_snn.attacks.health import AttackHealth
from robustbench_snn.attacks.losses import wrong

Range = tuple[float, float | None]


class FGSM(Attack):
    """x + eps · sign(gradient), clamped; one gradient serves every eps of a group."""

    def _run(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        ids: Sequence[str],
        specs: Sequence[AttackSpec],
    ) -> list[Perturbed]:
        gradient = cross_entropy_gradient(model, x, y)
        health = gradient_health(gradient)
        low, high = input_range(model)
        direction = gradient.sign()
        return [
            Perturbed((x + float(spec.params["eps"]) * direction).clamp(low, high), health)
            for spec in specs
        ]


class PGD(Attack):
    """Sign steps projected onto the eps-ball and the input range; the last iterate.

    The step size does not depend on the number of steps, so one trajectory read at several step
    counts gives exactly what separate runs would.

    With ``early_stop`` a sample stays at its first iterate that is answered wrongly; not where
    images of a batch depend on each other, or answers on chance.
    """

    def _run(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        ids: Sequence[str],
        specs: Sequence[AttackSpec],
    ) -> list[Perturbed]:
        params = specs[0].params
        wanted = {int(spec.params["steps"]) for spec in specs}
        start = self.start(x, ids, float(params["eps"]), input_range(model), params["random_start"])
        path = trajectory(
            model,
            x,
            y,
            start,
            float(params["eps"]),
            float(params["step_size"]),
            max(wanted),
            self.early_stop and not mixes_images(model) and not getattr(model, "stochastic", False),
        )
        reached = {step: found for step, found in enumerate(path, start=1) if step in wanted}
        return [reached[int(spec.params["steps"])] for spec in specs]

    def start(
        self, x: Tensor, ids: Sequence[str], eps: float, bounds: Range, random: object = True
    ) -> Tensor:
        """First point [B, *]: ``x`` itself, or ``x`` plus each sample's own noise, clamped."""
        if not random:
            return x
        noise = uniform_noise(self.seed, ids, x.shape[1:]).to(x)
        return (x + eps * noise).clamp(*bounds)


def trajectory(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    start: Tensor,
    eps: float,
    step_size: float,
    steps: int,
    early_stop: bool = False,
) -> Iterator[Perturbed]:
    """The iterates of PGD around ``x`` [B, *] from ``start``, one after each of ``steps`` steps.

    Each comes with the health of all gradients used up to it. With ``early_stop`` a sample whose
    iterate, or start, is answered wrongly stays there.
    """
    low, high = input_range(model)
    point, health = start, AttackHealth()
    live = torch.arange(len(x), device=x.device)
    for _ in range(steps):
        if len(live):
            clean, here, labels = x[live], point[live], y[live]
            logits, gradient = answer_and_gradient(model, here, labels)
            health = health + gradient_health(gradient)
            # Same order of operations as torchattacks: regrouping changes the last bit.
            delta = (here + step_size * gradient.sign() - clean).clamp(-eps, eps)
            ahead = (clean + delta).clamp(low, high)
            if early_stop:
                right = ~wrong(logits, labels)
                live, ahead = live[right], ahead[right]
            point = point.index_copy(0, live, ahead)
        yield Perturbed(point, health)
