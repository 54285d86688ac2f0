"""The Square attack (Andriushchenko et al. 2020, arXiv 1912.00049), as AutoAttack runs it.

Random search on the margin, without gradients. The published settings: p = 0.8 at first, halved on
a fixed schedule (not rescaled to the number of queries), vertical stripes to start with in the
L-infinity norm and a grid of pyramids in L2. Beyond the published form every image draws its own
squares from a generator of its own, so that a result depends neither on the batch nor on who has
been fooled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.attacks.ball import Ball
from robustbench_snn.attacks.base import Attack, Perturbed, sample_generator
from robustbench_snn.attacks.health import AttackHealth
from robustbench_snn.attacks.losses import margin
from robustbench_snn.attacks.pursuit import Pursuit
from robustbench_snn.attacks.square_windows import (
    Draws,
    l2_proposal,
    l2_start,
    linf_proposal,
    linf_start,
)
from robustbench_snn.errors import UsageError

# After this many queries p is p_init divided by the number.
_SCHEDULE = {10: 2, 50: 4, 200: 8, 500: 16, 1000: 32, 2000: 64, 4000: 128, 6000: 256, 8000: 512}


class Square(Attack):
    """Keeps each sample's worst image."""

    def _run(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        ids: Sequence[str],
        specs: Sequence[AttackSpec],
    ) -> list[Perturbed]:
        if x.dim() != 4:
            raise UsageError(
                f"attack 'square' draws squares on images [C, H, W], and this model takes "
                f"{list(x.shape[1:])}: use gradient attacks such as apgd."
            )
        return [self._one(model, x, y, ids, spec) for spec in specs]

    def _one(
        self, model: nn.Module, x: Tensor, y: Tensor, ids: Sequence[str], spec: AttackSpec
    ) -> Perturbed:
        params, ball = spec.params, Ball.of(model, spec.params)
        pursuit, calls = Pursuit(model, x, y, ids), 1
        for restart in range(int(params["restarts"])):
            rows = pursuit.standing
            if not len(rows):
                break
            draws = Draws(
                [sample_generator(self.seed, name, restart) for name in pursuit.ids_of(rows)],
                x.shape[1],
                x.device,
            )
            search = _Search(model, ball, x[rows], y[rows], draws, float(params["p_init"]))
            best, lowest = search.run(int(params["queries"]))
            pursuit.take(rows, best, lowest)
            calls += search.calls
        return Perturbed(pursuit.found, AttackHealth(forward_calls=calls))


def share(p_init: float, query: int) -> float:
    """The share of the image that query number ``query`` changes."""
    return p_init / max((d for after, d in _SCHEDULE.items() if query > after), default=1)


class _Search:
    """One run on the samples of a batch; those fooled leave."""

    def __init__(
        self, model: nn.Module, ball: Ball, x: Tensor, y: Tensor, draws: Draws, p_init: float
    ) -> None:
        self.model, self.ball, self.x, self.y, self.draws = model, ball, x, y, draws
        self.p_init, self.calls = p_init, 0
        self.linf = ball.norm == "linf"

    def run(self, queries: int) -> tuple[Tensor, Tensor]:
        """(worst image [B, *], its margin [B]) after ``queries`` proposals at most."""
        x, y, ball = self.x, self.y, self.ball
        start = linf_start if self.linf else l2_start
        best = start(self.draws, ball, x)
        lowest = self._margin(best, y)
        found, margins = best.clone(), lowest.clone()
        live = torch.arange(len(x), device=x.device)
        for query in range(queries):
            if bool((lowest < 0).any()):
                keep = (lowest >= 0).nonzero()[:, 0]
                x, y, best, lowest, live = (v[keep] for v in (x, y, best, lowest, live))
                self.draws.select(keep)
            if not len(live):
                break
            new = self._propose(x, best, query)
            margins_new = self._margin(new, y)
            better = margins_new < lowest
            best[better], lowest[better] = new[better], margins_new[better]
            found[live], margins[live] = best, lowest
        return found, margins

    def _propose(self, x: Tensor, best: Tensor, query: int) -> Tensor:
        side = math.sqrt(share(self.p_init, query) * x.shape[2] * x.shape[3])
        most = min(x.shape[2:])
        if self.linf:
            return linf_proposal(self.draws, self.ball, x, best, min(max(round(side), 1), most))
        odd = max(round(side), 3)
        return l2_proposal(self.draws, self.ball, x, best, min(odd + 1 - odd % 2, most))

    def _margin(self, point: Tensor, y: Tensor) -> Tensor:
        self.calls += 1
        with torch.no_grad():
            return margin(self.model(point), y)
