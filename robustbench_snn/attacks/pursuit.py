"""What the iterative attacks share: gradients with their health, and who is still standing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustbench_snn.attacks.base import gradient_health, mixes_images
from robustbench_snn.attacks.health import AttackHealth
from robustbench_snn.attacks.losses import LOSSES, margin, wrong
from robustbench_snn.estimators.install import Active


@dataclass(frozen=True)
class Seen:
    """Loss [B], margin [B] and gradient [B, *] at a point."""

    loss: Tensor
    margin: Tensor
    gradient: Tensor


class Gradients:
    """Evaluates a loss and its gradient, averaged over ``eot`` draws of a random encoder.

    Adaptive estimators learn from the first of the draws only (arXiv 2512.22522).

    Attributes:
        health: counts over all gradients so far.
        separable: whether a batch may shrink without changing the samples left.
    """

    def __init__(self, model: nn.Module, active: Active, loss: str, eot: int = 1) -> None:
        self.model, self.active, self.eot = model, active, eot
        self.name = loss
        self.health = AttackHealth()
        self.separable = active.separable and not mixes_images(model)

    def at(self, point: Tensor, y: Tensor, target: Tensor | None = None) -> Seen:
        """What the model answers at ``point`` [B, *]."""
        total, losses = torch.zeros_like(point), torch.zeros(len(point), device=point.device)
        logits = losses
        for draw in range(self.eot):
            self.active.updating(draw == 0)
            asked = point.detach().requires_grad_(True)
            with torch.enable_grad():
                logits = self.model(asked)
                loss = LOSSES[self.name](logits, y, target)
            total += torch.autograd.grad(loss.sum(), asked)[0]
            losses = losses + loss.detach()
        self.active.updating(True)
        gradient = total / self.eot
        self.health += gradient_health(gradient) + AttackHealth(
            forward_calls=self.eot - 1, backward_calls=self.eot - 1
        )
        return Seen(losses / self.eot, margin(logits.detach(), y), gradient.nan_to_num(0, 0, 0))

    def margin(self, point: Tensor, y: Tensor) -> Tensor:
        """The margin [B] at ``point`` without a gradient."""
        self.health += AttackHealth(forward_calls=1)
        with torch.no_grad():
            return margin(self.model(point), y)


class Track:
    """The worst iterate of each sample in one run, and which samples are still attacked.

    Attributes:
        best: [B, *], the point with the lowest margin so far.
        margin: [B], that margin; negative where the model was fooled.
        live: int64, rows of the batch that the run still works on.
    """

    def __init__(self, x: Tensor) -> None:
        self.best = x.clone()
        self.margin = torch.full((len(x),), torch.inf, device=x.device)
        self.live = torch.arange(len(x), device=x.device)

    def see(self, point: Tensor, margin: Tensor) -> None:
        """Take in the live samples at ``point``, where their margin is ``margin``."""
        better = margin < self.margin[self.live]
        rows = self.live[better]
        self.best[rows], self.margin[rows] = point[better], margin[better]

    def shrink(self) -> Tensor | None:
        """Drop fooled samples if any: positions among the live ones to keep, else None."""
        standing = self.margin[self.live] >= 0
        if bool(standing.all()):
            return None
        keep = standing.nonzero()[:, 0]
        self.live = self.live[keep]
        return keep


class Pursuit:
    """The samples of a batch that no run has fooled yet, and the worst image found of each.

    Samples that are wrong to begin with are returned unchanged.

    Attributes:
        found: [B, *], worst images so far.
        logits: [B, K], answers to the clean images.
    """

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor, ids: Sequence[str]) -> None:
        self.x, self.y, self.ids = x, y, list(ids)
        with torch.no_grad():
            self.logits = model(x)
        self.found = x.clone()
        self.margin = margin(self.logits, y)
        self.wrong = wrong(self.logits, y)

    @property
    def standing(self) -> Tensor:
        """Rows not fooled yet, int64."""
        return ((self.margin >= 0) & ~self.wrong).nonzero()[:, 0]

    def ids_of(self, rows: Tensor) -> list[str]:
        """Sample ids at ``rows``."""
        return [self.ids[row] for row in rows.tolist()]

    def take(self, rows: Tensor, found: Tensor, margin: Tensor) -> None:
        """Keep ``found`` [r, *] with ``margin`` [r] at ``rows`` where it is worse than before."""
        better = margin < self.margin[rows]
        self.found[rows[better]] = found[better]
        self.margin[rows[better]] = margin[better]
