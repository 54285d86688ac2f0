"""The leaky integrate-and-fire layer as one compiled pass over memory (needs a C++ compiler)."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor
from torch._dynamo import config
from torch._dynamo.exc import BackendCompilerFailed
from torch.autograd import Function

from robustbench_snn.models import neuron


def charge_and_fire(x: Tensor, leak: float, threshold: float) -> tuple[Tensor, Tensor]:
    """Charged membrane and spikes of all steps of ``x`` ``[T, M]``, both in its dtype."""
    membranes, spikes = [], []
    h = x[0].float() if x.dtype == torch.bfloat16 else x[0]
    h = h * leak
    for t in range(x.shape[0]):
        if t:
            v = torch.where(h >= threshold, 0.0, h)
            h = v + (x[t] - v) * leak
        membranes.append(h.to(x.dtype))
        spikes.append((h >= threshold).to(x.dtype))
    return torch.stack(membranes), torch.stack(spikes)


def surrogate_backward(
    grad: Tensor, charged: Tensor, leak: float, threshold: float, alpha: float
) -> Tensor:
    """Gradient to the input through ``alpha s (1 - s)``, none through the reset."""
    found: list[Tensor] = [grad[0]] * grad.shape[0]
    carried = None
    for t in range(grad.shape[0] - 1, -1, -1):
        h = charged[t].float() if charged.dtype == torch.bfloat16 else charged[t]
        s = torch.sigmoid((h - threshold) * alpha)
        gh = grad[t] * (s * (1 - s) * alpha)
        if carried is not None:
            gh = gh + torch.where(h >= threshold, 0.0, carried * (1 - leak))
        carried = gh
        found[t] = (gh * leak).to(grad.dtype)
    return torch.stack(found)


# One variant per layer shape, time steps and side: more than the default limit of 8 allows.
config.recompile_limit = max(config.recompile_limit, 64)
_forward = torch.compile(charge_and_fire, dynamic=True)
_backward = torch.compile(surrogate_backward, dynamic=True)


class CompiledLIF(Function):
    """Same contract as ``FusedLIF``; under bfloat16 the saved membrane is rounded to it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, tau: float, threshold: float, alpha: float) -> Tensor:
        flat = x.contiguous().view(x.shape[0], -1)
        charged, spikes = _forward(flat, 1 / tau, threshold)
        ctx.save_for_backward(charged)
        ctx.constants = 1 / tau, threshold, alpha
        return spikes.view(x.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (charged,) = ctx.saved_tensors
        flat = grads[0].contiguous().view(grads[0].shape[0], -1)
        return _backward(flat, charged, *ctx.constants).view(grads[0].shape), None, None, None


def compiled_or_eager(x: Tensor, tau: float, threshold: float, alpha: float) -> Tensor:
    """``CompiledLIF``; where it cannot be compiled, one line says so and ``FusedLIF`` goes on."""
    try:
        return CompiledLIF.apply(x, tau, threshold, alpha)
    except BackendCompilerFailed as error:
        neuron.use("eager")
        why = str(error.inner_exception).strip().partition("\n")[0]
        print(f"note: eager neuron layers are used, more slowly: {why}.", file=sys.stderr)
        return neuron.FusedLIF.apply(x, tau, threshold, alpha)
