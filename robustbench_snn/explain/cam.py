"""Grad-CAM for spiking layers: the time axis is kept apart from the batch.

Selvaraju et al. 2017 (arXiv 1610.02391), with one weight per channel and time step. captum's
LayerGradCam would take the first axis of a time-first layer for the batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.errors import UsageError
from robustbench_snn.explain.units import choose_block, choose_pass, token_grid
from robustbench_snn.registry import did_you_mean

_SPATIAL = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.MaxPool2d, nn.AvgPool2d, nn.BatchNorm2d)


def layers(model: ModelAdapter) -> list[str]:
    """Names of the modules whose output can have positions: what ``layer`` may name.

    Convolutions and spiking units come to mind first, so the last of them stands last.
    """
    likely = {name for name, m in model.net.named_modules() if isinstance(m, _SPATIAL)}
    names = [name for name, _ in model.net.named_modules() if name]
    return sorted(names, key=lambda name: name in likely) or ["net"]


def grad_cam(
    model: ModelAdapter,
    x: Tensor,
    target: Tensor,
    block: str = "last",
    number: int | None = None,
    layer: str = "",
) -> Tensor:
    """``ReLU(sum_{t,c} w[t,c] A[t,c])`` with ``w = mean_{h,w} dS/dA``, S the target logit.

    Args:
        model: an adapter.
        x: images [B, C, H, W] in [0, 1].
        target: classes, int64 [B].
        block, number: the attention module whose output is A, and its pass (``choose_block``).
        layer: name of the module whose output is A instead, of any network.

    Returns:
        float32 [B, rows, columns] on the module's grid.

    Raises:
        UsageError: no such block, pass or layer, or an output without positions.
    """
    name = layer or choose_block(model, block)
    outputs: list[Tensor] = []

    def hook(_: nn.Module, __: object, output: Any) -> Any:
        # Some libraries return the spikes together with the state.
        value = output[0] if isinstance(output, tuple) else output
        value = value if value.requires_grad else value.requires_grad_()
        outputs.append(value)
        return (value, *output[1:]) if isinstance(output, tuple) else value

    handle = _module(model, name).register_forward_hook(hook)
    # Callers such as captum's sensitivity switch gradients off.
    with torch.enable_grad():
        try:
            logits = model(x.detach().requires_grad_())
        finally:
            handle.remove()
        if not outputs:
            raise UsageError(f"layer '{name}' of model '{model.card.name}' is never called.")
        score = logits.gather(1, target[:, None]).sum()
        gradients = torch.autograd.grad(score, outputs, allow_unused=True, materialize_grads=True)
    passes = [
        _passes(name, list(values), model.time_steps, len(x)) for values in (outputs, gradients)
    ]
    chosen = choose_pass(model, name, len(passes[0]), number) - 1
    rows, columns = token_grid(passes[0][chosen], (x.shape[-2], x.shape[-1]))
    a, g = (found[chosen].detach().flatten(3) for found in passes)
    cam = (g.mean(3, keepdim=True) * a).sum((0, 2)).clamp_min(0)
    return cam.view(-1, rows, columns).float()


def _module(model: ModelAdapter, name: str) -> nn.Module:
    found = dict(model.net.named_modules())
    if name not in found:
        hint = did_you_mean(name, layers(model))
        raise UsageError(f"model '{model.card.name}' has no layer '{name}': {hint}")
    return found[name]


def _passes(name: str, values: list[Tensor], steps: int, batch: int) -> list[Tensor]:
    """What a module gave in each pass of the network, ``[T, B, C, ...]``.

    Args:
        name: of the module.
        values: of each call: ``[T, B, C, ...]``, ``[T * B, C, H, W]``, or ``[B, C, H, W]`` once a
            step or once a pass.
        steps, batch: T and B.

    Raises:
        UsageError: an output without positions.
    """
    shape = tuple(values[0].shape)
    if shape[:2] == (steps, batch) and len(shape) in (4, 5):
        return values
    if len(shape) == 4 and shape[0] == steps * batch:
        return [value.unflatten(0, (steps, batch)) for value in values]
    if len(shape) == 4 and shape[0] == batch:
        size = steps if len(values) % steps == 0 else 1
        return [torch.stack(values[i : i + size]) for i in range(0, len(values), size)]
    raise UsageError(
        f"layer '{name}' gives {list(shape)} for {batch} images and T = {steps}, which has no "
        "positions to draw a map of: name a convolution or a spiking layer behind one."
    )
