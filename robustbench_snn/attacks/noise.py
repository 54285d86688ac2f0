"""The noise floor: how often mere uniform noise fools the model. An attack must do better."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.attacks.ball import Ball
from robustbench_snn.attacks.base import Attack, Perturbed
from robustbench_snn.attacks.health import AttackHealth
from robustbench_snn.attacks.losses import margin
from robustbench_snn.attacks.pursuit import Pursuit


class Noise(Attack):
    """The worst of ``draws`` uniform perturbations of each sample."""

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
        ball, pursuit, calls = Ball.of(model, spec.params), Pursuit(model, x, y, ids), 1
        for draw in range(int(spec.params["draws"])):
            rows = pursuit.standing
            if not len(rows):
                break
            noisy = ball.inner_start(x[rows], self.seed, pursuit.ids_of(rows), draw)
            with torch.no_grad():
                found = margin(model(noisy), y[rows])
            pursuit.take(rows, noisy, found)
            calls += 1
        return Perturbed(pursuit.found, AttackHealth(forward_calls=calls))
