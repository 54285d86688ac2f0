"""Replacing the derivative of one unit's spikes, on the fused path of our LIF or on any other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from robustbench_snn.estimators.libraries import (
    SINABS,
    SNNTORCH,
    SPIKINGJELLY,
    in_backward,
    in_fire,
    library_of,
)
from robustbench_snn.estimators.names import NotApplicable
from robustbench_snn.estimators.unit import UnitSlope
from robustbench_snn.models.neuron import LIF, FusedLIF


def override(unit: nn.Module, forward: Callable[[Tensor], Tensor], undo: ExitStack) -> None:
    """Let ``unit`` compute its time steps with ``forward`` until ``undo`` unwinds."""
    unit.__dict__["multi_step_forward"] = forward
    undo.callback(unit.__dict__.pop, "multi_step_forward")


def swap(unit: nn.Module, slope: UnitSlope, clock: Clock, undo: ExitStack) -> None:
    """Differentiate the spikes of ``unit`` with ``slope`` until ``undo`` unwinds.

    Raises:
        NotApplicable: the unit's library leaves no place for it.
    """
    library = library_of(unit)
    if library != SPIKINGJELLY:
        _swap_foreign(unit, library, slope, clock, undo)
        return
    own = unit.surrogate_function
    undo.callback(_put_back, unit, own)
    unit.surrogate_function = Swapped(slope, clock)
    if type(unit) is LIF and not (unit.keep_state or unit.store_v_seq):
        constants = unit.tau, unit.v_threshold

        def fused(x: Tensor) -> Tensor:
            wanted = torch.is_grad_enabled() and x.requires_grad
            first, _ = clock.count(slope, x.shape[0])
            return SlopedLIF.apply(x, *constants, slope, first, wanted)

        override(unit, fused, undo)


def _swap_foreign(
    unit: nn.Module, library: str, slope: UnitSlope, clock: Clock, undo: ExitStack
) -> None:
    if library == SNNTORCH:
        in_fire(unit, Swapped(slope, clock, strict=True).forward, undo)
    elif library == SINABS and type(slope) is UnitSlope:
        in_backward(unit, lambda u: slope.at(u.unsqueeze(0), 0, True)[0], undo)
    elif library == SINABS:
        raise NotApplicable("sinabs asks for slopes backwards in time, and it needs them forwards")
    else:
        kind = library or type(unit).__name__
        raise NotApplicable(f"neurons of {kind} leave no place to put another derivative")


def _put_back(unit: nn.Module, own: Any) -> None:
    # torch refuses to overwrite a sub-module with a plain function.
    del unit.surrogate_function
    unit.surrogate_function = own


class Clock:
    """Counts, for each unit, the time steps of the current forward pass."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._seen: dict[int, int] = {}

    def begin(self, *_: Any) -> None:
        """A forward pass of the model begins."""
        self._seen.clear()

    def count(self, slope: UnitSlope, steps: int) -> tuple[int, bool]:
        """(time steps the unit had seen before these, whether a new sequence begins)."""
        first = self._seen.get(id(slope), 0)
        self._seen[id(slope)] = first + steps
        return first, first == 0 or (self.steps > 0 and first % self.steps == 0)


class Swapped(nn.Module):
    """A surrogate function for single time steps: fires at u >= 0, slope from a UnitSlope.

    ``strict`` fires at u > 0 only, as snnTorch does.
    """

    spiking = True

    def __init__(self, slope: UnitSlope, clock: Clock, strict: bool = False) -> None:
        super().__init__()
        self._slope, self._clock, self._strict = slope, clock, strict

    def forward(self, u: Tensor) -> Tensor:
        first, fresh = self._clock.count(self._slope, 1)
        if not (torch.is_grad_enabled() and u.requires_grad):
            return (u > 0 if self._strict else u >= 0).to(u.dtype)
        slopes = self._slope.at(u.detach().unsqueeze(0), first, fresh)[0]
        return Step.apply(u, slopes, self._strict)


class Step(Function):
    """Heaviside of u, differentiated as the given slope."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, slope: Tensor, strict: bool) -> Tensor:
        ctx.save_for_backward(slope)
        return (u > 0 if strict else u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0] * ctx.saved_tensors[0], None, None


class SlopedLIF(FusedLIF):
    """The fused LIF layer with any slope instead of the sigmoid's."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: Tensor,
        tau: float,
        threshold: float,
        slope: UnitSlope,
        first: int,
        wanted: bool,
    ) -> Tensor:
        kept = _Kept()
        spikes = FusedLIF.forward(kept, x, tau, threshold, 1.0)
        if wanted:
            charged, _ = kept.tensors
            ctx.save_for_backward(slope.at(charged - threshold, first, True), spikes)
            ctx.tau = tau
        return spikes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        slopes, spikes = ctx.saved_tensors
        gh = slopes * grads[0]
        for t in range(gh.shape[0] - 2, -1, -1):
            # dv[t]/dh[t] = 1 - s[t] (no gradient through the reset); dh[t+1]/dv[t] = 1 - 1/tau.
            gh[t].addcmul_(gh[t + 1], 1 - spikes[t], value=1 - 1 / ctx.tau)
        return gh.div_(ctx.tau).to(grads[0].dtype), None, None, None, None, None


class _Kept:
    """Stands in for autograd's context to get at what FusedLIF keeps."""

    tensors: tuple[Tensor, ...]
    constants: tuple[float, ...]

    def save_for_backward(self, *tensors: Tensor) -> None:
        self.tensors = tensors
