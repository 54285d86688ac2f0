"""Auto-PGD (Croce and Hein 2020, arXiv 2003.01690, Algorithm 1) with CE, DLR and targeted DLR.

The published settings: 100 iterations, step 2 eps at first, momentum 0.75, halving when fewer than
75 % of the steps since the last check raised the loss or nothing was gained. Beyond the published
form: any gradient estimator, a start of each sample's own, and samples leave once fooled, which
changes nothing for the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from robustbench_snn.attack_spec import AttackSpec, Scalar
from robustbench_snn.attacks.ball import Ball
from robustbench_snn.attacks.base import Attack, Perturbed
from robustbench_snn.attacks.health import AttackHealth
from robustbench_snn.attacks.losses import check_classes
from robustbench_snn.attacks.pursuit import Gradients, Pursuit, Seen, Track
from robustbench_snn.estimators.install import installed

MOMENTUM, SUCCESS_SHARE, FIRST_STEP = 0.75, 0.75, 2.0
PROBE = 4


class APGD(Attack):
    """Runs until every sample is fooled or all restarts (and targets) are done."""

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
        # Before the estimator is there: a clean prediction must not feed its statistics.
        pursuit = Pursuit(model, x, y, ids)
        check_classes(str(params["loss"]), pursuit.logits.shape[1])
        with installed(model, str(params["estimator"]), x[:PROBE]) as active:
            gradients = Gradients(model, active, str(params["loss"]), int(params["eot"]))
            for restart, target in runs(pursuit.logits, params):
                rows = pursuit.standing
                if not len(rows):
                    break
                aimed = None if target is None else target[rows]
                start = ball.surface_start(x[rows], self.seed, pursuit.ids_of(rows), restart)
                active.restart()
                track = climb(gradients, ball, x[rows], y[rows], start, int(params["steps"]), aimed)
                pursuit.take(rows, track.best, track.margin)
        return Perturbed(pursuit.found, gradients.health + AttackHealth(forward_calls=1))


def runs(logits: Tensor, params: Mapping[str, Scalar]) -> Iterator[tuple[int, Tensor | None]]:
    """(number of the start, target class of each sample or None) of every run, in order.

    Targets are the most likely wrong classes of the clean image, most likely first; where fewer
    than asked for exist, all of them.
    """
    restarts = int(params["restarts"])
    if params["loss"] != "dlr-targeted":
        yield from ((restart, None) for restart in range(restarts))
        return
    order = logits.argsort(dim=1, descending=True)
    count = min(int(params["targets"]), logits.shape[1] - 1)
    for rank in range(1, count + 1):
        for restart in range(restarts):
            yield (rank - 1) * restarts + restart, order[:, rank]


@dataclass
class _State:
    """Everything a run carries for each live sample; [B] or [B, *]."""

    x: Tensor
    y: Tensor
    target: Tensor
    point: Tensor
    old: Tensor
    gradient: Tensor
    best_point: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    loss_at_check: Tensor
    reduced: Tensor
    step: Tensor
    losses: Tensor

    def select(self, keep: Tensor) -> None:
        """Keep the samples at positions ``keep``."""
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name)[keep])


def _begin(
    x: Tensor, y: Tensor, target: Tensor, start: Tensor, seen: Seen, ball: Ball, steps: int
) -> _State:
    step = torch.full((len(x), *[1] * (x.dim() - 1)), FIRST_STEP * ball.eps, device=x.device)
    return _State(
        x,
        y,
        target,
        start,
        start.clone(),
        seen.gradient,
        start.clone(),
        seen.gradient.clone(),
        seen.loss.clone(),
        seen.loss.clone(),
        torch.ones_like(seen.loss, dtype=torch.bool),
        step.to(x),
        torch.zeros(len(x), steps, device=x.device),
    )


def checkpoints(steps: int) -> Iterator[int]:
    """Gaps between checks of the step size: 0.22 N at first, 0.03 N less each, 0.06 N at least."""
    gap, least, less = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    while True:
        yield gap
        gap = max(gap - less, least)


def climb(
    gradients: Gradients,
    ball: Ball,
    x: Tensor,
    y: Tensor,
    start: Tensor,
    steps: int,
    target: Tensor | None = None,
) -> Track:
    """One run of APGD from ``start`` [B, *] around ``x``; samples leave once fooled."""
    aimed = target is not None
    seen = gradients.at(start, y, target)
    track = Track(x)
    track.see(start, seen.margin)
    state = _begin(x, y, y if target is None else target, start, seen, ball, steps)
    gaps = checkpoints(steps)
    gap, since = next(gaps), 0
    for i in range(steps):
        if gradients.separable and (keep := track.shrink()) is not None:
            state.select(keep)
            gradients.active.select(keep)
        if not len(track.live):
            break
        _move(state, ball, MOMENTUM if i > 0 else 1.0)
        seen = gradients.at(state.point, state.y, state.target if aimed else None)
        track.see(state.point, seen.margin)
        state.gradient = seen.gradient
        state.losses[:, i] = seen.loss
        _remember_best(state, seen)
        since += 1
        if since == gap:
            _check_step(state, i, gap)
            gap, since = next(gaps), 0
    return track


def _move(state: _State, ball: Ball, momentum: float) -> None:
    x, point = state.x, state.point
    drift = point - state.old
    state.old = point
    ahead = ball.project(x, point + state.step * ball.ascent(state.gradient))
    mixed = point + (ahead - point) * momentum + drift * (1 - momentum)
    state.point = ball.project(x, mixed)


def _remember_best(state: _State, seen: Seen) -> None:
    better = seen.loss > state.best_loss
    state.best_point = _where(better, state.point, state.best_point)
    state.best_gradient = _where(better, seen.gradient, state.best_gradient)
    state.best_loss = torch.where(better, seen.loss, state.best_loss)


def _check_step(state: _State, i: int, gap: int) -> None:
    """Halve the step and go back to the best point where the last ``gap`` steps did little."""
    # At the first check the loss before the first step is taken as 0, as published code has it.
    rises = sum((state.losses[:, i - c] > state.losses[:, i - c - 1]).int() for c in range(gap))
    stuck = rises <= SUCCESS_SHARE * gap
    stuck |= ~state.reduced & (state.loss_at_check >= state.best_loss)
    state.reduced, state.loss_at_check = stuck, state.best_loss
    state.step = _where(stuck, state.step / 2, state.step)
    state.point = _where(stuck, state.best_point, state.point)
    state.gradient = _where(stuck, state.best_gradient, state.gradient)


def _where(rows: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(rows.view(-1, *[1] * (a.dim() - 1)), a, b)
