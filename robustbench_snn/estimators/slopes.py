"""Fixed surrogate slopes: what the derivative of a spike is taken to be at ``u = v - v_threshold``.

The family of Özdenizci and Legenstein (TMLR 2024, arXiv 2311.09266, section 3), who attack with
each and count the worst case; ``atan`` is that of Fang et al. 2021 (arXiv 2007.05785). Every slope
takes u of any shape and gives one of the same shape; the integral over u is 1 except for
``exponential`` and ``straight_through``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Slope = Callable[[Tensor], Tensor]


def atan(alpha: float) -> Slope:
    """``(alpha / 2) / (1 + (pi alpha u / 2)^2)``."""
    return lambda u: (alpha / 2) / (1 + (math.pi * alpha / 2 * u).square())


def sigmoid(alpha: float) -> Slope:
    """``alpha s (1 - s)`` with ``s = 1 / (1 + exp(-alpha u))``."""

    def slope(u: Tensor) -> Tensor:
        s = torch.sigmoid(alpha * u)
        return alpha * s * (1 - s)

    return slope


def triangle(gamma: float) -> Slope:
    """``max(0, gamma - |u|) / gamma^2``; gamma is the half-width."""
    return lambda u: (gamma - u.abs()).clamp_min(0) / gamma**2


def rect(gamma: float) -> Slope:
    """``1 / gamma`` where ``|u| < gamma / 2``; gamma is the full width."""
    return lambda u: (u.abs() < gamma / 2).to(u.dtype) / gamma


def exponential(beta: float, scale: float) -> Slope:
    """``scale * exp(-beta |u|)``."""
    return lambda u: scale * torch.exp(-beta * u.abs())


def straight_through() -> Slope:
    """1 everywhere (Bengio et al. 2013, arXiv 1308.3432), backpropagation through time intact."""
    return torch.ones_like
