"""Blocks shared by the spiking transformers: the neuron, convolution + batch norm over time, MLP.

Inside a network every activation is time-first: ``[T, B, C, ...]``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustbench_snn.models.neuron import LIF, active_library

DTYPES = (torch.float32, torch.bfloat16)  # of the compiled layers


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
        y = _applied(x[0], layers)
        return y.unsqueeze(0).expand(steps, *y.shape)
    y = _applied(x.flatten(0, 1), layers)
    return y.view(steps, -1, *y.shape[1:])


def _applied(y: Tensor, layers: Sequence[nn.Module]) -> Tensor:
    if active_library() is None:
        for layer in layers:
            y = layer(y)
        return y
    left = list(layers)
    while left:
        layer = left.pop(0)
        if left and (pooled := _pooled(y, left[0], layer)) is not None:
            y = pooled
            left.pop(0)
        else:
            alone = _pooled(y, layer)
            y = layer(y) if alone is None else alone
    return y


def _pooled(y: Tensor, pool: nn.Module, bn: nn.Module | None = None) -> Tensor | None:
    """``pool(bn(y))`` by the compiled layer, or None where it cannot be used."""
    settings = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    known = (3, 2, 1, 1, False, False)
    if type(pool) is not nn.MaxPool2d or tuple(getattr(pool, s) for s in settings) != known:
        return None
    even = y.dim() == 4 and y.shape[2] % 2 == 0 and y.shape[3] % 2 == 0
    plain = y.device.type == "cpu" and y.dtype in DTYPES and y.is_contiguous()
    native = active_library()
    if native is None or not (even and plain and _is_bare(pool)):
        return None
    from robustbench_snn.models.native_layers import NativePool, frozen, no_norm

    if bn is None:
        return NativePool.apply(y, native, no_norm(y.shape[1]))
    norm = frozen(bn) if _is_bare(bn) else None
    return None if norm is None else NativePool.apply(y, native, norm)


def fire(node: nn.Module, x: Tensor, conv: nn.Module, bn: nn.Module) -> Tensor:
    """``node(over_time(x, conv, bn))``: convolution, batch norm and neuron.

    Batch norm and neuron are one pass over memory where the compiled layers can do it and nobody
    listens in between.
    """
    native = active_library()
    if native is not None and type(node) is LIF and node.fused and _is_bare(node) and _is_bare(bn):
        from robustbench_snn.models.native_layers import NativeLIF, fits, frozen

        y = over_time(x, conv)
        norm = frozen(bn)
        # Steps of a static image share their norm, whose gradient then follows their sum.
        if norm and y.stride(0) != 0 and y[0].is_contiguous() and fits(y, node.tau):
            alpha = float(node.surrogate_function.alpha)
            return NativeLIF.apply(y, node.v_threshold, alpha, native, norm)
        return node(over_time(y, bn))
    return node(over_time(x, conv, bn))


def _is_bare(layer: nn.Module) -> bool:
    """Whether nothing listens to ``layer`` or replaces what it does."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks)
    return not any(hooks) and "multi_step_forward" not in vars(layer)


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
            x = fire(getattr(self, f"{name}_lif"), x, conv, bn)
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
