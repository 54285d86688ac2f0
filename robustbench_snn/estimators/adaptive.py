"""Surrogates that follow the membrane potential: ASSG and PDSG."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from robustbench_snn.estimators.slopes import atan
from robustbench_snn.estimators.unit import UnitSlope

_SMALL = 1e-4


class AdaptiveSharpness(UnitSlope):
    """ASSG: an arctangent whose sharpness follows each neuron's own potential.

    Source: adaptive sharpness surrogate gradient, arXiv 2512.22522. The share of an arctangent's
    slope within [-x, x] is ``G(x) = (2 / pi) atan(pi alpha x / 2)``; asking ``G = A`` at
    ``x = M + relax D`` gives ``alpha = a / (M + relax D)``, ``a = (2 / pi) tan(pi A / 2)``. M and
    D are running means over the forward passes of the attack, kept for each neuron, sample and
    time step: ``M <- beta M + (1 - beta) |u|``, then ``D <- beta D + (1 - beta) ||u| - M|``, from
    M = 1 and D = 0.

    Args:
        target: A / 2, in (0, 0.5). The published code searches 0.35 to 0.49 for the value that
            fools most of the test set; ``[screen] search`` of a suite does it on held-out samples.
        relax: weight of D.
        beta: decay of both means.
    """

    def __init__(self, target: float, relax: float, beta: float) -> None:
        super().__init__(lambda u: u)
        self.sharpness = 2 / math.pi * math.tan(math.pi * target)
        self.relax, self.beta = relax, beta
        self._seen: dict[int, tuple[Tensor, Tensor]] = {}

    def at(self, u: Tensor, first: int, fresh: bool) -> Tensor:
        size = u.abs()
        mean, spread = self._seen.get(first) or (torch.ones_like(u), torch.zeros_like(u))
        if self.updating:
            mean = self.beta * mean + (1 - self.beta) * size
            spread = self.beta * spread + (1 - self.beta) * (size - mean).abs()
            self._seen[first] = mean, spread
        alpha = self.sharpness / (mean + self.relax * spread + _SMALL)
        return (alpha / 2) / (1 + (math.pi / 2 * alpha * u).square())

    def restart(self) -> None:
        self._seen.clear()

    def select(self, keep: Tensor) -> None:
        self._seen = {t: (m[:, keep], d[:, keep]) for t, (m, d) in self._seen.items()}


class PotentialDependent(UnitSlope):
    """PDSG: a gaussian as wide as the potential's spread so far, shifted right by half of it.

    ``exp(-(u - s / 2)^2 / (2 s^2)) / (sqrt(2 pi) s)``; s is the standard deviation of the
    potential over the time steps up to now and, for maps, over positions, for each channel (for
    vectors over the features). Source: potential-dependent surrogate gradient, CVPR 2025. There
    s also runs over the batch (``over="batch"``), which makes an image's attack depend on its
    batch mates; ``over="sample"`` keeps images apart and is the default. s = 0 counts as 1.

    Units with a third axis and no positions (``[B, C, N]`` for each step, tokens) count as maps:
    s runs over N for each channel C. The published code knows maps and vectors only, and would
    spread over the batch for each (C, N); and for vectors it spreads over steps and batch for each
    feature, where ``over="sample"`` spreads over the features.
    """

    def __init__(self, over: Literal["sample", "batch"]) -> None:
        super().__init__(atan(2.0))
        self.separable = over == "sample"
        self._sums: tuple[Tensor, Tensor, int] | None = None

    def at(self, u: Tensor, first: int, fresh: bool) -> Tensor:
        if fresh:
            self._sums = None
        width = torch.stack([self._width(step) for step in u])
        return torch.exp(-(u - width / 2).square() / (2 * width.square())) / (
            math.sqrt(2 * math.pi) * width
        )

    def _width(self, u: Tensor) -> Tensor:
        """The deviation [B or 1, C or 1, 1...] after one more step ``u`` [B, ...]."""
        axes = list(range(2, u.dim())) if u.dim() > 2 else [1]
        if not self.separable:
            # Without positions the batch alone is what the published code spreads over.
            axes = [0, *(axes if u.dim() > 2 else [])]
        count = math.prod(u.shape[axis] for axis in axes)
        wide = u.double()
        total, squares = wide.sum(axes, keepdim=True), wide.square().sum(axes, keepdim=True)
        if self._sums is not None:
            total, squares = total + self._sums[0], squares + self._sums[1]
            count += self._sums[2]
        self._sums = total, squares, count
        variance = (squares - total.square() / count).clamp_min(0) / max(count - 1, 1)
        width = variance.sqrt().to(u.dtype)
        return torch.where(width > 0, width, torch.ones_like(width))

    def restart(self) -> None:
        self._sums = None
