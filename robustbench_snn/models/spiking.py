"""Blocks shared by the spiking transformers: the neuron, convolution + batch norm over time, MLP.

Inside a network every activation is time-first: ``[T, B, C, ...]``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustbench_snn.models.neuron import LIF


def lif(v_threshold: float = 1.0) -> LIF:
    """The neuron of all three families: see :class:`LIF`."""
    return LIF(v_threshold)


def over_time(x: Tensor, *layers: nn.Module) -> Tensor:
    """Apply time-independent ``layers`` to every step of ``x`` ``[T, B, ...]``.

    A static image repeated over time is a stride-0 view; in eval mode its steps are computed once
    and repeated as a view again.
    """
    steps = x.shape[0]
    if steps > 1 and x.stride(0) == 0 and not layers[0].training:
        y = x[0]
        for layer in layers:
            y = layer(y)
        return y.unsqueeze(0).expand(steps, *y.shape)
    y = x.flatten(0, 1)
    for layer in layers:
        y = layer(y)
    return y.view(steps, -1, *y.shape[1:])


def conv3(c_in: int, c_out: int) -> nn.Conv2d:
    """3x3 convolution, stride 1, padding 1, no bias."""
    return nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)


def pool() -> nn.MaxPool2d:
    """Max-pooling 3x3 with stride 2 and padding 1: halves an even side."""
    return nn.MaxPool2d(3, stride=2, padding=1)


class SpikingMLP(nn.Module):
    """Two 1x1 convolutions, each with batch norm and a neuron: ``[T, B, C, H, W]`` -> same.

    Args:
        dim: channels C.
        ratio: hidden width as a multiple of C.
        names: key stems of the two layers in checkpoints (they differ between layouts).
    """

    def __init__(self, dim: int, ratio: int, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        widths = (dim, dim * ratio, dim)
        for i, name in enumerate(self.names):
            self.add_module(f"{name}_conv", nn.Conv2d(widths[i], widths[i + 1], 1))
            self.add_module(f"{name}_bn", nn.BatchNorm2d(widths[i + 1]))
            self.add_module(f"{name}_lif", lif())

    def forward(self, x: Tensor) -> Tensor:
        for name in self.names:
            conv, bn = getattr(self, f"{name}_conv"), getattr(self, f"{name}_bn")
            x = getattr(self, f"{name}_lif")(over_time(x, conv, bn))
        return x


def init_weights(module: nn.Module) -> None:
    """Truncated normal (std 0.02) for linear layers; other layers keep torch's defaults."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def token_mean(x: Tensor) -> Tensor:
    """Mean over the tokens of ``[T, B, C, H, W]``: ``[T, B, C]``."""
    return torch.flatten(x, 3).mean(3)
