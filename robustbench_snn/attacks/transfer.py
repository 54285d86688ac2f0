"""Transfer: PGD made on one model, tried on another (Papernot et al. 2016, arXiv 1605.07277)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.attacks.apgd import PROBE
from robustbench_snn.attacks.ball import Ball
from robustbench_snn.attacks.base import Attack, Perturbed, cross_entropy_gradient, gradient_health
from robustbench_snn.attacks.health import AttackHealth
from robustbench_snn.attacks.losses import margin
from robustbench_snn.attacks.pursuit import Gradients, Pursuit
from robustbench_snn.attacks.transfer_source import check_source, load_source
from robustbench_snn.estimators.install import installed

LOOK_EVERY = 5


class Transfer(Attack):
    """Climbs the source's loss to the end and tries every fifth iterate on the target."""

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
        source = load_source(str(params["source"]), str(x.device))
        check_source(source, model)
        pursuit, health = Pursuit(model, x, y, ids), AttackHealth(forward_calls=1)
        rows = pursuit.standing
        point = ball.inner_start(x[rows], self.seed, pursuit.ids_of(rows), 0)
        with installed(source, str(params["estimator"]), x[:PROBE]) as active:
            active.restart()
            separable = Gradients(source, active, "ce").separable
            for step in range(1, int(params["steps"]) + 1):
                if not len(rows):
                    break
                gradient = cross_entropy_gradient(source, point, y[rows])
                health = health + gradient_health(gradient)
                ahead = point + float(params["step_size"]) * gradient.sign()
                point = ball.project(x[rows], ahead)
                if step % LOOK_EVERY and step != params["steps"]:
                    continue
                with torch.no_grad():
                    pursuit.take(rows, point, margin(model(point), y[rows]))
                left = (pursuit.margin[rows] >= 0).nonzero()[:, 0]
                if separable and len(left) < len(rows):
                    rows, point = rows[left], point[left]
                    active.select(left)
        return Perturbed(pursuit.found, health)
