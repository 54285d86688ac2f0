"""Windows of the Square attack: where they lie, what they hold, drawn for each image by itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from robustbench_snn.attacks.ball import Ball

_TINY = 1e-12
_CHUNK = 256


class Draws:
    """Random numbers of B images, each from its own generator.

    A query takes a fixed number of uniform numbers, so that an image's stream does not depend on
    the others.

    Args:
        generators: one for each image.
        channels: C.
        device: where tensors go.
    """

    def __init__(
        self, generators: Sequence[np.random.Generator], channels: int, device: torch.device
    ) -> None:
        self._generators = list(generators)
        self.channels, self.device = channels, device
        self._stock = np.empty((len(self._generators), 0))
        self._at = 0

    def take(self, count: int) -> np.ndarray:
        """``count`` uniform numbers in [0, 1) for each image: float64 [B, count]."""
        if self._at + count > self._stock.shape[1]:
            size = max(count, _CHUNK)
            fresh = np.stack([generator.random(size) for generator in self._generators])
            self._stock = np.concatenate([self._stock[:, self._at :], fresh], axis=1)
            self._at = 0
        found = self._stock[:, self._at : self._at + count]
        self._at += count
        return found

    def select(self, keep: Tensor) -> None:
        """Keep the images at positions ``keep``."""
        rows = keep.tolist()
        self._generators = [self._generators[row] for row in rows]
        self._stock = self._stock[rows]

    def signs(self, *shape: int) -> Tensor:
        """-1 or 1, float32 [B, *shape]."""
        drawn = self.take(int(np.prod(shape)))
        signs = np.where(drawn < 0.5, -1.0, 1.0).astype(np.float32)
        return torch.from_numpy(signs.reshape(-1, *shape)).to(self.device)

    def corners(self, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """Top-left corners, int64 [B] each, in 0..rows-1 and 0..columns-1 (0 when there are none).

        The last position is left out, as in the published code.
        """
        drawn = self.take(2)
        top = (drawn[:, 0] * max(rows, 1)).astype(np.int64)
        left = (drawn[:, 1] * max(columns, 1)).astype(np.int64)
        return torch.from_numpy(top).to(self.device), torch.from_numpy(left).to(self.device)

    def coins(self) -> Tensor:
        """True or False, bool [B]."""
        return torch.from_numpy(self.take(1)[:, 0] > 0.5).to(self.device)


def _window(top: Tensor, left: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of batch, rows and columns that pick [B, size, size] windows."""
    span = torch.arange(size, device=top.device)
    rows, columns = top[:, None, None] + span[:, None], left[:, None, None] + span
    return torch.arange(len(top), device=top.device)[:, None, None], rows, columns


def linf_start(draws: Draws, ball: Ball, x: Tensor) -> Tensor:
    """``x`` [B, C, H, W] plus vertical stripes of ±eps, one pixel wide."""
    stripes = draws.signs(x.shape[1], 1, x.shape[3])
    return (x + ball.eps * stripes).clamp(ball.low, ball.high)


def linf_proposal(draws: Draws, ball: Ball, x: Tensor, best: Tensor, size: int) -> Tensor:
    """``best`` moved by ±2 eps (one sign for each channel) in a square, back into the ball."""
    b, row, column = _window(*draws.corners(x.shape[2] - size, x.shape[3] - size), size)
    colour = 2 * ball.eps * draws.signs(x.shape[1])
    new = best.clone()
    # Advanced indices around the channel axis put it last: [B, size, size, C].
    new[b, :, row, column] += colour[:, None, None, :]
    return ball.project(x, new)


@lru_cache(maxsize=64)
def _pyramid(rows: int, columns: int) -> Tensor:
    """Nested rectangles of falling weight 1 / k^2, unit L2 norm, [rows, columns]."""
    delta = torch.zeros(rows, columns)
    top, left = rows // 2, columns // 2
    for k in range(max(rows // 2 + 1, columns // 2 + 1)):
        delta[
            max(top, 0) : min(top + 2 * k + 1, rows), max(left, 0) : min(left + 2 * k + 1, columns)
        ] += 1 / (k + 1) ** 2
        top, left = top - 1, left - 1
    return delta / delta.square().sum().sqrt()


def eta(draws: Draws, size: int) -> Tensor:
    """Half positive, half negative pyramid of unit norm, upright or turned: [B, 1, s, s]."""
    half = size // 2
    upper, lower = _pyramid(half, size), _pyramid(size - half, size)
    both = torch.cat([upper, -lower])
    both = (both / both.square().sum().sqrt()).to(draws.device)
    turned = draws.coins()[:, None, None]
    return torch.where(turned, both.T, both)[:, None]


def l2_start(draws: Draws, ball: Ball, x: Tensor) -> Tensor:
    """``x`` [B, C, H, W] plus a grid of pyramids of total norm eps, 5 on a side."""
    # An image of less than 5 pixels a side has room for pyramids of one pixel.
    delta, size = torch.zeros_like(x), max(x.shape[2] // 5, 1)
    margin = max(x.shape[2] - 5 * size, 0) // 2
    for i in range(x.shape[2] // size):
        for j in range(x.shape[3] // size):
            top, left = margin + i * size, margin + j * size
            patch = delta[:, :, top : top + size, left : left + size]
            filled = eta(draws, size) * draws.signs(x.shape[1], 1, 1)
            patch += filled[:, :, : patch.shape[2], : patch.shape[3]]
    return (x + ball.unit(delta) * ball.eps).clamp(ball.low, ball.high)


def l2_proposal(draws: Draws, ball: Ball, x: Tensor, best: Tensor, size: int) -> Tensor:
    """Move the mass of one window of ``best`` into another, together with unused budget."""
    delta, channels = best - x, x.shape[1]
    b, row, column = _window(*draws.corners(x.shape[2] - size, x.shape[3] - size), size)
    b2, row2, column2 = _window(*draws.corners(x.shape[2] - size, x.shape[3] - size), size)
    old = delta[b, :, row, column].permute(0, 3, 1, 2)
    mask = torch.zeros_like(x[:, :1])
    mask[b, :, row, column] = 1
    mask[b2, :, row2, column2] = 1
    used, windows = ball.size(delta), _length(delta * mask)
    new = eta(draws, size) * draws.signs(channels, 1, 1) + old / (_TINY + _length(old))
    free = (ball.eps**2 - used.square()).clamp_min(0) / channels
    new = new / (_TINY + _length(new)) * (free + windows.square()).sqrt()
    delta[b2, :, row2, column2] = 0
    delta[b, :, row, column] = new.permute(0, 2, 3, 1)
    return (x + ball.unit(delta) * ball.eps).clamp(ball.low, ball.high)


def _length(patch: Tensor) -> Tensor:
    """L2 norm over positions for each channel, [B, C, 1, 1]."""
    return patch.square().sum((2, 3), keepdim=True).sqrt()
