"""The set of images an attack may return: a norm ball cut by the input range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_snn.attacks.base import gaussian_noise, input_range, uniform_noise

_TINY = 1e-12


@dataclass(frozen=True)
class Ball:
    """Images within ``eps`` of x in norm ``linf`` or ``l2`` and within [low, high].

    Points and gradients are [B, *]; ``high`` None means no upper end.
    """

    norm: str
    eps: float
    low: float
    high: float | None

    @classmethod
    def of(cls, model: nn.Module, params: Any) -> Ball:
        """The ball that attack parameters (``eps``, perhaps ``norm``) ask for around images."""
        return cls(str(params.get("norm", "linf")), float(params["eps"]), *input_range(model))

    def unit(self, value: Tensor) -> Tensor:
        """``value`` scaled to norm 1 for each sample."""
        return value / (self.size(value) + _TINY)

    def size(self, value: Tensor) -> Tensor:
        """Norm of each sample, [B, 1, ...]."""
        flat = value.flatten(1)
        size = flat.abs().amax(1) if self.norm == "linf" else flat.square().sum(1).sqrt()
        return size.view(-1, *[1] * (value.dim() - 1))

    def ascent(self, gradient: Tensor) -> Tensor:
        """The steepest direction of norm 1: signs for linf, the unit gradient for l2."""
        return gradient.sign() if self.norm == "linf" else self.unit(gradient)

    def project(self, x: Tensor, point: Tensor) -> Tensor:
        """The nearest allowed point (for l2: scaled back to the sphere, then clamped)."""
        if self.norm == "linf":
            point = torch.maximum(torch.minimum(point, x + self.eps), x - self.eps)
        else:
            delta = point - x
            point = x + self.unit(delta) * self.size(delta).clamp_max(self.eps)
        return point.clamp(self.low, self.high)

    def surface_start(self, x: Tensor, seed: int, ids: Sequence[str], restart: int) -> Tensor:
        """Random noise scaled to norm eps (Croce and Hein 2020), each sample's own, clamped."""
        draw = uniform_noise if self.norm == "linf" else gaussian_noise
        noise = draw(seed, ids, x.shape[1:], restart).to(x)
        return (x + self.eps * self.unit(noise)).clamp(self.low, self.high)

    def inner_start(self, x: Tensor, seed: int, ids: Sequence[str], restart: int) -> Tensor:
        """Uniform noise within the ball (linf), or on its sphere (l2)."""
        if self.norm == "l2":
            return self.surface_start(x, seed, ids, restart)
        noise = uniform_noise(seed, ids, x.shape[1:], restart).to(x)
        return (x + self.eps * noise).clamp(self.low, self.high)
