"""Backward passes of whole neurons: BPTR, RGA and HART; the forward pass stays the unit's own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn
from torch.autograd import Function

from robustbench_snn.estimators.names import NotApplicable
from robustbench_snn.estimators.slopes import triangle

# x [T, B, ...] to (spikes, local gradient [T or 1, B, ...], whether to average it over time).
Rule = Callable[[Tensor], tuple[Tensor, Tensor, bool]]


class NeuronBackward(Function):
    """Spikes of a rule; the gradient arriving at a spike times the rule's local gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rule: Rule) -> Tensor:
        spikes, local, ctx.average = rule(x.detach())
        ctx.save_for_backward(local)
        return spikes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (local,) = ctx.saved_tensors
        gradient = grads[0] * local
        if ctx.average:
            gradient = gradient.mean(0, keepdim=True).expand_as(gradient)
        return gradient, None


@dataclass(frozen=True)
class Constants:
    """A leaky neuron as ``h[t] = leak v[t-1] + gain x[t]``, reset to 0 at ``threshold``."""

    leak: float
    gain: float
    threshold: float


def constants(unit: nn.Module, estimator: str) -> Constants:
    """The constants of an integrate-and-fire or leaky unit.

    Raises:
        NotApplicable: another kind of neuron.
    """
    kind = type(unit).__name__
    if isinstance(unit, neuron.ParametricLIFNode):
        decay, scaled = float(torch.sigmoid(unit.w.detach())), unit.decay_input
    elif isinstance(unit, neuron.LIFNode):
        decay, scaled = 1 / unit.tau, unit.decay_input
    elif isinstance(unit, neuron.IFNode):
        decay, scaled = 0.0, False
    else:
        raise NotApplicable(f"{estimator} has no formula for neurons of type {kind}")
    return Constants(1 - decay, decay if scaled else 1.0, float(unit.v_threshold))


class RateThrough:
    """BPTR: straight through the rate; ``dL/dx[t] = gain dL/ds[t] * 1[mean over t of s > 0]``.

    Source: backpropagation through rates as used against spiking networks by Ding et al. 2022
    (SNN-RAT, NeurIPS) and Özdenizci and Legenstein (arXiv 2311.09266). Any kind of neuron.

    Args:
        gain: ``unit`` for the weight with which the neuron takes its input, as ``rga`` and ``hart``
            have it: 1/tau for spikingjelly's LIF with ``decay_input``, 1 without, and 1 for kinds
            of neurons it is not known of. The published neurons take their input unscaled, so that
            only this gives their gradients, through any number of layers. ``one`` for 1.
    """

    def __init__(self, gain: Literal["unit", "one"] = "unit") -> None:
        self.gain = gain

    def rule(self, unit: nn.Module, forward: Callable[[Tensor], Tensor]) -> Rule:
        """The rule of ``unit``, whose own multi-step pass is ``forward``."""

        gain = 1.0
        if self.gain == "unit":
            with suppress(NotApplicable):
                gain = constants(unit, "bptr").gain

        def apply(x: Tensor) -> tuple[Tensor, Tensor, bool]:
            spikes = forward(x)
            return spikes, gain * (spikes.mean(0, keepdim=True) > 0).to(x.dtype), False

        return apply


class RateGradient:
    """RGA: the slope of the firing rate over the mean current, ``dL/dx[t] = dL/ds[t] f'(z)``.

    Source: Bu et al., rate gradient approximation attack, CVPR 2023, for ``v <- leak v + z`` with
    threshold 1: f is piecewise linear from (0, 0) over z = 1 - leak with slope gamma to rate 1 at
    z = 1 + kappa, so its second slope is ``(1 - gamma + gamma leak) / (leak + kappa)``. Here
    ``z = gain mean(x) / threshold``, whence the factor ``gain / threshold``; spikingjelly's LIF
    has leak 1 - 1/tau and, with ``decay_input``, gain 1/tau. Reset to 0 only: the formula does not
    hold for a reset by subtraction.
    """

    def __init__(self, gamma: float, kappa: float) -> None:
        self.gamma, self.kappa = gamma, kappa

    def rule(self, unit: nn.Module, forward: Callable[[Tensor], Tensor]) -> Rule:
        """The rule of ``unit``; raises NotApplicable for neurons without a formula."""
        known = constants(unit, "rga")
        if unit.v_reset != 0.0:
            raise NotApplicable("rga has a formula for neurons that reset to 0 only")

        def apply(x: Tensor) -> tuple[Tensor, Tensor, bool]:
            scale = known.gain / known.threshold
            z = x.mean(0, keepdim=True) * scale
            return forward(x), self.slope(z, known.leak) * scale, False

        return apply

    def slope(self, z: Tensor, leak: float) -> Tensor:
        """f'(z), zero outside [0, 1 + kappa]."""
        second = (1 - self.gamma + self.gamma * leak) / (leak + self.kappa)
        slope = torch.where(z <= 1 - leak, self.gamma, second)
        # At leak 1 (no leak) the first piece is the single point 0.
        if leak == 1:
            slope = torch.full_like(z, second)
        return torch.where((z >= 0) & (z <= 1 + self.kappa), slope, 0.0).to(z.dtype)


class Hart:
    """HART: no membrane carry, a triangle of half-width gamma, gradient averaged over time.

    ``dL/dx[t] = mean over s of dL/ds[s] gain max(0, gamma - |u[s]|) / gamma^2``. Source: Hao et
    al., threaten spiking neural networks through combining rate and temporal information, ICLR
    2024, whose gamma is tuned for each model: ``[screen] search`` of a suite does that.
    """

    def __init__(self, gamma: float) -> None:
        self._slope = triangle(gamma)

    def rule(self, unit: nn.Module, forward: Callable[[Tensor], Tensor]) -> Rule:
        """The rule of ``unit``; raises NotApplicable for neurons without a formula."""
        gain = constants(unit, "hart").gain

        def apply(x: Tensor) -> tuple[Tensor, Tensor, bool]:
            spikes, u = recorded(unit, forward, x)
            return spikes, gain * self._slope(u), True

        return apply


class _Recorder(nn.Module):
    """Stands in for a surrogate: fires, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Tensor] = []

    def forward(self, u: Tensor) -> Tensor:
        self.asked.append(u)
        return (u >= 0).to(u.dtype)


def recorded(
    unit: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[Tensor, Tensor]:
    """Spikes and u = potential minus threshold, both [T, B, ...], of ``unit`` on ``x``."""
    recorder, own = _Recorder(), unit.surrogate_function
    unit.surrogate_function = recorder
    try:
        spikes = forward(x)
    finally:
        unit.surrogate_function = own
    return spikes, torch.stack([u.reshape(x.shape[1:]) for u in recorder.asked])
