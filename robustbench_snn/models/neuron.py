"""The leaky integrate-and-fire layer of all three families, computed in few passes over memory."""

from __future__ import annotations

from ctypes import CDLL
from typing import Any

import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor
from torch.autograd import Function

from robustbench_snn.errors import UsageError

SURROGATE_ALPHA = 4.0
BACKENDS = ("eager", "compiled", "native")
_active: list[str] = ["eager"]


def use(backend: str) -> None:
    """How fused neurons are computed from now on: one of ``BACKENDS``."""
    if backend not in BACKENDS:
        raise UsageError(f"unknown neuron backend '{backend}': use one of {', '.join(BACKENDS)}.")
    _active[:] = [backend]


def active_library() -> CDLL | None:
    """The compiled layers while the backend is ``native`` and this machine can use them."""
    if _active[0] != "native" or torch.compiler.is_compiling():
        return None
    from robustbench_snn.models.native import library

    return library()


class LIF(neuron.LIFNode):
    """spikingjelly's LIF node, multi-step, with a fused path for its own surrogate.

    Charge ``h[t] = v[t-1] + (x[t] - v[t-1]) / tau``, spike ``h >= v_threshold`` (ties fire), hard
    reset to 0 without gradient, backward through ``alpha s (1 - s)``, ``s = sigmoid(alpha u)``.
    Input and output ``[T, B, ...]``. Source: the LIF settings of QKFormer (arXiv 2403.16552) and
    Spike-driven Transformer (arXiv 2307.01694).

    Spikes equal spikingjelly's bit for bit. Any other surrogate, a membrane left by an earlier
    call, or a compiler takes spikingjelly's own path. The membrane after the last step is kept
    only with ``keep_state``; otherwise every call starts from rest.
    """

    def __init__(self, v_threshold: float = 1.0) -> None:
        super().__init__(
            tau=2.0,
            decay_input=True,
            v_threshold=v_threshold,
            v_reset=0.0,
            surrogate_function=surrogate.Sigmoid(alpha=SURROGATE_ALPHA),
            detach_reset=True,
            step_mode="m",
        )
        self.keep_state = False

    @property
    def fused(self) -> bool:
        """Whether the fused path is taken, with its own surrogate and no state kept."""
        return (
            type(self.surrogate_function) is surrogate.Sigmoid
            and self.surrogate_function.spiking
            and not (self.keep_state or self.store_v_seq or torch.compiler.is_compiling())
        )

    def multi_step_forward(self, x_seq: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.fused:
            alpha = float(self.surrogate_function.alpha)
            if (native := active_library()) is not None:
                from robustbench_snn.models.native_layers import NativeLIF, fits

                if fits(x_seq, self.tau):
                    return NativeLIF.apply(x_seq, self.v_threshold, alpha, native, None)
            if _active[0] == "compiled":
                from robustbench_snn.models.compiled import compiled_or_eager

                return compiled_or_eager(x_seq, self.tau, self.v_threshold, alpha)
            return FusedLIF.apply(x_seq, self.tau, self.v_threshold, alpha)
        spikes = super().multi_step_forward(x_seq, *args, **kwargs)
        if not self.keep_state:
            self.reset()
        return spikes


class FusedLIF(Function):
    """All time steps of a LIF layer from rest; keeps only the charged membrane for backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, tau: float, threshold: float, alpha: float) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        # Same memory order as x: mixed orders make every pass several times slower.
        charged = torch.empty_like(x, dtype=wide)
        spikes = torch.empty_like(x)
        for t in range(x.shape[0]):
            h = charged[t]
            if t == 0:
                torch.mul(x[0], 1 / tau, out=h)
            else:
                v = torch.addcmul(charged[t - 1], charged[t - 1], spikes[t - 1], value=-1)
                torch.sub(x[t], v, out=h)
                torch.add(v, h, alpha=1 / tau, out=h)
            torch.ge(h, threshold, out=spikes[t])
        ctx.save_for_backward(charged, spikes)
        ctx.constants = tau, threshold, alpha
        return spikes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        charged, spikes = ctx.saved_tensors
        tau, threshold, alpha = ctx.constants
        s = torch.sub(charged, threshold).mul_(alpha).sigmoid_()
        gh = torch.rsub(s, 1).mul_(s).mul_(grads[0])
        for t in range(charged.shape[0] - 2, -1, -1):
            # dv[t]/dh[t] = 1 - s[t] (no gradient through the reset); dh[t+1]/dv[t] = 1 - 1/tau.
            silent = torch.rsub(spikes[t], 1)
            gh[t].addcmul_(gh[t + 1], silent, value=1 - 1 / tau)
        return gh.mul_(alpha / tau).to(grads[0].dtype), None, None, None
