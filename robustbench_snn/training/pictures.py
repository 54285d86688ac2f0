"""Labelled images held in memory, and how they become a network's input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

EVAL_BATCH = 100
HELD_OUT = 1024  # of the training split, where a data set has no split for it


@dataclass(frozen=True)
class Pictures:
    """Images uint8 [N, C, H, W] and labels int64 [N] of one split."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __getitem__(self, part: slice) -> Pictures:
        return Pictures(self.pixels[part], self.labels[part])


def to_unit(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """uint8 [B, C, H, W] -> float32 in [0, 1] on ``device``."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(device).float().div_(255)


def resized(x: Tensor, side: int | None) -> Tensor:
    """Square images of ``side`` pixels (antialiased bilinear); ``x`` itself without a side."""
    if side is None or side == x.shape[-1]:
        return x
    size = (side, side)
    return nn.functional.interpolate(x, size, mode="bilinear", antialias=True).clamp(0, 1)


def mix(x: Tensor, target: Tensor, alpha: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mixup (Zhang et al., arXiv 1710.09412): a batch blended with itself in reverse order.

    Args:
        x: images [B, C, H, W]; target: probabilities [B, K].
        alpha: of the Beta distribution of the share, one a batch.
    """
    share = float(rng.beta(alpha, alpha))
    return torch.lerp(x.flip(0), x, share), torch.lerp(target.flip(0), target, share)
