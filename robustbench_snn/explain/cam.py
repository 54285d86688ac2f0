"""Grad-CAM for spiking layers: the time axis is kept apart from the batch.

Selvaraju et al. 2017 (arXiv 1610.02391), with one weight per channel and time step. captum's
LayerGradCam would take the first axis of a time-first layer for the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.explain.units import choose_block, choose_pass, token_grid


def grad_cam(
    model: ModelAdapter,
    x: Tensor,
    target: Tensor,
    block: str = "last",
    number: int | None = None,
) -> Tensor:
    """``ReLU(sum_{t,c} w[t,c] A[t,c])`` with ``w = mean_{h,w} dS/dA``, S the target logit.

    Args:
        model: an adapter.
        x: images [B, C, H, W] in [0, 1].
        target: classes, int64 [B].
        block, number: the attention module whose output is A, and its pass (``choose_block``).

    Returns:
        float32 [B, rows, columns] on the module's token grid.

    Raises:
        UsageError: no such block or pass.
    """
    name = choose_block(model, block)
    outputs: list[Tensor] = []

    def hook(_: nn.Module, __: object, output: Tensor) -> Tensor:
        outputs.append(output if output.requires_grad else output.requires_grad_())
        return output

    handle = model.attention_units()[name].register_forward_hook(hook)
    # Callers such as captum's sensitivity switch gradients off.
    with torch.enable_grad():
        try:
            logits = model(x.detach().requires_grad_())
        finally:
            handle.remove()
        chosen = outputs[choose_pass(model, name, len(outputs), number) - 1]
        score = logits.gather(1, target[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, chosen)
    rows, columns = token_grid(chosen, (x.shape[-2], x.shape[-1]))
    a, g = (value.detach().flatten(3) for value in (chosen, gradient))
    cam = (g.mean(3, keepdim=True) * a).sum((0, 2)).clamp_min(0)
    return cam.view(-1, rows, columns).float()
