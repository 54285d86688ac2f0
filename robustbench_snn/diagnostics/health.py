"""Gradient health for each spiking layer and time step: are there gradients, and do they point up?

For every call of every unit and each time step: the firing rate, the share of exact zeros in the
gradient at the unit's input current, the share of potentials far from the threshold, and a test of
the gradient against the true loss: the currents of that step alone are moved along the gradient's
signs, and the loss must rise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_snn.estimators.install import spiking_units

MOVE = 0.1


@dataclass(frozen=True)
class UnitHealth:
    """One spiking layer at one time step.

    Attributes:
        name: of the unit; ``#2`` marks its second call in a forward pass.
        step: time step, from 0.
        rate: share of neurons that fire, in [0, 1].
        zero_share: share of exact zeros in the gradient at the input current.
        moved: share of samples whose loss changes when the currents move along the gradient.
        uphill: share of those whose loss rises; NaN where none changes.
    """

    name: str
    step: int
    rate: float
    zero_share: float
    moved: float
    uphill: float

    def record(self) -> dict[str, Any]:
        """As plain values; NaN becomes None."""
        values = asdict(self)
        return {key: None if value != value else value for key, value in values.items()}


@dataclass(frozen=True)
class _Call:
    unit: nn.Module
    name: str
    number: int
    current: Tensor
    spikes: Tensor


def gradient_health(model: nn.Module, x: Tensor, y: Tensor) -> list[UnitHealth]:
    """The table for images ``x`` [B, *] with labels ``y`` [B], layers in forward order."""
    units = spiking_units(model)
    if not units:
        return []
    calls: list[_Call] = []
    point = x.detach().requires_grad_(True)
    with _watched(units, calls):
        losses = nn.functional.cross_entropy(model(point), y, reduction="none")
    calls = [call for call in calls if call.current.requires_grad]
    gradients = torch.autograd.grad(
        losses.sum(), [call.current for call in calls], allow_unused=True
    )
    before, table = losses.detach(), []
    for call, gradient in zip(calls, gradients, strict=True):
        multi = getattr(call.unit, "step_mode", "s") == "m"
        steps = call.current.shape[0] if multi else 1
        found = torch.zeros_like(call.current) if gradient is None else gradient
        for t in range(steps):
            at = (t,) if multi else ()
            uphill, moved = _probe(
                model, x, y, before, call, found[at].sign(), t if multi else None
            )
            name, step = _place(call, multi, t)
            table.append(
                UnitHealth(
                    name,
                    step,
                    float(call.spikes[at].mean()),
                    float((found[at] == 0).float().mean()),
                    moved,
                    uphill,
                )
            )
    return table


def _place(call: _Call, multi: bool, t: int) -> tuple[str, int]:
    """Single-step units are called once a time step; multi-step units once a pass."""
    if not multi:
        return call.name, call.number
    return call.name if call.number == 0 else f"{call.name}#{call.number + 1}", t


@contextmanager
def _watched(units: dict[str, nn.Module], calls: list[_Call]) -> Iterator[None]:
    counts: dict[str, int] = {}

    def hook(name: str) -> Callable[..., None]:
        def record(unit: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
            # Some libraries return the membrane beside the spikes.
            spikes = output[0] if isinstance(output, tuple) else output
            calls.append(_Call(unit, name, counts.get(name, 0), inputs[0], spikes.detach()))
            counts[name] = counts.get(name, 0) + 1

        return record

    handles = [unit.register_forward_hook(hook(name)) for name, unit in units.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _probe(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    before: Tensor,
    call: _Call,
    direction: Tensor,
    step: int | None,
) -> tuple[float, float]:
    """(share of changed losses that rise, share of losses that change) after moving one step."""
    seen = 0

    def move(unit: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        nonlocal seen
        seen += 1
        if seen - 1 != call.number:
            return None
        current = inputs[0].clone(memory_format=torch.contiguous_format)
        if step is None:
            current += MOVE * direction
        else:
            current[step] += MOVE * direction
        return (current, *inputs[1:])

    handle = call.unit.register_forward_pre_hook(move)
    try:
        with torch.no_grad():
            after = nn.functional.cross_entropy(model(x), y, reduction="none")
    finally:
        handle.remove()
    changed = after != before
    if not bool(changed.any()):
        return float("nan"), 0.0
    rises = (after > before)[changed]
    return float(rises.float().mean()), float(changed.float().mean())
