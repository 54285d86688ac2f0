"""SA-PGD (arXiv 2512.22522, section on the attack): PGD with scaled momentum, halving on schedule.

``m <- 0.5 m + g / mean|g|``, ``v <- 0.8 v + g^2 / mean(g^2)``, then a step
``clip(eta m / sqrt(v), -eta, eta)``, projected. eta begins at eps and halves at APGD's checkpoints
without any test. Means run over all axes but the batch; a gradient of zeros is left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.attacks.apgd import PROBE, checkpoints
from robustbench_snn.attacks.ball import Ball
from robustbench_snn.attacks.base import Attack, Perturbed
from robustbench_snn.attacks.health import AttackHealth
from robustbench_snn.attacks.losses import check_classes
from robustbench_snn.attacks.pursuit import Gradients, Pursuit, Track
from robustbench_snn.estimators.install import installed

FIRST_DECAY, SECOND_DECAY, TINY = 0.5, 0.8, 1e-12


class SAPGD(Attack):
    """L-infinity; keeps each sample's worst iterate."""

    def _run(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        ids: Sequence[str],
        specs: Sequence[AttackSpec],
    ) -> list[Perturbed]:
        return [self._one(model, x, y, ids, spec) for spec in specs]

    def _one(
        self, model: nn.Module, x: Tensor, y: Tensor, ids: Sequence[str], spec: AttackSpec
    ) -> Perturbed:
        params, ball = spec.params, Ball.of(model, spec.params)
        pursuit = Pursuit(model, x, y, ids)
        check_classes(str(params["loss"]), pursuit.logits.shape[1])
        with installed(model, str(params["estimator"]), x[:PROBE]) as active:
            gradients = Gradients(model, active, str(params["loss"]), int(params["eot"]))
            for restart in range(int(params["restarts"])):
                rows = pursuit.standing
                if not len(rows):
                    break
                start = ball.surface_start(x[rows], self.seed, pursuit.ids_of(rows), restart)
                active.restart()
                track = descend(gradients, ball, x[rows], y[rows], start, int(params["steps"]))
                pursuit.take(rows, track.best, track.margin)
        return Perturbed(pursuit.found, gradients.health + AttackHealth(forward_calls=1))


def descend(
    gradients: Gradients, ball: Ball, x: Tensor, y: Tensor, start: Tensor, steps: int
) -> Track:
    """One run from ``start`` [B, *] around ``x``; samples leave once fooled."""
    track, point, eta = Track(x), start, ball.eps
    first, second = torch.zeros_like(x), torch.zeros_like(x)
    gaps = checkpoints(steps)
    halving = next(gaps)
    for i in range(steps):
        seen = gradients.at(point, y)
        track.see(point, seen.margin)
        first = FIRST_DECAY * first + _scaled(seen.gradient, seen.gradient.abs())
        second = SECOND_DECAY * second + _scaled(seen.gradient.square(), seen.gradient.square())
        move = (eta * first / (second.sqrt() + TINY)).clamp(-eta, eta)
        point = ball.project(x, point + move)
        if i + 1 == halving:
            eta, halving = eta / 2, halving + next(gaps)
        if gradients.separable and (keep := track.shrink()) is not None:
            x, y, point, first, second = (v[keep] for v in (x, y, point, first, second))
            gradients.active.select(keep)
            if not len(keep):
                return track
    track.see(point, gradients.margin(point, y))
    return track


def _scaled(value: Tensor, size: Tensor) -> Tensor:
    mean = size.flatten(1).mean(1).view(-1, *[1] * (value.dim() - 1))
    return torch.where(mean > 0, value / mean.clamp_min(torch.finfo(mean.dtype).tiny), 0.0)
