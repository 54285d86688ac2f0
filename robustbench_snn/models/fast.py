"""Faster gradients at lower precision: what ``--fast`` does to the network that is attacked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robustbench_snn.adapter import ModelAdapter


def _to(dtype: torch.dtype) -> Any:
    def hook(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (given[0].to(dtype), *given[1:])

    return hook


def narrow(model: ModelAdapter) -> ModelAdapter:
    """Let the convolutions of ``model``, in place, compute in bfloat16; returns it.

    Spikes are exact in bfloat16; weights and currents keep 8 significant bits. Convolutions that
    read the image, batch-norm statistics, the membrane within a layer and linear layers stay in
    float32.
    """
    image_channels = model.card.input_shape[-3]
    for module in model.net.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            if module.in_channels != image_channels:
                module.to(torch.bfloat16)
                module.register_forward_pre_hook(_to(torch.bfloat16))
        elif isinstance(module, nn.Linear):
            module.register_forward_pre_hook(_to(torch.float32))
    return model
