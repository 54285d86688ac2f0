"""PGD (Madry et al. 2018, arXiv 1706.06083) that keeps each sample's worst iterate."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.attacks.apgd import PROBE
from robustbench_snn.attacks.ball import Ball
from robustbench_snn.attacks.base import Attack, Perturbed
from robustbench_snn.attacks.health import AttackHealth
from robustbench_snn.attacks.losses import check_classes
from robustbench_snn.attacks.pursuit import Gradients, Pursuit, Track
from robustbench_snn.estimators.install import installed


class WorstPGD(Attack):
    """Constant steps from several random starts; one trajectory serves every number of steps."""

    def _run(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        ids: Sequence[str],
        specs: Sequence[AttackSpec],
    ) -> list[Perturbed]:
        params, ball = specs[0].params, Ball.of(model, specs[0].params)
        steps = [int(spec.params["steps"]) for spec in specs]
        pursuits = {count: Pursuit(model, x, y, ids) for count in sorted(set(steps))}
        check_classes(str(params["loss"]), pursuits[min(steps)].logits.shape[1])
        healths = dict.fromkeys(pursuits, AttackHealth(forward_calls=1))
        with installed(model, str(params["estimator"]), x[:PROBE]) as active:
            for restart in range(int(params["restarts"])):
                # Fewer steps fool fewer samples, so the first pursuit has all that any lacks.
                rows = next(iter(pursuits.values())).standing
                if not len(rows):
                    break
                gradients = Gradients(model, active, str(params["loss"]), int(params["eot"]))
                start = ball.inner_start(
                    x[rows], self.seed, next(iter(pursuits.values())).ids_of(rows), restart
                )
                active.restart()
                walk = Walk(gradients, ball, x[rows], y[rows], start, float(params["step_size"]))
                for count, pursuit in pursuits.items():
                    walk.on_to(count)
                    pursuit.take(rows, walk.track.best, walk.track.margin)
                    healths[count] += gradients.health
        return [Perturbed(pursuits[count].found, healths[count]) for count in steps]


class Walk:
    """One run of PGD that can be stopped and read after any number of steps."""

    def __init__(
        self, gradients: Gradients, ball: Ball, x: Tensor, y: Tensor, start: Tensor, step: float
    ) -> None:
        self.gradients, self.ball, self.step = gradients, ball, step
        self.x, self.y, self.point = x, y, start
        self.track, self.done = Track(x), 0

    def on_to(self, steps: int) -> None:
        """Go on until ``steps`` steps are done in all, and look at the last point."""
        while self.done < steps and len(self.track.live):
            seen = self.gradients.at(self.point, self.y)
            self.track.see(self.point, seen.margin)
            ahead = self.point + self.step * self.ball.ascent(seen.gradient)
            self.point = self.ball.project(self.x, ahead)
            self.done += 1
            if self.gradients.separable and (keep := self.track.shrink()) is not None:
                self.x, self.y, self.point = self.x[keep], self.y[keep], self.point[keep]
                self.gradients.active.select(keep)
        if len(self.track.live):
            self.track.see(self.point, self.gradients.margin(self.point, self.y))
